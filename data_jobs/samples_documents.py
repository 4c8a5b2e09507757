"""The property agent's knowledge base as files of many formats, with the faults that real folders have: copies, a torn PDF, an empty file.

The same facts give the same bytes, binaries included (for one version of the libraries that write them).
"""

import csv
import html
import io
import zipfile
from pathlib import Path
from typing import Final

from data_jobs.samples_property import KNOWN_BUILDINGS, Fact

FORMATS: Final = ("md", "html", "docx", "pdf", "txt", "csv", "md", "html", "docx", "pdf", "txt", "pdf")
PDF_HEADING: Final = "Notes for tenants"
_EPOCH: Final = (2026, 1, 1, 0, 0, 0)


def slug(building: str) -> str:
    return building.lower().replace(" ", "-")


def format_of(building: str) -> str:
    """The format in which a building's document is written."""
    return FORMATS[KNOWN_BUILDINGS.index(building)]


def write(facts: list[Fact], folder: Path) -> None:
    """All files of the knowledge base. ``old/`` holds what ingest should refuse or drop."""
    old = folder / "old"
    old.mkdir(parents=True, exist_ok=True)
    writers = {"md": markdown, "html": page, "docx": word, "pdf": portable, "txt": plain, "csv": table}
    for building in KNOWN_BUILDINGS:
        ending = format_of(building)
        content = writers[ending](building, [one for one in facts if one.building == building])
        (folder / f"{slug(building)}.{ending}").write_bytes(content)
    first = {ending: f"{slug(KNOWN_BUILDINGS[FORMATS.index(ending)])}" for ending in ("md", "txt", "pdf")}
    near = (folder / f"{first['md']}.md").read_bytes() + b"\n## About this copy\n\nPrinted for the notice board.\n"
    (old / f"{first['md']}-notice-board.md").write_bytes(near)
    (old / f"{first['txt']}-copy.txt").write_bytes((folder / f"{first['txt']}.txt").read_bytes())
    (old / f"{first['pdf']}-torn.pdf").write_bytes((folder / f"{first['pdf']}.pdf").read_bytes()[:300])
    (old / "empty.txt").write_bytes(b"")


def _topic(one: Fact) -> str:
    return one.attribute.name.capitalize()


def markdown(building: str, facts: list[Fact]) -> bytes:
    sections = "\n\n".join(f"## {_topic(one)}\n\n{one.statement}" for one in facts)
    return f"# {building}\n\n{sections}\n".encode()


def plain(building: str, facts: list[Fact]) -> bytes:
    return ("\n\n".join(one.statement for one in facts) + "\n").encode()


def page(building: str, facts: list[Fact]) -> bytes:
    sections = "\n".join(f"<h2>{html.escape(_topic(one))}</h2>\n<p>{html.escape(one.statement)}</p>" for one in facts)
    head = f'<head><meta charset="utf-8"><title>{building}</title></head>'
    body = f'<body>\n<nav><a href="/">Home</a> <a href="/contact">Contact</a></nav>\n<main>\n<h1>{building}</h1>\n{sections}\n</main>'
    return (
        f'<!doctype html>\n<html lang="en">\n{head}\n{body}\n<footer>Printed from our pages</footer>\n</body>\n</html>\n'.encode()
    )


def table(building: str, facts: list[Fact]) -> bytes:
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["title", "text"])
    rows.writerows([f"{building}: {one.attribute.name}", one.statement] for one in facts)
    return out.getvalue().encode()


def word(building: str, facts: list[Fact]) -> bytes:
    import docx

    document = docx.Document()
    document.core_properties.title = building
    document.add_heading(building, level=1)
    for one in facts:
        document.add_heading(_topic(one), level=2)
        document.add_paragraph(one.statement)
    raw, steady = io.BytesIO(), io.BytesIO()
    document.save(raw)
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(steady, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():  # python-docx stamps each part with the present time
            target.writestr(zipfile.ZipInfo(name, _EPOCH), source.read(name), zipfile.ZIP_DEFLATED)
    return steady.getvalue()


def portable(building: str, facts: list[Fact]) -> bytes:
    """A PDF of one page: the heading on its own line, a paragraph a fact."""
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfgen.canvas import Canvas

    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1)
    canvas.setTitle(building)
    canvas.setFont("Helvetica-Bold", 14)
    height = A4[1] - 60
    canvas.drawString(50, height, PDF_HEADING)
    canvas.setFont("Helvetica", 10)
    for one in facts:
        height -= 26
        canvas.drawString(50, height, one.statement)
    canvas.showPage()
    canvas.save()
    return out.getvalue()
