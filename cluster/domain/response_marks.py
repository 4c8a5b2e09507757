"""What models write around an answer: marks of chat templates and of reasoning, and the roles of a simulated dialogue.

Marks are fixed texts, so whether a text begins with one, or may yet, is a look into a set. Roles are English.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

Mark = Literal["opens", "ends", "thinks", "thought"]
"""``opens``: an assistant's turn begins after it; ``ends``: the answer is over before it; ``thinks`` and ``thought``: around reasoning."""

_OPENS = """<|assistant|> <|im_start|> <|im_start|>assistant <|start_header_id|> <|start_header_id|>assistant<|end_header_id|>
<start_of_turn> <start_of_turn>model <|start|>assistant <|begin_of_text|> <|startoftext|> <|message|> <|channel|>final<|message|>
<|start_of_role|>assistant<|end_of_role|> <｜begin▁of▁sentence｜> <｜Assistant｜> [/INST] <</SYS>> <bos>"""
_ENDS = """<|im_end|> <|im_sep|> <|endoftext|> <|end_of_text|> <|eot_id|> <|eom_id|> <|end_of_turn|> <|end|> <|user|> <|system|> <|return|>
<|end_header_id|> <|endofprompt|> <|start_of_role|> <|channel|> <|start|> <end_of_turn> <eos> <｜end▁of▁sentence｜> <｜User｜>
[INST] <<SYS>> [SYSTEM_PROMPT] [/SYSTEM_PROMPT]"""
_THINKS = {"<think>": "</think>", "<thinking>": "</thinking>", "[THINK]": "[/THINK]"}
STRUCK = ("<s>", "</s>")
"""Marks of some tokenizers, and in HTML what is struck out."""
MOST_SPECIAL = 1000


class Marks:
    """All marks of a chat template. ``thinking``: the prompt itself opened the reasoning, which the model begins with."""

    def __init__(self, special: Iterable[str] = (), thinking: str = "") -> None:
        texts: dict[Mark, Iterable[str]] = {
            "ends": [*(one for one in special if one[0] in "<["), *_ENDS.split()],
            "opens": _OPENS.split(),
            "thinks": _THINKS.keys(),
            "thought": _THINKS.values(),
        }
        known = {one: mark for mark, several in texts.items() for one in several}
        if STRUCK[0] in known:
            known[STRUCK[0]] = "opens"
        self.known, self.thinking = known, thinking
        self.closing = dict(_THINKS)
        self._begun = beginnings(known)
        self._sizes = sorted({len(one) for one in known}, reverse=True)
        self._first = {one[:2] for one in known}

    def at(self, text: str, place: int, final: bool) -> str | None:
        """The longest mark at a place, "" where there is none, None where the rest of the text decides."""
        tail = text[place : place + self._sizes[0] + 1]
        if len(tail) > 1 and tail[:2] not in self._first:
            return ""
        if not final and place + len(tail) == len(text) and tail in self._begun:
            return None
        return next((tail[:size] for size in self._sizes if tail[:size] in self.known), "")


@lru_cache(maxsize=8)
def _marks(special: tuple[str, ...], thinking: str) -> Marks:
    return Marks(special, thinking)


def marks_of(tokenizer: Any) -> Marks:
    """The marks of a transformers tokenizer: the usual ones, its special tokens, and the reasoning that its chat template opens."""
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False)
    thinking = next((one for one in _THINKS if prompt.rstrip().endswith(one)), "")
    return _marks(tuple(tokenizer.all_special_tokens[:MOST_SPECIAL]), thinking)


def beginnings(texts: Iterable[str]) -> frozenset[str]:
    """All texts that can grow into one of these."""
    return frozenset(text[:size] for text in texts for size in range(1, len(text)))


class Role(NamedTuple):
    """Who speaks in a line that begins so. ``heading``: it is written as one, which few ordinary answers do."""

    asks: bool
    heading: bool


def _roles() -> dict[str, Role]:
    asks, answers = ("User", "USER", "Human", "HUMAN"), ("Assistant", "ASSISTANT")
    found = {}
    for name in (*asks, *answers):
        for form in ("{}:", "**{}:**", "**{}**:"):
            found[form.format(name)] = Role(name in asks, heading=False)
    for name in (*asks, "Instruction", *answers, "Response"):
        for depth in range(1, 7):
            for gap in ("", " "):
                found[f"{'#' * depth}{gap}{name}:"] = Role(name not in (*answers, "Response"), heading=True)
    return found


ROLES = _roles()
_ROLES_BEGUN = beginnings(ROLES)
_LONGEST_ROLE = max(map(len, ROLES))
LOOK = _LONGEST_ROLE + 4
"""Characters of a line after which it is known whether it begins with a role."""


def role_at(text: str, place: int, final: bool) -> tuple[int, str] | None:
    """Where a line's role begins and its text, ``(place, "")`` where there is none, None where the rest of the text decides."""
    tail = text[place : place + LOOK]
    body = tail.lstrip(" ")
    lead = len(tail) - len(body)
    if lead > 3:
        return place, ""
    colon = body.find(":")
    for end in (colon + 1, colon + 3):
        if colon > 0 and body[:end] in ROLES:
            return place + lead, body[:end]
    waits = not final and len(tail) < LOOK and (not body or body in _ROLES_BEGUN)
    return None if waits else (place, "")
