"""Word documents through python-docx: paragraphs and tables in their order; headings become Markdown headings."""

import io
import re
import zipfile

from data_jobs.extract.part import Encrypted, Options, Part, Unreadable

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_LEVEL = re.compile(r"^heading (\d)$", re.IGNORECASE)


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document. Headers, footers, comments and text boxes are not read."""
    import docx
    from docx.table import Table

    if data.startswith(_OLE):
        raise Encrypted("the file is an encrypted or pre-2007 Word document; save it as .docx without a password")
    try:
        document = docx.Document(io.BytesIO(data))
    except (zipfile.BadZipFile, KeyError, ValueError, SyntaxError) as error:
        raise Unreadable(f"the file is no readable Word document ({error}); save it again as .docx") from None
    blocks: list[str] = []
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            blocks.append(_table(item))
        elif item.text.strip():
            blocks.append(_paragraph(item.text.strip(), (item.style.name or "") if item.style is not None else ""))
    headings = (block for block in blocks if block.startswith("# "))
    title = (document.core_properties.title or "").strip() or next(headings, "")[2:]
    return [Part(text="\n\n".join(blocks), title="" if title == "Word Document" else title)]


def _paragraph(text: str, style: str) -> str:
    level = _LEVEL.match(style)
    if style == "Title" or level:
        depth = int(level.group(1)) if level else 1
        return "#" * min(6, max(1, depth)) + " " + " ".join(text.split())
    return f"- {text}" if style.startswith("List") else text


def _table(table: "object") -> str:
    rows = []
    for row in table.rows:  # type: ignore[attr-defined]
        cells: list[str] = []
        seen = None
        for cell in row.cells:
            # A merged cell is given once for each column that it spans.
            if cell._tc is not seen:
                cells.append(" ".join(cell.text.split()))
            seen = cell._tc
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)
