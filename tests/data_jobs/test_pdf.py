"""PDF: reading order, broken lines, running headers, scanned pages, and files that are none."""

import re
from typing import Any

import pytest
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from data_jobs.extract import pdf
from data_jobs.extract.part import Encrypted, Part, Unreadable
from data_jobs.extract.pdf_layout import flow, without_furniture

LEFT = [
    "The heating of Oak House is serviced",
    "every October by the warden, who tells",
    "all tenants a week before he comes to",
    "their doors and knocks three times or",
    "leaves a card in the letter box.",
]
RIGHT = [
    "The lift stands still on Sundays and",
    "nobody repairs it before Monday noon,",
    "because the firm is closed then, which",
    "everybody knows, so walk up the stairs",
    "instead, please, and carry the pram.",
]


def drawn(files: Any, *pages: list[tuple[float, float, str]]) -> bytes:
    canvas = Canvas(str(files.root / "drawn.pdf"), pagesize=(595, 842))
    for page in pages:
        for x, y, text in page:
            canvas.drawString(x, y, text)
        canvas.showPage()
    canvas.save()
    return bytes((files.root / "drawn.pdf").read_bytes())


def rows(start: float = 700) -> list[tuple[float, float, str]]:
    """Both columns, drawn row by row as some programs do."""
    return [
        place
        for number, (left, right) in enumerate(zip(LEFT, RIGHT, strict=True))
        for place in ((72, start - 14 * number, left), (320, start - 14 * number, right))
    ]


def words(text: str) -> str:
    return " ".join(text.split())


def test_pages_and_broken_lines_come_together(files: Any) -> None:
    lines = [
        "Heating",
        "The heating of Oak House is serviced every October by the warden,",
        "who tells all tenants a week before.",
        "Call 4471.",
    ]
    (part,) = pdf.extract(files.pdf("a.pdf", [lines, ["Second page."]], title="Handbook").read_bytes())
    assert part.title == "Handbook"
    assert part.meta == {"pages": 2}
    assert part.text == (
        "Heating\nThe heating of Oak House is serviced every October by the warden, who tells all tenants a week before.\nCall 4471."
        "\fSecond page."
    )


def test_hyphens_of_the_layout_go() -> None:
    assert flow("insur\ufffe\nance") == flow("insur\ufffeance") == "insurance"
    assert (
        flow(
            "The heating of Oak House at the park is serviced ev\ufffeery October by the warden who tells us all\nin time."
        ).count("\n")
        == 0
    )


def test_columns_are_read_one_after_the_other(files: Any) -> None:
    title = [(150.0, 760.0, "News of the house, for all who live in it")]
    (part,) = pdf.extract(drawn(files, title + rows()))
    assert words(part.text) == words(" ".join([title[0][2], *LEFT, *RIGHT]))


def test_a_wide_line_between_columns_keeps_its_place(files: Any) -> None:
    between = [(72.0, 600.0, "All of this was decided by the meeting of the tenants on the second of May this year.")]
    (part,) = pdf.extract(drawn(files, rows(700) + between + rows(570)))
    assert words(part.text) == words(" ".join([*LEFT, *RIGHT, between[0][2], *LEFT, *RIGHT]))


def test_a_right_column_drawn_first_is_read_second(files: Any) -> None:
    places = rows()
    (part,) = pdf.extract(drawn(files, places[1::2] + places[::2]))
    assert words(part.text) == words(" ".join(LEFT + RIGHT))


def test_a_table_is_read_row_by_row(files: Any) -> None:
    table = [
        ("Paper", "Tuesday"),
        ("Glass", "Friday"),
        ("Metal", "Monday"),
        ("Wood", "never"),
        ("Rest", "daily"),
        ("Oil", "on call"),
    ]
    places = [
        (x, 700.0 - 14 * number, word) for number, row in enumerate(table) for x, word in zip((72.0, 320.0), row, strict=True)
    ]
    (part,) = pdf.extract(drawn(files, places))
    assert words(part.text) == words(" ".join(word for row in table for word in row))


def test_running_headers_and_page_numbers_go(files: Any) -> None:
    bodies = [f"What page {name} says is said only there, at some length." for name in ("one", "two", "three", "four")]
    pages = [["Handbook of Oak House", "", body, f"Page {number} of 4"] for number, body in enumerate(bodies, 1)]
    (part,) = pdf.extract(files.pdf("a.pdf", pages).read_bytes())
    assert part.text.split("\f") == bodies


