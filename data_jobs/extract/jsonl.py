"""JSON lines: each object a document. A line that is no object is set aside; the others go on."""

import json

from data_jobs.extract.encoding import decode
from data_jobs.extract.part import Part
from data_jobs.extract.record import as_part


def extract(data: bytes) -> list[Part]:
    """One document a line, named by its line number. Only line feeds end a line: U+2028 may stand inside a string."""
    parts = []
    for number, line in enumerate(decode(data).split("\n"), 1):
        if not line.strip():
            continue
        name = f"line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            parts.append(Part(text="", name=name, problem=f"the line is not JSON ({error}); correct or remove it"))
            continue
        if isinstance(record, dict):
            parts.append(as_part(record, name))
        else:
            parts.append(Part(text="", name=name, problem='the line is not a JSON object; put the text into {"text": …}'))
    return parts
