"""Each format's extractor on good, odd and broken bytes."""

import json
import random

import pytest

from data_jobs.extract import FORMATS, csv, html, jsonl, md, txt
from data_jobs.extract.encoding import decode
from data_jobs.extract.part import BY_REASON, NotText, Part, Unreadable


@pytest.mark.parametrize(
    "data",
    [
        "Grüße – 10 €".encode(),
        b"\xef\xbb\xbf" + "Grüße – 10 €".encode(),
        b"\xff\xfe" + "Grüße – 10 €".encode("utf-16-le"),
        b"\xfe\xff" + "Grüße – 10 €".encode("utf-16-be"),
        b"\xff\xfe\x00\x00" + "Grüße – 10 €".encode("utf-32-le"),
        "Grüße – 10 €".encode("cp1252"),
    ],
)
def test_text_is_decoded_whatever_its_encoding(data: bytes) -> None:
    assert decode(data) == "Grüße – 10 €"


def test_long_text_in_another_code_page_is_guessed() -> None:
    text = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 20
    assert decode(text.encode("cp1251")) == text


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%PDF-1.7 \x00", "PDF"),
        (b"PK\x03\x04rest", "ZIP"),
        (b"some\x00bytes", "NUL"),
        (b"\x00" * 1000, "NUL"),
        (random.Random(1).randbytes(4000).replace(b"\0", b"\xff"), "binary"),
    ],
)
def test_what_is_no_text_is_refused_by_name(data: bytes, what: str) -> None:
    with pytest.raises(NotText, match=what):
        txt.extract(data)


def test_plain_text_is_one_document() -> None:
    assert txt.extract(b"two\nlines") == [Part(text="two\nlines")]


def test_markdown_keeps_its_text_and_finds_its_title() -> None:
    assert md.extract(b"# Lifts #\n\nUse `#1`.") == [Part(text="# Lifts #\n\nUse `#1`.", title="Lifts")]
    assert md.extract(b'---\ntitle: "House rules"\ntags: [a]\n---\n# Other\n') == [Part(text="# Other\n", title="House rules")]
    assert md.extract(b"no heading")[0].title == ""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\n<!-- for\nwriters -->\nb\n", "a\nb\n"),
        ("a <!-- x --> text <!-- y -->\nc", "a  text \nc"),
        ("```html\n<!-- code -->\n```\nx <!-- gone --> y\n", "```html\n<!-- code -->\n```\nx  y\n"),
        ("`<!-- code -->` and ``a ` <!-- code -->``", "`<!-- code -->` and ``a ` <!-- code -->``"),
        ("<!-- never closed\nrest", "<!-- never closed\nrest"),
        ('[TOC]\n\n# T\n<a id="x"></a>\n## U <a name=q></a>\n', "\n# T\n## U \n"),
        ("~~~\n[TOC]\n", "~~~\n[TOC]\n"),
        ('<a href="/x">a link</a> [TOC]', '<a href="/x">a link</a> [TOC]'),
    ],
)
def test_what_no_reader_of_markdown_sees_is_left_out_and_code_is_not(text: str, left: str) -> None:
    assert md.extract(text.encode())[0].text == left


def test_front_matter_is_what_names_fields() -> None:
    assert md.extract(b"+++\ntitle = 'House'\n+++\ntext") == [Part(text="text", title="House")]
    assert md.extract(b"---\r\n# all\r\ntitle: House\r\n--- \r\ntext") == [Part(text="text", title="House")]
    for text in ("---\n\nA rule, and text.\n\n---\n\nMore.", "---\ntitle: never closed"):
        assert md.extract(text.encode())[0].text == text


def test_a_line_without_end_is_read_in_time() -> None:
    for data in (
        b"x" * 20_000_000,
        b"# a" + b" " * 100_000 + b"x",
        b"#" * 1_000_000,
        b"<!--" * 250_000,
        b"`" * 1_000_001,
        b"<a " * 300_000,
    ):
        assert len(md.extract(data)[0].text) == len(txt.extract(data)[0].text) == len(data)


