"""What a Word document's styles and numbering definitions mean: which paragraphs are headings, code, quotes or list items, and the
numbers that Word would show before them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_VAL = W + "val"

_HEADING = re.compile(r"head(?:ing)?[ _-]?([1-9a-e])", re.IGNORECASE)
# Publishers' templates: "ChapterTitle" is the document's own; a box's heading is below all sections'.
_TITLE = re.compile(r"(?:title|(?:book|chapter|appendix|front ?matter|part)[ _-]?title)", re.IGNORECASE)
_BOX_TITLE = re.compile(r"(?:box|note|sidebar|callout)[ _-]?(?:title|head(?:ing)?)", re.IGNORECASE)
_ASIDE = re.compile(
    r"(?:intense[ _-]?|block[ _-]?)?quot(?:e|ation)s?|block[ _-]?text|(?:box|note|sidebar|callout)", re.IGNORECASE
)
_LIST = re.compile(r"list[ _-]?(bullet|number)", re.IGNORECASE)
_CODE = re.compile(
    r"source ?code|code(?:[ _-]?block)?|verbatim(?: char)?|html (?:code|preformatted|sample|keyboard)|macro ?text", re.I
)
_MONOSPACED = re.compile(
    r"courier|consolas|menlo|monaco|\bmono\b|mono(?:space|\d|$| )|inconsolata|lucida (?:console|sans typewriter)|source ?code|"
    r"fira ?code|hack$|terminal|typewriter|sansmono",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Look:
    """How a style's runs look; None where the style does not say."""

    code: bool | None = None
    bold: bool | None = None
    italic: bool | None = None

    def under(self, other: "Look") -> "Look":
        """This look where ``other``, which is nearer to the text, says nothing."""
        return Look(
            self.code if other.code is None else other.code,
            self.bold if other.bold is None else other.bold,
            self.italic if other.italic is None else other.italic,
        )


@dataclass(frozen=True, slots=True)
class Style:
    """A paragraph or character style, with all that it inherits. ``level``: heading level or 0. ``listed``: "bullet" or "number" for
    Word's built-in list styles. ``number`` and ``depth``: the numbering definition it brings along."""

    name: str = ""
    look: Look = Look()
    level: int = 0
    code: bool = False
    aside: bool = False
    listed: str = ""
    number: str = ""
    depth: int | None = None


class Styles:
    """Styles by id. An id that the document does not define is a style that says nothing."""

    def __init__(self, root: Any) -> None:
        self._elements = {one.get(W + "styleId"): one for one in root.iter(W + "style")} if root is not None else {}
        self._made: dict[str, Style] = {}
        defaults = root.find(f"{W}docDefaults/{W}rPrDefault/{W}rPr") if root is not None else None
        self.default = next((id for id, one in self._elements.items() if _is_default(one)), "")
        plain = look_of(defaults).under(self[self.default].look)
        self.plain_is_monospaced = bool(plain.code)

    def __getitem__(self, id: str) -> Style:
        if id not in self._made:
            self._made[id] = Style()  # a style that is based on itself ends here
            self._made[id] = self._resolved(id)
        return self._made[id]

    def _resolved(self, id: str) -> Style:
        element = self._elements.get(id)
        if element is None:
            return Style()
        base = element.find(W + "basedOn")
        below = self[base.get(_VAL, "")] if base is not None else Style()
        name = _value(element, "name")
        properties = element.find(W + "pPr")
        look = below.look.under(look_of(element.find(W + "rPr")))
        number, depth = numbering_of(properties)
        box = bool(_BOX_TITLE.match(name))
        listed = _LIST.match(name)
        code = bool(_CODE.fullmatch(name)) or bool(look.code)
        if element.get(W + "type") == "character" and _CODE.fullmatch(name):
            look = look.under(Look(code=True))
        return Style(
            name=name,
            look=look,
            level=4 if box else _level(name, properties) or below.level,
            code=code,
            aside=box or bool(_ASIDE.match(name)) or below.aside,
            listed=listed.group(1).lower() if listed else below.listed,
            number=number or below.number,
            depth=below.depth if depth is None else depth,
        )


