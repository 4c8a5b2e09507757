"""JSON: one object or a list of objects, each a document. What an object is (an issue, a chat, a record) is told by its shape."""

import json
from typing import Any

from data_jobs.extract import jsonl
from data_jobs.extract.arrow import of_dataset
from data_jobs.extract.chats import is_turn
from data_jobs.extract.encoding import decode
from data_jobs.extract.part import Options, Part, Unreadable
from data_jobs.extract.record import as_part, finished, plain, too_deep
from data_jobs.extract.shapes import parts_of, shaped

_OF_ONE_RECORD = {"text", "content", "body", "title", "name", "subject", "id", "key"}


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document an object: without a name for a single one, else "item 1" and so on, or the key of an issue.

    Lines of JSON under the wrong ending are read as such. Raises Unreadable with line and column on broken JSON.
    """
    text = decode(data)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and _is_object(text.lstrip().partition("\n")[0]):
            return jsonl.extract(data, options)
        where = f"line {error.lineno}, column {error.colno}"
        raise Unreadable(f"the JSON is broken at {where} ({error.msg}); correct it or export it again") from None
    except RecursionError:
        raise Unreadable("the JSON is nested too deep to be read; flatten it") from None
    except ValueError as error:  # a number of thousands of digits
        raise Unreadable(f"the JSON cannot be read ({error}); correct it or export it again") from None
    if isinstance(value, dict):
        return finished(_of_object(value, options))
    if isinstance(value, list):
        return finished(_of_list(value, options, {}))
    raise Unreadable('the JSON is neither an object nor a list of objects; put the text into {"text": …}')


def _of_object(value: dict[str, Any], options: Options) -> list[Part]:
    told = of_dataset(value)
    if told is not None:
        return told
    parts = shaped(value, "", options)
    if parts is not None:
        return parts
    lists = [
        key for key, inner in value.items() if isinstance(inner, list) and inner and all(isinstance(one, dict) for one in inner)
    ]
    if len(lists) != 1 or _OF_ONE_RECORD & value.keys():
        return [as_part(value, "", options)]
    envelope = {key: inner for key, inner in value.items() if key != lists[0] and inner not in (None, "", [], {})}
    if too_deep(envelope):
        return [as_part(envelope, "")]
    return _of_list(value[lists[0]], options, plain(envelope))


def _of_list(items: list[Any], options: Options, envelope: dict[str, Any]) -> list[Part]:
    if items and all(is_turn(item) for item in items):
        return parts_of({**envelope, "messages": items}, "", options)
    parts: list[Part] = []
    for number, item in enumerate(items, 1):
        if isinstance(item, dict):
            parts += parts_of(item, f"item {number}", options)
        else:
            problem = 'the item is not a JSON object; put the text into {"text": …}'
            parts.append(Part(text="", name=f"item {number}", problem=problem))
    if envelope:
        for part in parts:
            part.meta["around"] = envelope
    return parts


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
