"""Markdown: kept as it is, because headings guide the chunking and code must stay code."""

import re

from data_jobs.extract.encoding import decode
from data_jobs.extract.part import Options, Part

# YAML or TOML; a rule at the top of a text begins with neither.
_FRONT_MATTER = re.compile(
    r"\A(---|\+\+\+)[ \t]*\r?\n(\s*(?:#[^\n]*\n\s*)*[\w-]+[ \t]*[:=].*?)\r?\n\1[ \t]*(?:\r?\n|\Z)", re.DOTALL
)
_TITLE_FIELD = re.compile(r"^title[ \t]*[:=](.*)$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t](.*)$", re.MULTILINE)


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document. Its title is the front matter's, else the first heading; front matter is no part of the text."""
    text = decode(data)
    front = _FRONT_MATTER.match(text)
    body = text[front.end() :] if front else text
    found = (_TITLE_FIELD.search(front.group(2)) if front else None) or _HEADING.search(body)
    return [Part(text=body, title=_words(found.group(1)) if found else "")]


def _words(said: str) -> str:
    """A title without what closes it: quotes of a field, hashes after a heading."""
    said = said.strip()
    if said[:1] in ("'", '"') and said[:1] == said[-1:]:
        return said[1:-1].strip()
    bare = said.rstrip("#")
    return bare.rstrip() if bare != said and bare[-1:] in ("", " ", "\t") else said
