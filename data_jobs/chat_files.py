"""A conversation file to its conversations, each with the line (or item) where it stands, or why there is none.

JSON lines are read line by line, within bounded memory; JSON and CSV files are read whole up to a bound. Messages of a log are held
until their file's end, because a conversation may go on there.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import from_json

from cluster.domain.data_recipes import ConversationsRecipe
from data_jobs.chat_formats import ANSWER, QUESTION, ROLE, TEXT, TURNS, LogMessage, Thread, Unusable, key_of, named, parsed
from data_jobs.extract.encoding import decode
from data_jobs.extract.part import NotText
from data_jobs.message_logs import threaded

Place = tuple[int, str, Thread | Unusable]
"""A line or item number, what to call that ("line" or "item"), and what was there."""
ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_LONGEST_LINE = 16 << 20
_LARGEST_FILE = 256 << 20
_WRAPPERS = ("data", "conversations", "dialogues", "threads", "rows", "items", "messages")


def conversations(path: Path, recipe: ConversationsRecipe) -> Iterator[Place]:
    """Every conversation of the file, and every record that is none. Raises Unusable for the file as a whole, and OSError."""
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        raise Unusable(
            "unknown_format", f"conversations are read from {', '.join(ENDINGS)}; convert it and give it such an ending"
        )
    if suffix not in (".jsonl", ".ndjson") and path.stat().st_size > _LARGEST_FILE:
        raise Unusable("too_large", f"it has more than {_LARGEST_FILE >> 20} MiB; split it, or write it as JSON lines")
    if suffix == ".json":
        yield from _threaded(_items(path.read_bytes()), "item", recipe)
    elif suffix in (".csv", ".tsv"):
        yield from _threaded(_csv_rows(path.read_bytes(), recipe), "line", recipe)
    else:
        with path.open("rb") as file:
            yield from _threaded(_lines(file), "line", recipe)


def _threaded(records: Iterator[tuple[int, Any]], unit: str, recipe: ConversationsRecipe) -> Iterator[Place]:
    log: list[LogMessage] = []
    for number, value in records:
        try:
            one = value if isinstance(value, Unusable) else parsed(value, number, recipe)
        except Unusable as error:
            one = error
        if isinstance(one, LogMessage):
            log.append(one)
        else:
            yield number, unit, one
    yield from ((number, unit, one) for number, one in threaded(log, recipe.gap_hours))


def _lines(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(_LONGEST_LINE)
            yield number, Unusable("too_large", f"it is longer than {_LONGEST_LINE >> 20} MiB")
            continue
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            yield number, _json(text)


def _json(data: bytes | str) -> Any:
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError as error:
        return Unusable("corrupt", f"it is not JSON ({str(error)[:200]})")


def _items(data: bytes) -> Iterator[tuple[int, Any]]:
    """The records of a JSON file: a list, a list under a usual key, or one conversation alone."""
    value = _json(_text(data))
    if isinstance(value, Unusable):
        raise value
    if isinstance(value, dict):
        wrapped = next((value[key] for key in value if key_of(key) in _WRAPPERS and _holds_records(key, value[key])), None)
        value = [value] if wrapped is None else wrapped
    yield from enumerate(value if isinstance(value, list) else [value], 1)


def _holds_records(key: str, items: Any) -> bool:
    """Whether a list under one of the usual keys is of records, not the turns of a single conversation."""
    if not (isinstance(items, list) and items and isinstance(items[0], dict)):
        return False
    keys = {key_of(inner) for inner in items[0]}
    if key_of(key) not in TURNS:
        return True
    log = key_of(key) == "messages" and "role" not in keys and bool(keys & {"date", "ts", "timestamp", "time"})
    return log or any(isinstance(items[0].get(inner), list) for inner in items[0] if key_of(inner) in TURNS)


def _text(data: bytes) -> str:
    try:
        return decode(data)
    except NotText as error:
        raise Unusable(error.reason, error.message) from None


def _csv_rows(data: bytes, recipe: ConversationsRecipe) -> Iterator[tuple[int, Any]]:
    """The rows as records under the first row's names. The separator is the one under which that row has names that are known."""
    csv.field_size_limit(_LONGEST_LINE)
    text = _text(data)
    for separator in ",;\t|":
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        try:
            names = [key_of(name) for name in next(reader, [])]
        except csv.Error as error:
            raise Unusable("corrupt", f"it is not CSV ({error})") from None
        known = named(dict.fromkeys(names), recipe.fields).keys()
        if (known & set(QUESTION) and known & set(ANSWER)) or (known & set(ROLE) and known & set(TEXT)):
            break
    else:
        raise Unusable("unknown_format", "its first row names neither question and answer nor author and text; see 'fields'")
    yield from _records(reader, names)


def _records(reader: Any, names: list[str]) -> Iterator[tuple[int, Any]]:
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield number, Unusable("corrupt", f"it is not CSV ({error})")
            continue
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            yield number, Unusable("corrupt", f"it has {len(row)} columns, the first row {len(names)}")
        else:
            yield number, dict(zip(names, row, strict=True))
