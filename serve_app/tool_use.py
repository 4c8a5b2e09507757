"""Tools that the client offers: what the base may be made to write for them, and the calls taken out of what it wrote.

``auto`` leaves it to the model, whose calls vLLM's parser finds (``engine.tool_parser``; without one the text is passed on as it is).
``required`` and a named function hold the answer to a JSON schema, which needs no parser. The tools are run by the client.
"""

import json
from collections.abc import Sequence
from typing import Any

from cluster.domain.base import new_id
from serve_app.engine import Engine, ToolCalls

Tool = dict[str, Any]


def call_schema(tools: Sequence[Tool], choice: str) -> dict[str, Any]:
    """The JSON schema of an answer that calls. ``choice`` is "required" (a list of calls) or a function's name (its arguments)."""
    functions = {tool["function"]["name"]: tool["function"].get("parameters") or {"type": "object"} for tool in tools}
    if choice in functions:
        return dict(functions[choice])
    calls = [
        {
            "type": "object",
            "properties": {"name": {"type": "string", "enum": [name]}, "parameters": parameters},
            "required": ["name", "parameters"],
        }
        for name, parameters in functions.items()
    ]
    return {"type": "array", "minItems": 1, "items": {"anyOf": calls}}


async def called(engine: Engine, text: str, tools: Sequence[Tool], choice: str) -> ToolCalls:
    """The answer taken apart. What was cut off before its end is all content."""
    if choice == "auto":
        return await engine.tool_calls(text, tools)
    try:
        said = json.loads(text)
        if choice != "required":
            return ToolCalls("", ((choice, text),))
        return ToolCalls("", tuple((call["name"], json.dumps(call["parameters"])) for call in said))
    except (ValueError, KeyError, TypeError):
        return ToolCalls(text, ())


def as_message(found: ToolCalls) -> dict[str, Any]:
    """An assistant's message as OpenAI writes it."""
    calls = [
        {"id": new_id("call"), "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in found.calls
    ]
    return {"role": "assistant", "content": found.content or (None if calls else ""), **({"tool_calls": calls} if calls else {})}
