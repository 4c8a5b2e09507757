"""PDF through pypdfium2: the text of each page in reading order. A scanned page has no text here and is said to be one: there is no
OCR. Form fields, annotations and attachments are not read."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from data_jobs.extract.part import Encrypted, Options, Part, Unreadable
from data_jobs.extract.pdf_layout import flow, in_columns, without_furniture

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

_PAGE_END = "\f"
_COVERING = 0.5
_TAIL = 4096
_BROKEN_PAGES = 20
"""A document whose page tree loops seems to have any number of pages, none of which opens."""


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document, its pages separated by form feeds, with lines that a page's width broke put together again; and a part that says
    so for each page that is scanned or broken."""
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise Encrypted("the PDF is encrypted; save it without a password") from None
        raise Unreadable(f"the PDF cannot be opened ({error}); export it again") from None
    try:
        title = (pdf.get_metadata_dict().get("Title") or "").strip()
        pages, problems = _pages(pdf)
    finally:
        pdf.close()
    texts = [flow(page) for page in without_furniture(pages)]
    if not any(map(str.strip, texts)):
        if not problems and (not pages or b"%%EOF" not in data[-_TAIL:]):
            raise Unreadable("the PDF breaks off before its text; export it again")
        if problems:
            return problems
    title = "" if title.lower() in ("untitled", "(anonymous)") else title
    return [Part(text=_PAGE_END.join(texts), title=title, meta={"pages": len(texts)}), *problems]


def _pages(pdf: "PdfDocument") -> tuple[list[str], list[Part]]:
    """The text of every page, and what is wrong with those that have none."""
    import pypdfium2

    pages: list[str] = []
    problems: list[Part] = []
    broken = 0
    for number in range(len(pdf)):
        try:
            page = pdf[number]
            text = _text(page)
            scanned = not text.strip() and _is_covered(page)
            page.close()
        except pypdfium2.PdfiumError as error:
            broken += 1
            text, scanned = "", False
            problems.append(Part("", name=f"page {number + 1}", problem=f"the page cannot be read ({error}); export it again"))
        pages.append(text)
        if scanned:
            said = "the page is scanned and has no text; run OCR over it and give it again"
            problems.append(Part("", name=f"page {number + 1}", problem=said, reason="scanned"))
        if broken > _BROKEN_PAGES:
            break
    return pages, problems


def _text(page: "PdfPage") -> str:
    """The page's text as pdfium orders it, or column by column where that goes across columns."""
    words = page.get_textpage()
    text = words.get_text_range()
    boxes = [words.get_rect(number) for number in range(words.count_rects())]
    regions = in_columns([box for box in boxes if box[2] > box[0]], page.get_width())
    if regions and _goes_across(boxes, regions):
        text = "\n".join(words.get_text_bounded(*region) for region in regions)
    words.close()
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _goes_across(boxes: list[tuple[float, float, float, float]], regions: list[tuple[float, float, float, float]]) -> bool:
    """Whether the pieces of text, as pdfium orders them, jump back to a region that was read before."""
    latest = 0
    for left, bottom, right, top in boxes:
        x, y = (left + right) / 2, (bottom + top) / 2
        home = next((place for place, one in enumerate(regions) if one[0] <= x <= one[2] and one[1] <= y <= one[3]), None)
        if home is not None and home < latest:
            return True
        latest = max(latest, home or 0)
    return False


def _is_covered(page: "PdfPage") -> bool:
    """Whether one image, or several that share the work, take most of the page."""
    from pypdfium2 import raw

    width, height = page.get_size()
    return sum(_areas(page, raw.FPDF_PAGEOBJ_IMAGE)) >= _COVERING * width * height


def _areas(page: "PdfPage", kind: int) -> Iterator[float]:
    for image in page.get_objects(filter=[kind], max_depth=4):
        left, bottom, right, top = image.get_bounds()
        yield abs(right - left) * abs(top - bottom)
