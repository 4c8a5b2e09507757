"""PDF through pypdfium2. A scanned page has no text here: there is no OCR."""

import re

from data_jobs.extract.part import Encrypted, Options, Part, Unreadable

_ENDED = re.compile(r"[.!?:;][\"')\]]*$")
_BULLET = re.compile(r"^(?:[-*\u2022\u25cf]|\d{1,3}[.)])\s")
_NARROW, _FULL_LINE, _VERY_FULL = 40, 0.7, 0.85


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document: the pages' text, with lines that a page's width broke put together again."""
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise Encrypted("the PDF is encrypted; save it without a password") from None
        raise Unreadable(f"the PDF cannot be opened ({error}); export it again") from None
    try:
        pages = [page.get_textpage().get_text_range().replace("\r\n", "\n") for page in pdf]
        title = (pdf.get_metadata_dict().get("Title") or "").strip()
    finally:
        pdf.close()
    title = "" if title.lower() in ("untitled", "(anonymous)") else title
    return [Part(text="\n\n".join(flow(page) for page in pages), title=title, meta={"pages": len(pages)})]


def flow(page: str) -> str:
    """Joins a line to the one before it when that one was full and unfinished, or ended in a hyphen the layout made."""
    # pdfium writes U+FFFE (older versions U+0002) where a hyphen only served the line break.
    page = re.sub("[\ufffe\x02]\n?", "", page)
    lines = [line.strip() for line in page.split("\n")]
    width = max(map(len, lines), default=0)
    out: list[str] = []
    before = ""
    for line in lines:
        if out and _continues(before, line, width):
            out[-1] += " " + line
        else:
            out.append(line)
        before = line
    return "\n".join(out)


def _continues(before: str, line: str, width: int) -> bool:
    """Whether ``line`` carries on the paragraph of the line before it, on a page whose longest line has ``width`` characters."""
    if not before or not line or width < _NARROW or len(before) < _FULL_LINE * width or _BULLET.match(line):
        return False
    return not _ENDED.search(before) or line[0].islower() or len(before) >= _VERY_FULL * width
