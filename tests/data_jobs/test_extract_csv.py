"""Tables: encodings mixed in one file, headers, quotes, broken rows, formulas."""

import csv as standard
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_jobs.extract import csv
from data_jobs.extract.encoding import decode
from data_jobs.extract.lines import lines_of
from data_jobs.extract.part import NotText, Options, Unreadable


def rows(data: bytes) -> list[tuple[str, str]]:
    return [(part.name, part.problem or part.text) for part in csv.extract(data)]


def test_each_line_is_read_in_its_own_encoding() -> None:
    data = "street,town\nGrüner Weg,Köln – Süd\n".encode() + "Große Allee,Münster\n".encode("cp1252") + "Öl,Łódź\n".encode()
    assert [text for _, text in rows(data)] == [
        "street: Grüner Weg\ntown: Köln – Süd",
        "street: Große Allee\ntown: Münster",
        "street: Öl\ntown: Łódź",
    ]


def test_a_file_all_in_another_code_page_is_still_guessed() -> None:
    line = "Съешь же ещё этих мягких французских булок, да выпей чаю\n"
    assert "".join(lines_of((line * 20).encode("cp1251"))) == line * 20


def test_a_code_page_that_shows_late_is_no_ascii() -> None:
    assert decode(b"plain line\n" * 30_000 + "Grüße".encode("cp1252")).endswith("Grüße")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(encoding: str) -> None:
    assert rows("töwn,n\nKöln,1\n".encode(encoding)) == [("row 2", "töwn: Köln\nn: 1")]


def test_utf16_without_a_mark_is_refused() -> None:
    with pytest.raises(NotText, match="NUL"):
        csv.extract("a,b\n1,2\n".encode("utf-16-le"))


def test_formulas_stay_text() -> None:
    assert rows(b"cell\n=CMD(1)\n+1\n-1\n@x\n") == [
        ("row 2", "cell: =CMD(1)"), ("row 3", "cell: +1"), ("row 4", "cell: -1"), ("row 5", "cell: @x"),
    ]  # fmt: skip


def test_row_numbers_count_rows_not_lines() -> None:
    data = b'a,b\r\n"one\r\ntwo\r\nthree",1\r\n\r\nlast,2\r\n'
    assert rows(data) == [("row 2", "a: one\r\ntwo\r\nthree\nb: 1"), ("row 4", "a: last\nb: 2")]


def test_a_broken_row_does_not_cost_the_others() -> None:
    data = b'a,b\n1,2\n"open,3\n4,5\n"x"y,6\n7,8\n'
    got = rows(data)
    assert [name for name, _ in got] == ["row 2", "row 3", "row 4", "row 5", "row 6"]
    assert "cannot be read" in got[1][1]
    assert "cannot be read" in got[3][1]
    assert got[2][1] == "a: 4\nb: 5"
    assert got[4][1] == "a: 7\nb: 8"


def test_many_broken_rows_cost_no_more_than_their_number() -> None:
    data = b"a,b\n1,2\n" + b'"x"y,6\n' * 20_000
    assert sum(part.problem != "" for part in csv.extract(data)) == 20_000


def test_a_row_with_nul_bytes_is_set_aside() -> None:
    data = b"a,b\n" + b"one,two\n" * 20 + b"o\x00ne,2\nlast,3\n"
    got = rows(data)
    assert "NUL" in got[20][1]
    assert got[21] == ("row 23", "a: last\nb: 3")


def test_a_header_that_cannot_be_read_says_so() -> None:
    for data in (b'"a"b,c\n1,2\n', b"a\x00,b" + b"\n1,2" * 20):
        with pytest.raises(Unreadable, match="header"):
            csv.extract(data)


def test_a_file_without_a_good_row_says_so() -> None:
    with pytest.raises(Unreadable, match="row 2"):
        csv.extract(b'a,b\n"never closed,2\n')


def test_names_alike_are_told_apart_and_missing_ones_numbered() -> None:
    assert rows(b"a,a,,a\n1,2,3,4\n") == [("row 2", "a: 1\na (2): 2\ncolumn 3: 3\na (3): 4")]


def test_a_first_row_of_numbers_alone_is_a_row() -> None:
    assert rows(b"1,2024-05-01\n2,2024-05-02\n") == [
        ("row 1", "column 1: 1\ncolumn 2: 2024-05-01"), ("row 2", "column 1: 2\ncolumn 2: 2024-05-02"),
    ]  # fmt: skip


@pytest.mark.parametrize("header", [b"house,2023,2024", b",2023,2024"])
def test_years_among_the_names_are_still_names(header: bytes) -> None:
    assert rows(header + b"\nOak,1,2\n")[0][1].endswith("2023: 1\n2024: 2")


def test_a_line_that_says_the_separator_is_followed() -> None:
    assert rows(b"sep=^\na^b,c\n1^2,3\n") == [("row 2", "a: 1\nb,c: 2,3")]


def test_commas_in_prose_do_not_beat_the_real_separator() -> None:
    data = b"title;text\nRent;It is 900, warm, per month, due on the first.\nKeys;Two, no more.\nBins;Glass, paper.\n"
    assert [(part.title, part.text) for part in csv.extract(data)][1] == ("Keys", "Two, no more.")


def test_doubled_quotes_are_one_wherever_they_first_show() -> None:
    data = "n,text\n" + "".join(f'{n},"plain"\n' for n in range(500)) + '500,"he said ""no"""\n'
    assert csv.extract(data.encode())[-1].text == 'he said "no"'


def test_a_quote_in_text_with_tabs_is_a_quote() -> None:
    assert rows(b'a\tb\n"Oak" House\t1\n') == [("row 2", 'a: "Oak" House\nb: 1')]


def test_old_macs_lines_are_lines() -> None:
    assert rows(b"a,b\r1,2\r3,4\r") == [("row 2", "a: 1\nb: 2"), ("row 3", "a: 3\nb: 4")]


def test_the_options_name_the_columns() -> None:
    part = csv.extract(b"q,a\nHow much?,900\n", Options(text_field="a", title_field="q"))[0]
    assert (part.title, part.text) == ("How much?", "900")
    assert csv.extract(b"q,a\nHow much?,900\n", Options(text_field="b"))[0].reason == "missing_field"


CELLS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=12)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), st.sampled_from([",", ";", "\t"]))
def test_what_the_standard_library_writes_is_read_again(table: list[tuple[str, str]], mark: str) -> None:
    out = io.StringIO()
    writer = standard.writer(out, delimiter=mark, quoting=standard.QUOTE_ALL)
    writer.writerows([("text", "other"), *table])
    want = [text for text, other in table if (text + other).strip()]
    assert [part.text for part in csv.extract(out.getvalue().encode())] == want
