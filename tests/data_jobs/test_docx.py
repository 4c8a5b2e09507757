"""Word documents as Markdown: what styles, numbers and marks mean; and archives that are made to harm."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from data_jobs.extract import docx
from data_jobs.extract.part import Encrypted, OutOfMemory, Unreadable

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
BODY = '<w:document xmlns:w="%s" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><w:body>%s</w:body></w:document>'


def text_of(files: Any, build: Callable[[Any], None]) -> str:
    return docx.extract(files.docx("a.docx", build).read_bytes())[0].text


def packed(body: str, word: str = WORD, **others: str) -> bytes:
    """A document of bare XML; ``others`` are further members of word/."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", BODY % (word, body))
        kinds = {name: f'<Relationship Id="r{name}" Type="x/{name}" Target="{name}.xml"/>' for name in others}
        archive.writestr("word/_rels/document.xml.rels", f"<Relationships>{''.join(kinds.values())}</Relationships>")
        for name, xml in others.items():
            archive.writestr(f"word/{name}.xml", xml)
    return made.getvalue()


def said(body: str, **others: str) -> str:
    return docx.extract(packed(body, **others))[0].text


def test_headings_lists_and_tables_come_in_order(files: Any) -> None:
    def build(document: Any) -> None:
        document.add_heading("Keys", level=1)
        document.add_paragraph("A lost key costs 40.")
        table = document.add_table(rows=2, cols=2)
        for row, values in zip(table.rows, (("Key", "Price"), ("Cellar & bike | shed", "25")), strict=True):
            for cell, value in zip(row.cells, values, strict=True):
                cell.text = value
        document.add_heading("Locks", level=2)
        document.add_paragraph("Ask first.", style="List Bullet")
        document.add_paragraph("Pay then.", style="List Bullet")
        document.core_properties.title = "Keys & locks"

    (part,) = docx.extract(files.docx("a.docx", build).read_bytes())
    assert part.title == "Keys & locks"
    assert part.text == (
        "# Keys\n\nA lost key costs 40.\n\n| Key | Price |\n|---|---|\n| Cellar & bike \\| shed | 25 |\n\n"
        "## Locks\n\n- Ask first.\n- Pay then."
    )


def test_merged_cells_are_said_once_and_keep_the_columns(files: Any) -> None:
    def build(document: Any) -> None:
        table = document.add_table(rows=3, cols=3)
        table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
        table.cell(0, 2).text = "narrow"
        table.cell(1, 0).merge(table.cell(2, 0)).text = "tall"

    assert text_of(files, build) == "| wide |  | narrow |\n|---|---|---|\n| tall |  |  |\n|  |  |  |"


def test_code_styles_and_fonts_become_code(files: Any) -> None:
    def build(document: Any) -> None:
        from docx.enum.style import WD_STYLE_TYPE

        code = document.styles.add_style("Listing", WD_STYLE_TYPE.PARAGRAPH)
        code.font.name = "Courier New"
        document.styles.add_style("Verbatim Char", WD_STYLE_TYPE.CHARACTER)
        for line in ("def ring():", "    return `2`", "", "```", "ring()"):
            document.add_paragraph(line, style="Listing")
        paragraph = document.add_paragraph("Call ")
        paragraph.add_run("ring", style="Verbatim Char")
        paragraph.add_run("()", style="Verbatim Char")
        paragraph.add_run(" twice, or ")
        paragraph.add_run("a`b").font.name = "Consolas"

    assert text_of(files, build) == (
        "````\ndef ring():\n    return `2`\n\n```\nring()\n````\n\nCall `ring()` twice, or `` a`b ``"
    )


def test_lines_of_a_code_font_without_a_style_are_code_if_there_are_several(files: Any) -> None:
    def build(document: Any) -> None:
        for line in ("one", "two", None, "alone"):
            paragraph = document.add_paragraph("" if line else "Text.")
            if line:
                paragraph.add_run(line).font.name = "Menlo"

    assert text_of(files, build) == "```\none\ntwo\n```\n\nText.\n\n`alone`"


def test_a_document_typed_in_courier_is_no_code(files: Any) -> None:
    def build(document: Any) -> None:
        document.styles["Normal"].font.name = "Courier New"
        document.add_paragraph("A letter.")

    assert text_of(files, build) == "A letter."


def test_emphasis_stays_next_to_its_words(files: Any) -> None:
    def build(document: Any) -> None:
        paragraph = document.add_paragraph("It is ")
        paragraph.add_run("never ").bold = True
        paragraph.add_run("free ").bold = True
        paragraph.add_run("or").italic = True
        both = paragraph.add_run(" cheap")
        both.bold = both.italic = True
        document.add_heading("", level=2).add_run("Bold").bold = True

    assert text_of(files, build) == "It is **never free** *or* ***cheap***\n\n## Bold"


