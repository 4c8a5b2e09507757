"""A record (a row of a table, an object of a JSON file) as one document. Knows no file format."""

import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, time
from typing import Any

from data_jobs.extract.part import Options, Part

_TEXT = ("text", "content", "body")
_TITLE = ("title", "name", "subject")
_DEEPEST = 100
_MISSING = object()
_NESTED = (dict, list)
_SEVERAL = (list, tuple, set, frozenset)


def as_part(record: Mapping[str, Any], name: str, options: Options = Options()) -> Part:
    """The record's own text field if it has one, else all its fields as ``key: value`` lines.

    Fields that the options name must be there (they may be null): a record without them is set aside.
    """
    if too_deep(record):
        return Part(
            text="", name=name, problem=f"the record is nested deeper than {_DEEPEST} levels; flatten it", reason="too_deep"
        )
    for wanted in (options.text_field, options.title_field):
        if wanted and not has_field(record, wanted):
            there = ", ".join(str(key) for key in list(record)[:20]) or "none"
            problem = f"the record has no field '{wanted}'; its fields are {there}"
            return Part(text="", name=name, problem=problem, reason="missing_field")
    keys = {str(key).strip().casefold(): key for key in record}
    text_path = options.text_field or next((keys[key] for key in _TEXT if isinstance(record.get(keys.get(key, "")), str)), None)
    title_path = options.title_field or next(
        (keys[key] for key in _TITLE if isinstance(record.get(keys.get(key, "")), str)), None
    )
    title = _said(_field(record, title_path)) if title_path is not None else ""
    if text_path is None:
        filled = ((key, value) for key, value in record.items() if value not in (None, "", [], {}))
        return Part(text="\n".join(f"{key}: {_said(value)}" for key, value in filled), title=title, name=name)
    text = _field(record, text_path)
    rest = _without(record, text_path)
    meta = _without(rest, title_path) if title_path is not None else rest
    return Part(text=text if isinstance(text, str) else _said(text), title=title, name=name, meta=meta)


def has_field(record: Mapping[str, Any], path: str) -> bool:
    """Whether the record has the field: a key of that very name, or a dotted path into the objects in it."""
    return _field(record, path) is not _MISSING


def too_deep(value: Any) -> bool:
    """Whether objects and lists in ``value`` are nested so deep that walking through them would break."""
    level = [value]
    for _ in range(_DEEPEST):
        inner = [child for one in level for child in (one.values() if isinstance(one, dict) else one)]
        level = [child for child in inner if isinstance(child, _NESTED)]
        if not level:
            return False
    return True


def finished(parts: Iterable[Part]) -> list[Part]:
    """The parts as they may leave an extractor: no two of one name, valid Unicode only, meta of nothing but JSON's types."""
    seen: dict[str, int] = {}
    out = []
    for part in parts:
        name = whole(part.name)
        times = seen[name] = seen.get(name, 0) + 1
        while name and times > 1 and f"{name} ({times})" in seen:
            times += 1
        if name and times > 1:
            name = f"{name} ({times})"
            seen[name] = 1
        meta = plain(part.meta) if part.meta else part.meta
        out.append(Part(whole(part.text), whole(part.title), name, whole(part.problem), part.reason, part.media_type, meta))
    return out


def plain(value: Any) -> Any:
    """The value in JSON's types: dates and decimals as text, bytes left out. The caller has asked ``too_deep`` before."""
    if isinstance(value, str):
        return whole(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {whole(str(key)): plain(inner) for key, inner in value.items() if not isinstance(inner, bytes)}
    if isinstance(value, _SEVERAL):
        return [plain(inner) for inner in value if not isinstance(inner, bytes)]
    return value.isoformat() if isinstance(value, (date, time)) else whole(str(value))


def whole(text: str) -> str:
    """The text with U+FFFD for half characters (lone surrogates, which JSON can spell): they can be written nowhere."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _field(record: Mapping[str, Any], path: str) -> Any:
    if path in record:
        return record[path]
    head, dot, rest = path.partition(".")
    inner = record.get(head)
    return _field(inner, rest) if dot and isinstance(inner, Mapping) else _MISSING


def _without(record: Mapping[str, Any], path: str) -> dict[str, Any]:
    if path in record:
        return {str(key): value for key, value in record.items() if key != path}
    head, _, rest = path.partition(".")
    return {str(key): _without(value, rest) if key == head else value for key, value in record.items()}


def _said(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return json.dumps(value, ensure_ascii=False)
