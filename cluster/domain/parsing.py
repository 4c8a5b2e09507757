"""From a mapping that a person wrote to a frozen type, or to one sentence that says what is wrong with it."""

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from cluster.errors import InvalidInput, near

T = TypeVar("T")


def _keys_at(kind: Any, path: tuple[Any, ...]) -> list[str]:
    """The valid keys of the model that lies at ``path`` inside ``kind``, as far as annotations tell."""
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
            kind = kind.model_fields[part].annotation
        else:
            inner = [arg for arg in get_args(kind) if arg not in (type(None), ...)]
            kind = inner[-1] if inner else kind
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        models = [arg for arg in get_args(kind) if isinstance(arg, type) and issubclass(arg, BaseModel)]
        kind = models[0] if models else kind
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def explain(error: ValidationError, kind: Any, where: str) -> str:
    """One sentence for the first thing that a ValidationError found: the place, the key, the value, the way out."""
    found = error.errors(include_url=False)
    # A misspelt key is reported twice, as unknown and as missing: the first says what to mend.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    path = tuple(first["loc"])
    key = ".".join(str(part) for part in path) or "(top)"
    if first["type"] == "extra_forbidden":
        valid = _keys_at(kind, path[:-1])
        close = near(str(path[-1]), valid, most=1)
        hint = f"did you mean '{close[0]}'?" if close else f"valid keys are {', '.join(valid)}."
        return f"{where}: unknown key '{key}'; {hint}"
    if first["type"] == "missing":
        return f"{where}: the key '{key}' is missing; add it."
    reason = first["msg"].removeprefix("Value error, ")
    if not path and first["type"] == "value_error":  # of several keys together, which the reason names
        return f"{where}: {reason}."
    value = repr(first.get("input"))
    value = value if len(value) <= 80 else value[:77] + "..."
    return f"{where}: '{key}' is {value}, which cannot be used: {reason[:1].lower() + reason[1:]}."


def parse(kind: type[T] | Any, value: Any, where: str, error: type[InvalidInput] = InvalidInput) -> T:
    """``value`` as a ``kind`` (a model or any annotation). Raises ``error`` with one sentence that starts with ``where``."""
    if value is None and isinstance(kind, type) and issubclass(kind, BaseModel):
        value = {}
    try:
        parsed: T = TypeAdapter(kind).validate_python(value)
    except ValidationError as broken:
        raise error(explain(broken, kind, where)) from None
    return parsed
