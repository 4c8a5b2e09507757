"""The one renderer of prompts: serving, training and evaluating all go through here, then through the base's chat template."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Fitted:
    """A turn's prompt: its token ids, and how many of the passages and which messages of the history are in it."""

    ids: list[int]
    passages: int
    history: tuple[Message, ...]


def fitted(
    ids_of: Callable[[list[Message]], list[int]],
    agent_prompt: str,
    question: str,
    history: Sequence[Message],
    passages: Sequence[str],
    room: int,
    passage_tokens: int | None = None,
    shorten_history: bool = False,
) -> Fitted:
    """The turn as ``render`` gives it, in at most ``room`` tokens, of which passages take at most ``passage_tokens``.

    Passages are left out whole, the last ones first. With ``shorten_history``, messages go when the turn is too long without any
    passage, the oldest first, until what is left begins with the user. The agent's prompt and the question always stay, so what comes
    out may still be too long. Whoever renders what is left gets the same ids: a turn that records it can be trained on.
    """
    kept = tuple(history)

    def ids(count: int, said: Sequence[Message]) -> list[int]:
        return ids_of(render(agent_prompt, question, said, passages[:count]))

    bare = ids(0, kept)
    if shorten_history and len(bare) > room:
        starts = [place for place, message in enumerate(kept) if place and message.role == "user"]
        # By halving: a talk may have thousands of messages.
        first = bisect_left(starts, True, key=lambda place: len(ids(0, kept[place:])) <= room)
        kept = kept[starts[first] :] if first < len(starts) else ()
        bare = ids(0, kept)
    most = room if passage_tokens is None else min(room, len(bare) + passage_tokens)
    fits, found, too_many = 0, bare, len(passages) + 1
    guess = len(passages)  # mostly all of them fit
    while fits < guess < too_many:
        tried = ids(guess, kept)
        if len(tried) <= most:
            fits, found = guess, tried
        else:
            too_many = guess
        guess = (fits + too_many) // 2
    return Fitted(found, fits, kept)


_SEARCH = (
    "Rewrite the last question as one search query that can be understood without the conversation: put names in the place of words "
    "that point back. Write the query and nothing else."
)
_FUSE = (
    "You are given numbered passages, a question and a draft of its answer. Write the final answer: take facts from the passages and cite "
    "them as [1], keep what the draft says well, and leave out what contradicts the passages. Write the answer and nothing else."
)
_LAST_MESSAGES, _LONGEST_MESSAGE = 6, 600


def search_request(question: str, history: Sequence[Message]) -> list[Message]:
    """What the finalist is asked to make a query of: the last messages, long ones cut, and the question."""
    said = "\n".join(f"{one.role}: {' '.join(one.content.split())[:_LONGEST_MESSAGE]}" for one in history[-_LAST_MESSAGES:])
    asked = f"Conversation:\n{said}\n\nLast question: {question}\n\nQuery:"
    return [Message(role="system", content=_SEARCH), Message(role="user", content=asked)]


def fusion(agent_prompt: str, question: str, history: Sequence[Message], passages: Sequence[str], draft: str) -> list[Message]:
    """What the finalist is asked to make the final answer of. No adapter is trained on this form."""
    *before, last = render(f"{agent_prompt}\n\n{_FUSE}".lstrip(), question, history, passages)
    return [*before, Message(role="user", content=f"{last.content}\n\nDraft: {draft}\n\nFinal answer:")]


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