@pytest.mark.parametrize(
    ("pages", "kept"),
    [
        (["Oak 7\na", "Oak 8\nb", "Oak 9\nc"], ["Oak 7\na", "Oak 8\nb", "Oak 9\nc"]),
        (["Oak House 7\na", "Oak House 8\nb", "Oak House 9\nc"], ["a", "b", "c"]),
        (["same\na", "same\nb"], ["same\na", "same\nb"]),
        (["same", "same", "same"], ["same", "same", "same"]),
        (["a\ni", "b\nii", "c\niii", "d\niv"], ["a", "b", "c", "d"]),
        (["a\n1", "b\n2"], ["a", "b"]),
        (["a\n40", "b\n17", "c\n9"], ["a\n40", "b\n17", "c\n9"]),
        (
            ["a\nx\nsame\ny\nb", "c\nz\nsame\nw\nd", "e\nu\nsame\nv\nf"],
            ["a\nx\nsame\ny\nb", "c\nz\nsame\nw\nd", "e\nu\nsame\nv\nf"],
        ),
    ],
)
def test_only_what_runs_through_the_pages_is_furniture(pages: list[str], kept: list[str]) -> None:
    assert without_furniture(pages) == kept


def scan(files: Any, *texts: str) -> bytes:
    """A page for each text; an empty one is a page with nothing but an image all over it."""
    from PIL import Image

    canvas = Canvas(str(files.root / "scan.pdf"), pagesize=(200, 200))
    for text in texts:
        if text:
            canvas.drawString(20, 100, text)
        else:
            canvas.drawImage(ImageReader(Image.new("L", (20, 20), 90)), 0, 0, 200, 200)
        canvas.showPage()
    canvas.save()
    return bytes((files.root / "scan.pdf").read_bytes())


def test_scanned_pages_are_named_and_the_others_read(files: Any) -> None:
    text, *scanned = pdf.extract(scan(files, "First page.", "", "Third page.", ""))
    assert text.text.split("\f") == ["First page.", "", "Third page.", ""]
    assert [(part.name, part.reason, part.text) for part in scanned] == [("page 2", "scanned", ""), ("page 4", "scanned", "")]
    assert all("OCR" in part.problem for part in scanned)


def test_a_scanned_document_is_nothing_but_scanned_pages(files: Any) -> None:
    assert [part.name for part in pdf.extract(scan(files, "", ""))] == ["page 1", "page 2"]


def test_an_empty_page_is_not_called_scanned(files: Any) -> None:
    assert pdf.extract(files.pdf("a.pdf", [[], []]).read_bytes()) == [Part(text="\f", meta={"pages": 2})]


def test_an_encrypted_pdf_says_so(files: Any) -> None:
    with pytest.raises(Encrypted, match="without a password"):
        pdf.extract(files.pdf("a.pdf", [["secret"]], password="open sesame").read_bytes())


def test_a_broken_pdf_says_so(files: Any) -> None:
    whole = files.pdf("a.pdf", [["text"]]).read_bytes()
    for broken in (whole[:90], b"", b"hello", b"%PDF-1.4\n%%EOF"):
        with pytest.raises(Unreadable, match="cannot be opened"):
            pdf.extract(broken)


def test_a_pdf_torn_before_its_text_is_not_called_empty(files: Any) -> None:
    whole = files.pdf("a.pdf", [["text"]]).read_bytes()
    for length in range(60, len(whole) - 10, 40):
        try:
            assert any(part.text.strip() for part in pdf.extract(whole[:length]))
        except Unreadable:
            continue


def test_page_trees_that_loop_or_lie_end(files: Any) -> None:
    whole = files.pdf("a.pdf", [["text"]]).read_bytes()
    pages = re.search(rb"(\d+) 0 obj\s*<<[^>]*/Type /Pages", whole)
    assert pages
    looping = re.sub(rb"/Kids \[ [^\]]*\]", b"/Kids [ " + pages[1] + b" 0 R ]", whole)
    lying = re.sub(rb"/Count 1\b", b"/Count 999999999", whole)
    for data in (looping, lying):
        assert data != whole
        try:
            parts = pdf.extract(data)
        except Unreadable:
            continue
        assert len(parts) < 40