PAGE = """<html><head><title>Bins &amp; more</title><script>var hidden = 1;</script></head><body>
<nav><a href="/">Home</a><a href="/x">Imprint link</a></nav>
<main><article><h1>Bins</h1><p>{paragraph}</p><h2>Glass</h2><p>Glass goes into the green bin behind the house, never on Sundays.</p>
<pre><code>for bin in bins:
    empty(bin)</code></pre>
<table><tr><th>Bin</th><th>Day</th></tr><tr><td>Paper</td><td>Tuesday</td></tr></table></article></main>
<footer>Copyright notice</footer></body></html>"""


def test_html_keeps_text_headings_code_and_tables_and_drops_the_frame() -> None:
    (part,) = html.extract(PAGE.format(paragraph="The bins are emptied every week by the council. " * 6).encode())
    assert part.title == "Bins & more"
    for kept in ("## Glass", "green bin behind the house", "    empty(bin)", "Paper", "Tuesday"):
        assert kept in part.text
    for dropped in ("Imprint link", "hidden", "<p>"):
        assert dropped not in part.text


def test_a_tiny_html_page_still_gives_its_text() -> None:
    (part,) = html.extract(b"<p>Ring twice.</p>")
    assert part.text.strip() == "Ring twice."


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("<meta charset=iso-8859-1><p>Grüße – 10 €".encode(), "Grüße – 10 €"),
        ('<meta charset="windows-1251"><p>Съешь ещё'.encode("cp1251"), "Съешь ещё"),
        ('<meta charset="utf-8"><p>Grüße'.encode("cp1252"), "Grüße"),
        ('<meta charset="no-such"><p>Grüße'.encode("cp1252"), "Grüße"),
        ("<p>Grüße".encode("utf-16"), "Grüße"),
    ],
)
def test_html_is_decoded_though_the_page_declares_something_else(data: bytes, text: str) -> None:
    assert html.extract(data)[0].text == text


def test_html_beyond_a_parsers_bounds_is_not_called_empty() -> None:
    with pytest.raises(Unreadable, match="nested deeper"):
        html.extract(b"<div>" * 10_000 + b"deep text")
    long = b"<p>" + b"word " * 2_500_000
    assert len(html.extract(long)[0].text) > 12_000_000
    with pytest.raises(NotText, match="NUL"):
        html.extract(b"<p>a\x00b</p>")


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_csv_rows_are_documents_whatever_separates_them(mark: str) -> None:
    data = "\n".join(mark.join(row) for row in (["house", "rent"], ["Oak House", "900"], ["", ""], ["Elm House", "950"]))
    assert [(part.name, part.text) for part in csv.extract(data.encode())] == [
        ("row 2", "house: Oak House\nrent: 900"),
        ("row 4", "house: Elm House\nrent: 950"),
    ]


def test_csv_with_a_text_column_keeps_the_rest_as_meta() -> None:
    (part,) = csv.extract(b'Title,Text,year\nRent,"It is 900, ""warm"".",2024\n')
    assert (part.title, part.text, part.meta) == ("Rent", 'It is 900, "warm".', {"year": "2024"})


def test_csv_rows_of_other_widths_lose_nothing() -> None:
    parts = csv.extract(b"a,b\n1\n1,2,3\n")
    assert [part.text for part in parts] == ["a: 1", "a: 1\nb: 2\ncolumn 3: 3"]


def test_an_unfinished_csv_quote_says_so() -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        csv.extract(b'a,b\n"never closed,2\n')


def test_jsonl_lines_are_documents_and_bad_lines_are_named() -> None:
    lines = ['{"title": "T", "text": "body", "n": 1}', "", "{broken", "[1]", json.dumps({"q": "why?", "n": 2, "no": None})]
    parts = jsonl.extract("\n".join(lines).encode())
    assert parts[0] == Part(text="body", title="T", name="line 1", meta={"n": 1})
    assert [(part.name, bool(part.problem)) for part in parts[1:]] == [("line 3", True), ("line 4", True), ("line 5", False)]
    assert parts[-1].text == "q: why?\nn: 2"


def test_jsonl_line_separators_inside_strings_stay() -> None:
    assert jsonl.extract(json.dumps({"text": "a\u2028b"}, ensure_ascii=False).encode())[0].text == "a\u2028b"


def test_every_reason_is_a_different_word() -> None:
    assert len(BY_REASON) == 11
    assert all(kind.reason == reason for reason, kind in BY_REASON.items())
    assert all(ending == ending.lower() and ending.startswith(".") for ending in FORMATS)
