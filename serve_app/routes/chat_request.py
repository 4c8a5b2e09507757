"""A chat completion's request, as OpenAI defines it."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from cluster.domain.base import Frozen, Name
from cluster.domain.conversations import Message
from serve_app.ask import AUTO, Ask
from serve_app.identity import Identity
from serve_app.routes.sampling import SCHEMA_CHARACTERS, Sampling
from serve_app.tool_use import call_schema

DEEPEST = 64
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Json = dict[str, Any]


def _bounded(value: Json | None) -> Json | None:
    """A schema that a grammar can be made of in no time."""
    try:
        text = json.dumps(value)
    except (RecursionError, ValueError):
        raise ValueError("it is no JSON schema") from None
    depth = deepest = 0
    for sign in text:
        depth += (sign in "{[") - (sign in "}]")
        deepest = max(deepest, depth)
    if len(text) > SCHEMA_CHARACTERS or deepest > DEEPEST:
        raise ValueError(f"a schema may have {SCHEMA_CHARACTERS} characters and be {DEEPEST} deep")
    return value


class TextPart(BaseModel):
    """A part of a message's content; only text is understood."""

    type: Literal["text"]
    text: str


class CalledFunction(BaseModel):
    name: FunctionName
    arguments: str = "{}"


class ToolCall(BaseModel):
    """A call that the assistant made."""

    id: str = Field(default="", max_length=100)
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(BaseModel):
    """A message as clients send it."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=128)
    tool_call_id: str | None = Field(default=None, max_length=100)

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    @property
    def of_tools(self) -> bool:
        """A call or a result: known to templates, and no part of a recorded history."""
        return self.role == "tool" or bool(self.tool_calls)

    def for_template(self) -> Json:
        """In the form that chat templates take. Raises ValueError when a call's arguments are no JSON object."""
        message: Json = {"role": self.role, "content": self.text}
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.tool_calls:
            message["tool_calls"] = [_call(one) for one in self.tool_calls]
        return message


def _call(one: ToolCall) -> Json:
    arguments = json.loads(one.function.arguments or "{}")
    if not isinstance(arguments, dict):
        raise ValueError("a call's arguments must be a JSON object")
    return {"id": one.id, "type": "function", "function": {"name": one.function.name, "arguments": arguments}}


class Function(BaseModel):
    name: FunctionName
    description: str | None = Field(default=None, max_length=4000)
    parameters: Json | None = None

    _bounded = field_validator("parameters")(_bounded)


class Tool(BaseModel):
    type: Literal["function"]
    function: Function


class ChosenFunction(BaseModel):
    name: FunctionName


class ChosenTool(BaseModel):
    type: Literal["function"] = "function"
    function: ChosenFunction


class JsonSchema(BaseModel):
    name: str = Field(default="", max_length=100)
    form: Json = Field(alias="schema")

    _bounded = field_validator("form")(_bounded)


class ResponseFormat(BaseModel):
    """What the answer must be, as a whole."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("type json_schema needs a json_schema")
        return self

    def for_engine(self) -> Json | None:
        if self.json_schema is not None and self.type == "json_schema" and self.json_schema.form:
            return {"json": self.json_schema.form}
        return None if self.type == "text" else {"json_object": True}


class Extension(Frozen):
    """Treadle's own wishes: ``record`` False leaves no turn behind; ``open_only`` answers from what every user may read; ``handover`` names
    the agent that answers from here on."""

    retrieve: bool = True
    open_only: bool = False
    record: bool = True
    conversation_id: str | None = Field(default=None, max_length=40)
    handover: Name | None = None


class ChatRequest(Sampling):
    """The fields that are used; others that OpenAI knows are accepted and have no effect."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=2000)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        default=None, max_length=16
    )
    treadle: Extension = Extension()

    @model_validator(mode="after")
    def _asks_something(self) -> "ChatRequest":
        last = self.messages[-1]
        if last.role == "tool":
            last = self.messages[self._last_question]
        if last.role != "user" or not last.text.strip():
            raise ValueError("the last message must be the user's and hold text, or be the result of a tool that follows one")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        if isinstance(self.tool_choice, ChosenTool) and self.called not in {tool.function.name for tool in self.tools or ()}:
            raise ValueError(f"tool_choice names '{self.called}', which is not among the tools")
        if self.tool_choice == "required" and not self.tools:
            raise ValueError("tool_choice is required and there are no tools")
        if self.treadle.handover is not None and self.model != AUTO:
            raise ValueError(f"treadle.handover says who answers, and so does model '{self.model}'; make model '{AUTO}'")
        for message in self.messages:
            if message.tool_calls:
                message.for_template()
        return self

    @property
    def _last_question(self) -> int:
        return max((number for number, one in enumerate(self.messages) if one.role == "user"), default=-1)

    @property
    def called(self) -> str:
        """``auto``, ``required``, ``none`` or the name of the function that must be called."""
        if isinstance(self.tool_choice, ChosenTool):
            return self.tool_choice.function.name
        return self.tool_choice or "auto"

    def ask(self, caller: Identity) -> Ask:
        """The request in our words."""
        plain = [
            Message(role="system" if one.role == "developer" else one.role, content=one.text)
            for one in self.messages[: self._last_question + 1]
            if not one.of_tools
        ]
        offered = self.tools if self.tools and self.called != "none" else []
        tools = tuple(tool.model_dump(exclude_none=True) for tool in offered)
        thread: tuple[Json, ...] = ()
        if tools or any(one.of_tools for one in self.messages):
            thread = tuple(one.for_template() for one in self.messages if one.role not in ("system", "developer"))
        forms = self.response_format.for_engine() if self.response_format else None
        if tools and self.called != "auto":
            forms = {"json": call_schema(tools, self.called)}
        return Ask(
            user=caller.user,
            role=caller.role,
            model=self.model,
            messages=tuple(plain),
            conversation_id=self.treadle.conversation_id,
            handover=self.treadle.handover,
            retrieve=self.treadle.retrieve,
            open_only=self.treadle.open_only,
            record=self.treadle.record,
            stream=bool(self.stream),
            seed=self.seed,
            overrides=self.overrides(self.max_completion_tokens or self.max_tokens),
            extra=self.extra(
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
                structured_outputs=forms,
                skip_special_tokens=False if tools and self.called == "auto" else None,
            ),
            choices=self.n or 1,
            tools=tools,
            thread=thread,
            metadata=self.metadata or {},
        )
