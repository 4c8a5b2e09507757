"""The one renderer of prompts: serving, training and evaluating all go through here, then through the base's chat template."""

from typing import Any, Sequence

from cluster.domain.conversations import Message
from cluster.errors import InvalidInput

PROMPT_CONTRACT = 1
"""Raised when the rendered form changes: adapters trained under another contract need a new major version."""


def user_content(question: str, passages: Sequence[str] = ()) -> str:
    """The user message: the question alone, or numbered passages followed by the question."""
    if not passages:
        return question
    numbered = "\n".join(f"[{number}] {' '.join(text.split())}" for number, text in enumerate(passages, 1))
    return f"Passages:\n{numbered}\n\nQuestion: {question}"


def render(agent_prompt: str, question: str, history: Sequence[Message] = (), passages: Sequence[str] = ()) -> list[Message]:
    """The messages of one turn, up to and including the user's: system (when there is a prompt), history, user."""
    system = [Message(role="system", content=agent_prompt)] if agent_prompt else []
    return [*system, *history, Message(role="user", content=user_content(question, passages))]


def as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages in the form that chat templates take."""
    return [{"role": message.role, "content": message.content} for message in messages]


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of the prompt, ending where the assistant starts to write. ``tokenizer`` is a transformers tokenizer."""
    ids = tokenizer.apply_chat_template(as_dicts(messages), add_generation_prompt=True, tokenize=True, return_dict=False)
    return list(ids)


def tool_prompt_ids(
    tokenizer: Any, messages: Sequence[Message], thread: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]
) -> list[int]:
    """Token ids of a prompt with tools. ``messages`` are as ``render`` gives them; ``thread`` is the same talk in the template's own form,
    calls and their results included, without system messages. Raises InvalidInput when the template knows no tools."""
    template = tokenizer.get_chat_template(tools=list(tools) or None)
    spoken = any(message["role"] == "tool" or message.get("tool_calls") for message in thread)
    if (tools and "tools" not in template) or (spoken and "tool_calls" not in template):
        raise InvalidInput(
            "The base model's chat template knows no tools; leave tools and their results out, or serve a base that does."
        )
    system = [message for message in as_dicts(messages) if message["role"] == "system"]
    last = max(number for number, message in enumerate(thread) if message["role"] == "user")
    asked = {**thread[last], "content": messages[-1].content}
    whole = [*system, *thread[:last], asked, *thread[last + 1 :]]
    ids = tokenizer.apply_chat_template(
        whole, tools=list(tools) or None, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return list(ids)


def training_ids(tokenizer: Any, messages: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
    """``(prompt_ids, answer_ids)`` of one training example; their concatenation is what the model sees.

    The answer's ids are those that follow the prompt in the fully rendered conversation, end-of-turn token included. Raises
    ValueError when the template does not render the prompt as a prefix of the conversation, because then no equality with serving
    can hold.
    """
    prompt = prompt_ids(tokenizer, messages)
    whole = list(
        tokenizer.apply_chat_template(
            as_dicts([*messages, Message(role="assistant", content=answer)]), tokenize=True, return_dict=False
        )
    )
    if whole[: len(prompt)] != prompt:
        raise ValueError(
            "the chat template does not render the prompt as a prefix of the conversation; use a base model whose does"
        )
    return prompt, whole[len(prompt) :]
