"""Markdown: kept as it is, because headings guide the chunking and code must stay code."""

import re

from data_jobs.extract.encoding import decode
from data_jobs.extract.part import Options, Part

_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_TITLE_FIELD = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document. Its title is the front matter's, else the first heading; front matter is no part of the text."""
    text = decode(data)
    front = _FRONT_MATTER.match(text)
    body = text[front.end() :] if front else text
    found = (_TITLE_FIELD.search(front.group(1)) if front else None) or _HEADING.search(body)
    return [Part(text=body, title=found.group(1).strip() if found else "")]