class Numbering:
    """The numbers before paragraphs. Counts as it is asked, so ask once a paragraph, in their order."""

    def __init__(self, root: Any) -> None:
        self._levels: dict[str, dict[int, tuple[str, str, int, str]]] = {}
        self._of: dict[str, str] = {}
        self._restarts: dict[tuple[str, int], int] = {}
        self._counts: dict[str, list[int | None]] = {}
        for one in root.iter(W + "abstractNum") if root is not None else ():
            self._levels[one.get(W + "abstractNumId")] = dict(_levels(one))
        for one in root.iter(W + "num") if root is not None else ():
            id = one.get(W + "numId")
            self._of[id] = _value(one, "abstractNumId")
            for override in one.iter(W + "lvlOverride"):
                start = _value(override, "startOverride")
                if start.isdigit():
                    self._restarts[id, int(override.get(W + "ilvl", "0"))] = int(start)

    def next(self, id: str, depth: int | None, style: str) -> tuple[str, int]:
        """What stands before the next paragraph of this definition ("•" for any bullet), and how deep it is."""
        family = self._of.get(id, "")
        levels = self._levels.get(family, {})
        if depth is None:
            depth = next((one for one, (_, _, _, linked) in levels.items() if linked and linked == style), 0)
        form, text, start, _ = levels.get(depth, ("none", "", 1, ""))
        counts = self._counts.setdefault(family, [None] * 9)
        if not 0 <= depth < len(counts):
            return "", 0
        restart = self._restarts.pop((id, depth), None)
        count = counts[depth]
        counts[depth] = restart if restart is not None else start if count is None else count + 1
        counts[depth + 1 :] = [None] * (len(counts) - depth - 1)
        if form in ("bullet", "none"):
            return "•" if form == "bullet" else "", depth

        def shown(found: re.Match[str]) -> str:
            place = int(found.group(1)) - 1
            form, _, start, _ = levels.get(place, ("decimal", "", 1, ""))
            count = counts[place]
            return _numeral(start if count is None else count, form)

        return re.sub(r"%([1-9])", shown, text).strip(), depth


def numbering_of(properties: Any) -> tuple[str, int | None]:
    """The numbering definition and depth that paragraph properties name; "0" takes an inherited one away."""
    found = properties.find(W + "numPr") if properties is not None else None
    if found is None:
        return "", None
    depth = _value(found, "ilvl")
    return _value(found, "numId"), int(depth) if depth.isdigit() else None


def look_of(properties: Any) -> Look:
    """What run properties themselves say of the look."""
    if properties is None:
        return Look()
    fonts = properties.find(W + "rFonts")
    font = "" if fonts is None else fonts.get(W + "ascii") or fonts.get(W + "hAnsi") or ""
    return Look(
        code=bool(_MONOSPACED.search(font)) if font else None,
        bold=_switch(properties.find(W + "b")),
        italic=_switch(properties.find(W + "i")),
    )


def _switch(element: Any) -> bool | None:
    return None if element is None else element.get(_VAL, "1") not in ("0", "false", "off", "none")


def _value(parent: Any, name: str) -> str:
    found = parent.find(W + name)
    return "" if found is None else found.get(_VAL, "")


def _is_default(style: Any) -> bool:
    return style.get(W + "type") == "paragraph" and style.get(W + "default") in ("1", "true")


def _level(name: str, properties: Any) -> int:
    outline = _value(properties, "outlineLvl") if properties is not None else ""
    found = _HEADING.fullmatch(name)
    if found:
        sign = found.group(1).lower()
        return min(6, int(sign) if sign.isdigit() else "abcde".index(sign) + 2)
    if _TITLE.fullmatch(name):
        return 1
    return min(6, int(outline) + 1) if outline.isdigit() and int(outline) < 9 else 0


def _levels(abstract: Any) -> Iterator[tuple[int, tuple[str, str, int, str]]]:
    for level in abstract.iter(W + "lvl"):
        start = _value(level, "start")
        form = _value(level, "numFmt") or "decimal"
        yield (
            int(level.get(W + "ilvl", "0")),
            (form, _value(level, "lvlText"), int(start) if start.isdigit() else 1, _value(level, "pStyle")),
        )


def _numeral(number: int, form: str) -> str:
    if form.endswith("Letter"):
        letters = chr(ord("a") + (number - 1) % 26) * (1 + (number - 1) // 26) if number > 0 else ""
        return letters.upper() if form.startswith("upper") else letters
    if form.endswith("Roman"):
        roman, left = "", number if 0 < number < 4000 else 0
        for value, sign in zip(_ROMAN_VALUES, _ROMAN_SIGNS, strict=True):
            roman += sign * (left // value)
            left %= value
        return roman.upper() if form.startswith("upper") else roman
    if form == "none":
        return ""
    return f"{number:02d}" if form == "decimalZero" else str(number)


_ROMAN_VALUES = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
_ROMAN_SIGNS = ("m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i")
