"""JSON lines: each object a document. A line that is no object is set aside; the others go on."""

import json

from data_jobs.extract.lines import lines_of
from data_jobs.extract.part import Options, Part
from data_jobs.extract.record import finished
from data_jobs.extract.shapes import parts_of

_LONGEST = 64 << 20


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """The documents of each line, named by its line number, counted from ``options.first``.

    Only line feeds end a line: U+2028 may stand inside a string. Lines over 64 million characters are not parsed.
    """
    parts: list[Part] = []
    for number, line in enumerate(lines_of(data), options.first):
        if not line.isspace():
            parts += _parts_of_line(line, f"line {number}", options)
    return finished(parts)


def _parts_of_line(line: str, name: str, options: Options) -> list[Part]:
    if len(line) > _LONGEST:
        return [
            Part(text="", name=name, problem=f"the line has {len(line)} characters; split it below {_LONGEST}", reason="too_long")
        ]
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        problem = f"the line is not JSON ({error.msg} at column {error.colno}); correct or remove it"
        return [Part(text="", name=name, problem=problem)]
    except RecursionError:
        return [Part(text="", name=name, problem="the line is nested too deep to be read; flatten it", reason="too_deep")]
    except ValueError as error:  # a number of thousands of digits
        return [Part(text="", name=name, problem=f"the line cannot be read ({error}); correct or remove it")]
    if not isinstance(record, dict):
        return [Part(text="", name=name, problem='the line is not a JSON object; put the text into {"text": …}')]
    return parts_of(record, name, options)
