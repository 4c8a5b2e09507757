"""A record (a row of a table, an object of a JSON file) as one document. Knows no file format."""

import json
from collections.abc import Mapping
from typing import Any

from data_jobs.extract.part import Part

_TEXT = ("text", "content", "body")
_TITLE = ("title", "name", "subject")


def as_part(record: Mapping[str, Any], name: str) -> Part:
    """The record's own text field if it has one, else all its fields as ``key: value`` lines."""
    keys = {str(key).strip().casefold(): key for key in record}
    text_key = next((keys[key] for key in _TEXT if isinstance(record.get(keys.get(key, "")), str)), None)
    title_key = next((keys[key] for key in _TITLE if isinstance(record.get(keys.get(key, "")), str)), None)
    title = str(record[title_key]) if title_key is not None else ""
    if text_key is not None:
        meta = {str(key): value for key, value in record.items() if key not in (text_key, title_key)}
        return Part(text=str(record[text_key]), title=title, name=name, meta=meta)
    filled = ((key, value) for key, value in record.items() if value not in (None, "", [], {}))
    return Part(text="\n".join(f"{key}: {_said(value)}" for key, value in filled), title=title, name=name)


def _said(value: Any) -> str:
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