def test_quotes_and_unsafe_or_safe_links() -> None:
    links = "".join(
        f'<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText> HYPERLINK "{target}" </w:instrText></w:r>'
        f'<w:r><w:fldChar w:fldCharType="separate"/></w:r><w:r><w:t>{text}</w:t></w:r><w:r><w:fldChar w:fldCharType="end"/></w:r>'
        for target, text in (
            ("https://example.org/a", "here"),
            ("https://example.org", "https://example.org"),
            ("javascript:x", "!"),
        )
    )
    styles = f'<w:styles xmlns:w="{WORD}"><w:style w:type="paragraph" w:styleId="q"><w:name w:val="Quote"/></w:style></w:styles>'
    quote = '<w:p><w:pPr><w:pStyle w:val="q"/></w:pPr><w:r><w:t>Be kind.</w:t></w:r></w:p>'
    assert said(f"<w:p>{links}</w:p>{quote}{quote}", styles=styles) == (
        "[here](https://example.org/a)https://example.org!\n\n> Be kind.\n>\n> Be kind.".replace(">\n>", "> \n>")
    )


def numbering(*levels: str) -> str:
    made = "".join(f'<w:lvl w:ilvl="{number}">{level}</w:lvl>' for number, level in enumerate(levels))
    return (
        f'<w:numbering xmlns:w="{WORD}"><w:abstractNum w:abstractNumId="3">{made}</w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="3"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="3"/>'
        '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride></w:num></w:numbering>'
    )


def item(text: str, depth: int = 0, number: int = 1) -> str:
    return f'<w:p><w:pPr><w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{number}"/></w:numPr></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'


def test_numbers_are_counted_as_word_counts_them() -> None:
    levels = (
        '<w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/>',
        '<w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%2)"/>',
        '<w:numFmt w:val="bullet"/><w:lvlText w:val="o"/>',
    )
    body = item("one") + item("sub", 1) + item("sub", 1) + item("two") + item("sub", 1) + item("dot", 2) + item("again", 0, 2)
    assert said(body, numbering=numbering(*levels)) == ("1. one\n   a) sub\n   b) sub\n2. two\n   a) sub\n      - dot\n1. again")


def test_numbers_with_words_stand_before_their_text() -> None:
    levels = (
        '<w:start w:val="4"/><w:numFmt w:val="upperRoman"/><w:lvlText w:val="Part %1"/>',
        '<w:numFmt w:val="decimal"/><w:lvlText w:val="Listing %1-%2:"/>',
    )
    assert said(item("Doors") + item("A key", 1), numbering=numbering(*levels)) == "Part IV Doors\n\nListing IV-1: A key"


def test_tracked_changes_are_read_as_accepted() -> None:
    body = (
        "<w:p><w:r><w:t>It costs </w:t></w:r><w:del><w:r><w:delText>30</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>40</w:t></w:r></w:ins></w:p>"
        "<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr><w:r><w:t>One </w:t></w:r></w:p><w:p><w:r><w:t>line.</w:t></w:r></w:p>"
    )
    assert said(body) == "It costs 40\n\nOne line."


def test_footnotes_follow_the_text() -> None:
    notes = (
        f'<w:footnotes xmlns:w="{WORD}"><w:footnote w:id="7"><w:p><w:r><w:t>By post.</w:t></w:r></w:p></w:footnote></w:footnotes>'
    )
    body = '<w:p><w:r><w:t>Pay first.</w:t></w:r><w:r><w:footnoteReference w:id="7"/></w:r></w:p>'
    body += "<w:p><w:r><w:t>Then move.</w:t></w:r></w:p>"
    assert said(body, footnotes=notes) == "Pay first.[^1]\n\nThen move.\n\n[^1]: By post."


def test_strict_documents_and_content_controls_are_read() -> None:
    body = "<w:sdt><w:sdtContent><w:p><w:r><w:t>Inside.</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    assert docx.extract(packed(body, "http://purl.oclc.org/ooxml/wordprocessingml/main"))[0].text == "Inside."


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE d SYSTEM "http://127.0.0.1:9/x.dtd">',
        "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'>"
        + "".join(f"<!ENTITY {n} '{'&' + chr(ord(n) - 1) + ';'} '>" for n in "bcdefgh")
        + "]>",
    ],
)
def test_type_declarations_and_entities_are_refused(doctype: str) -> None:
    body = doctype + BODY % (WORD, "<w:p><w:r><w:t>&e;&a;&h;</w:t></w:r></w:p>")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("word/document.xml", body)
    with pytest.raises(Unreadable) as refused:
        docx.extract(made.getvalue())
    assert "root:" not in refused.value.message


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(OutOfMemory, match="as a bomb does"):
        docx.extract(packed("<w:p><w:r><w:t>" + "x" * (17 << 20) + "</w:t></w:r></w:p>"))


def test_styles_based_on_one_another_end() -> None:
    style = '<w:style w:type="paragraph" w:styleId="{0}"><w:name w:val="{0}"/><w:basedOn w:val="{1}"/></w:style>'
    styles = f'<w:styles xmlns:w="{WORD}">{style.format("a", "b")}{style.format("b", "a")}</w:styles>'
    assert said('<w:p><w:pPr><w:pStyle w:val="a"/></w:pPr><w:r><w:t>x</w:t></w:r></w:p>', styles=styles) == "x"


def test_a_broken_docx_says_so(files: Any) -> None:
    whole = files.docx("a.docx", lambda document: document.add_paragraph("text")).read_bytes()
    for broken in (b"not a zip", whole[: len(whole) // 2], b"PK\x05\x06" + b"\0" * 18):
        with pytest.raises(Unreadable, match="no readable Word document"):
            docx.extract(broken)
    with pytest.raises(Encrypted):
        docx.extract(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)
