"""Answers that must fit a JSON schema.

JSON schemas are JSON Schema drafts 4 to 2020-12, checked by the jsonschema package with three differences, because they meet what a model
wrote: nothing is fetched (a reference stays inside its schema), ``pattern`` runs on RE2 (linear time), and ``patternProperties`` is
refused, because that package runs it on Python's own patterns. ``format`` is not checked, as the standard has it by default.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import re2

LONGEST_DETAIL = 300
_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
_NAMED = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
_VALUES = frozenset({"const", "enum", "default", "examples"})


def json_in(answer: str) -> Any:
    """The JSON value that an answer is, or holds in its one code fence. Raises ValueError."""
    fenced = _FENCE.findall(answer)
    text = fenced[0] if len(fenced) == 1 else answer
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("the answer is JSON nested too deeply") from None
    except ValueError:
        raise ValueError("the answer is not JSON" if len(fenced) < 2 else "the answer has several code fences") from None


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def against_schema(schema: str, answer: str) -> str:
    """What keeps the answer from fitting the schema (a JSON text): the place and the reason; "" where it fits."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        value = json_in(answer)
    except ValueError as error:
        return str(error)
    try:
        broken = best_match(_validator(schema).iter_errors(value))
    except (Unresolvable, RecursionError) as error:
        return f"the schema cannot be followed ({type(error).__name__})"
    if broken is None:
        return ""
    place = "/".join(str(part) for part in broken.absolute_path)
    return f"{'at ' + place if place else 'as a whole'}: {broken.message}"[:LONGEST_DETAIL]


def check_schema(schema: str) -> None:
    """Raises ValueError saying what makes the text no schema that can be used."""
    from referencing.exceptions import Unresolvable

    validator = _validator(schema)
    trivial: tuple[Any, ...] = (None, True, 0, "", [], {})
    try:
        for value in trivial:
            list(validator.iter_errors(value))
    except RecursionError:
        raise ValueError("its JSON schema refers to itself without end") from None
    except Unresolvable as error:
        raise ValueError(f"its JSON schema refers to {str(error)[:80]}, which is not there") from None


@lru_cache(maxsize=512)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator, validators
    from jsonschema.exceptions import SchemaError, ValidationError
    from referencing import Registry

    try:
        value = json.loads(schema)
    except (ValueError, RecursionError):
        raise ValueError("its JSON schema is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("its JSON schema is no object")
    drafted = validators.validator_for(value, default=Draft202012Validator)
    try:
        drafted.check_schema(value)
    except SchemaError as error:
        place = "/".join(str(part) for part in error.absolute_path) or "the top"
        raise ValueError(f"its JSON schema is wrong at {place}: {error.message[:160]}") from None
    except RecursionError:
        raise ValueError("its JSON schema is nested too deeply") from None
    for part in _parts(value):
        _check_part(part, value)

    def pattern(_: Any, wanted: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and _searched(wanted).search(instance) is None:
            yield ValidationError(f"{instance[:80]!r} does not match {wanted!r}")

    return validators.extend(drafted, {"pattern": pattern})(value, registry=Registry())


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and every schema in it; values that are data are left out."""
    if isinstance(schema, list):
        for one in schema:
            yield from _parts(one)
    if not isinstance(schema, dict):
        return
    yield schema
    for key, inner in schema.items():
        if key in _VALUES:
            continue
        yield from _parts(list(inner.values()) if key in _NAMED and isinstance(inner, dict) else inner)


def _check_part(part: dict[str, Any], whole: dict[str, Any]) -> None:
    if "patternProperties" in part:
        raise ValueError("its JSON schema uses patternProperties, which is not supported; name the properties instead")
    if isinstance(part.get("pattern"), str):
        _searched(part["pattern"])
    for key in ("$ref", "$dynamicRef", "$recursiveRef"):
        ref = part.get(key)
        if not isinstance(ref, str):
            continue
        if not ref.startswith("#"):
            raise ValueError(f"its JSON schema refers to '{ref[:80]}', and nothing is fetched; put that schema under $defs")
        if ref.startswith("#/") and not _there(whole, unquote(ref[2:])):
            raise ValueError(f"its JSON schema refers to '{ref[:80]}', which is not there")


def _there(value: Any, pointer: str) -> bool:
    for step in pointer.split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            return False
    return True


@lru_cache(maxsize=2048)
def _searched(pattern: str) -> Any:
    """A compiled RE2 pattern that minds the case, as JSON Schema's do. Raises ValueError."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        raise ValueError(f"the pattern '{pattern[:80]}' of its JSON schema is not valid RE2") from None
