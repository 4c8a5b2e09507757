"""Lines that belong to the paper or the web site and not to the text: running heads and feet of pages, cookie banners, site notices.

Conservative on purpose. A running head keeps its first appearance; notices go only from web pages, and only as a line of their own. What
stands inside a paragraph stays.
"""

import re
from collections import Counter

_VARYING = re.compile(r"\d+|\b[ivxlc]+\b")
_LONGEST = 100
_FEWEST_PAGES = 3
_NOTICE = re.compile(
    r"[ \t*_#-]*(?:(?:this|our) (?:web ?)?site uses cookies\b.*"
    r"|we (?:and our partners )?use cookies\b.*|by (?:continuing|using) .{0,60}\bcookies\b.*"
    r"|(?:accept|reject|manage|allow) (?:all )?(?:cookies|preferences)|cookie (?:settings|policy|preferences|notice)|(?:©|\(c\)|copyright)"
    r".{0,80}all rights reserved|all rights reserved|skip to (?:main )?content|back to top|(?:share|follow us) on \w+"
    r"|wir verwenden cookies\b.*|alle rechte vorbehalten|nous utilisons des cookies\b.*|tous droits réservés)[ \t.!*_]*",
    re.IGNORECASE,
)


def without_boilerplate(text: str, media_type: str) -> tuple[str, int]:
    """The text without such lines, and how many went."""
    gone = 0
    if text.count("\f") >= _FEWEST_PAGES - 1:
        pages = [page.strip("\n").split("\n") for page in text.split("\f")]
        gone = _running_lines(pages, 0) + _running_lines(pages, -1)
        text = "\n\f\n".join("\n".join(page) for page in pages) if gone else text
    if media_type == "text/html":
        lines = text.split("\n")
        kept = [line for line in lines if len(line) > 3 * _LONGEST or not _NOTICE.fullmatch(line)]
        gone += len(lines) - len(kept)
        text = "\n".join(kept)
    return text, gone


def _running_lines(pages: list[list[str]], place: int) -> int:
    """Takes first (0) or last (-1) lines that most pages share off all pages but the first that has them; digits may differ."""
    shapes = Counter(_shape(page[place]) for page in pages)
    running = {shape for shape, times in shapes.items() if shape and times >= max(_FEWEST_PAGES, len(pages) / 2)}
    seen: set[str] = set()
    gone = 0
    for page in pages:
        shape = _shape(page[place])
        if shape in running and len(page) > 1:
            if shape in seen or not re.search(r"[^\W\d_]{2}", page[place]):
                del page[place]
                gone += 1
            seen.add(shape)
    return gone


def _shape(line: str) -> str:
    return _VARYING.sub("0", line.strip().lower()) if len(line) <= _LONGEST else ""
