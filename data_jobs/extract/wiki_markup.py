"""Jira's wiki markup to Markdown, for reading and chunking: words, headings, lists, tables, code and links stay; looks go.

Not a full renderer: struck, inserted, raised and lowered text keeps its marks, and a table cell ends with its line. Every pattern
is linear in the length of the text.
"""

import re
from collections.abc import Iterator

_CODE = re.compile(r"\{(code|noformat)(?::([^{}\n]*))?\}")
_QUOTE = re.compile(r"\{quote\}")
_HEADING = re.compile(r"h([1-6])\.\s+(\S.*)")
_ITEM = re.compile(r"([*#]+|-)\s+(\S.*)")
_MONO = re.compile(r"\{\{([^\n{}]*(?:\{[^\n{}]*\}[^\n{}]*)*)\}\}")
_SIGNS = re.compile(r"[{\[!*]")
_LOOKS = re.compile(r"\{(?:color|anchor|toc|align|section|column)(?::[^{}\n]*)?\}")
_BOX = re.compile(r"\{(?:panel|info|note|tip|warning|expand|status)(?::([^{}\n]*))?\}")
_IMAGE = re.compile(r"!(?=\S)[^\s!|][^!|\n]*\.(?:png|jpe?g|gif|bmp|svg|webp|tiff?|mp4|mov|pdf)(?:\|[^!\n]*)?!", re.IGNORECASE)
_MENTION = re.compile(r"\[~([^\[\]\n]+)\]")
_FILE = re.compile(r"\[\^([^\[\]|\n]+)\]")
_LINK = re.compile(r"\[([^\[\]|\n]+)\|([^\[\]|\s]+)(?:\|[^\[\]\n]*)?\]")
_BARE_LINK = re.compile(r"\[(?:mailto:)?((?:https?://|ftp://|www\.|[^\[\]\s|@]+@)[^\[\]\s|]+)\]")
_TARGET = re.compile(r"(?:https?:|ftp:|mailto:|file:|www\.|/)|[A-Z][A-Z0-9_]+-\d+$")
_BOLD = re.compile(r"(?<![\w*\\])\*(?![\s*])([^*\n]*[^\s*\\])\*(?![\w*])")
_LINE_BREAK = re.compile(r"\\\\(?:[ \t]+|$)")


def to_markdown(wiki: str) -> str:
    """The Markdown of a description or comment. Code is kept as it is, in fences."""
    out: list[str] = []
    prefix = ""
    for code, text in _blocks(wiki.replace("\r\n", "\n").replace("\r", "\n")):
        if code is not None:
            out += ["", *(f"{prefix}{line}" for line in fenced(text, code).split("\n")), ""]
            continue
        for number, piece in enumerate(_QUOTE.split(text)):
            if number:
                prefix = "" if prefix else "> "
                out.append("")
            if piece.strip() or not number:
                out += [prefix + line if line else line for line in _prose(piece)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


def fenced(code: str, language: str) -> str:
    """The code between fences that it does not contain itself."""
    fence = "```"
    while fence in code:
        fence += "`"
    return f"{fence}{language}\n{code.strip(chr(10)).rstrip()}\n{fence}"


def table_row(cells: list[str], header: bool) -> list[str]:
    """A row of a Markdown table; a header has a second line of dashes."""
    row = "| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |"
    return [row, "|" + " --- |" * len(cells)] if header else [row]


def _blocks(wiki: str) -> Iterator[tuple[str | None, str]]:
    """Code as (language, text), prose as (None, text), in order. Code that is never closed (a text was cut off) goes to the end."""
    at = 0
    for opened in _CODE.finditer(wiki):
        if opened.start() < at:
            continue
        closing = "{" + opened[1] + "}"
        end = wiki.find(closing, opened.end())
        end = len(wiki) if end < 0 else end
        title, language = _title(opened[2]), (opened[2] or "").partition("|")[0].strip()
        yield None, wiki[at : opened.start()] + (f"\n*{title}*\n" if title else "")
        yield (language if language.isalnum() else ""), wiki[opened.end() : end]
        at = end + len(closing)
    yield None, wiki[at:]


def _prose(text: str) -> Iterator[str]:
    for raw in text.split("\n"):
        line = raw.strip()
        if heading := _HEADING.fullmatch(line):
            yield "#" * int(heading[1]) + " " + _inline(heading[2])
        elif line.startswith("bq. "):
            yield "> " + _inline(line[4:])
        elif len(line) >= 4 and not line.strip("-"):
            yield "---"
        elif item := _ITEM.fullmatch(line):
            marks = item[1]
            indent = "".join("   " if mark == "#" else "  " for mark in marks[:-1])
            yield f"{indent}{'1.' if marks.endswith('#') else '-'} {_inline(item[2])}"
        elif line.startswith("||") and line.endswith("||") and len(line) > 4:
            yield from table_row(_inline(line).strip("|").split("||"), header=True)
        elif line.startswith("|") and line.endswith("|") and len(line) > 2:
            yield from table_row(_inline(line).replace("||", "|")[1:-1].split("|"), header=False)
        else:
            yield _LINE_BREAK.sub("\n", _inline(line)).strip()


def _inline(text: str) -> str:
    pieces = _MONO.split(text)
    return "".join(f"`{piece}`" if number % 2 else _marked(piece) for number, piece in enumerate(pieces))


def _marked(text: str) -> str:
    if not _SIGNS.search(text):
        return text
    text = _BOX.sub(lambda box: f"**{title}** " if (title := _title(box[1])) else "", _LOOKS.sub("", text))
    text = _IMAGE.sub("", text)
    text = _MENTION.sub(lambda who: "@user" if who[1].startswith("accountid:") else f"@{who[1]}", text)
    text = _BOLD.sub(r"**\1**", _FILE.sub(r"\1", text))
    return _LINK.sub(_link, _BARE_LINK.sub(r"\1", text))


def _link(link: re.Match[str]) -> str:
    text, target = link[1].strip(), link[2]
    if target.startswith(("#", "^", "~")):
        return text
    return f"[{text}]({target})" if _TARGET.match(target) else link[0]


def _title(settings: str | None) -> str:
    pairs = (setting.partition("=") for setting in (settings or "").split("|"))
    return next((value.strip() for key, _, value in pairs if key.strip() == "title"), "")
