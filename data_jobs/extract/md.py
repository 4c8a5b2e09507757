"""Markdown: kept as it is, because headings guide the chunking and code must stay code; but for what no reader sees: HTML comments,
anchors without text, and the place of a table of contents."""

import re

from data_jobs.extract.encoding import decode
from data_jobs.extract.part import Options, Part

# YAML or TOML; a rule at the top of a text begins with neither.
_FRONT_MATTER = re.compile(
    r"\A(---|\+\+\+)[ \t]*\r?\n(\s*(?:#[^\n]*\n\s*)*[\w-]+[ \t]*[:=].*?)\r?\n\1[ \t]*(?:\r?\n|\Z)", re.DOTALL
)
_TITLE_FIELD = re.compile(r"^title[ \t]*[:=](.*)$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t](.*)$", re.MULTILINE)

# Code, which is passed over, and what may be unseen. An inline piece of code ends in its line.
_TOKEN = re.compile(
    r"^[ \t>]*(?P<fence>`{3,}|~{3,})[^\n]*$|(?P<ticks>`+)[^`\n](?:[^\n]*?[^`\n])??(?P=ticks)(?!`)"
    r"|(?P<comment><!--)|(?P<gone><a\b[^<>]{0,200}></a>|^\[TOC\][ \t]*$)",
    re.MULTILINE,
)
_LINE_ENDS = re.compile(r"[ \t]*(?:\r?\n|\Z)")


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document. Its title is the front matter's, else the first heading; front matter is no part of the text."""
    text = decode(data)
    front = _FRONT_MATTER.match(text)
    body = text[front.end() :] if front else text
    found = (_TITLE_FIELD.search(front.group(2)) if front else None) or _HEADING.search(body)
    body = _seen(body)
    return [Part(text=body, title=_words(found.group(1)) if found else "")]


def _words(said: str) -> str:
    """A title without what closes it: quotes of a field, hashes after a heading."""
    said = said.strip()
    if said[:1] in ("'", '"') and said[:1] == said[-1:]:
        return said[1:-1].strip()
    bare = said.rstrip("#")
    return bare.rstrip() if bare != said and bare[-1:] in ("", " ", "\t") else said


def _seen(body: str) -> str:
    """The text without what no reader sees; a line of nothing else goes as a whole."""
    kept: list[str] = []
    place, last_comment = 0, body.rfind("-->")
    found = _TOKEN.search(body)
    while found:
        end = found.end()
        if found["fence"]:
            mark = found["fence"]
            closing = re.compile(rf"^[ \t>]*{mark[0]}{{{len(mark)},}}[ \t]*$", re.MULTILINE).search(body, end)
            end = closing.end() if closing else len(body)
        elif found["gone"] or (found["comment"] and end <= last_comment):
            end = body.index("-->", end) + 3 if found["comment"] else end
            before = body.rfind("\n", place, found.start()) + 1 or place
            rest = _LINE_ENDS.match(body, end)
            alone = (before == 0 or body[before - 1] == "\n") and rest is not None and not body[before : found.start()].strip()
            kept.append(body[place : before if alone else found.start()])
            place = end = rest.end() if rest and alone else end
        found = _TOKEN.search(body, end)
    return "".join([*kept, body[place:]])
