"""A question back to the person: which agent do they need? Without the engine; what they reply is understood the same way."""

import re
from collections.abc import Callable, Sequence

from cluster.domain.agents import Agent

MOST_OFFERED = 9
LONGEST_ABOUT = 120
LONGEST_REPLY = 8
"""Words. What is longer is a question of its own, though an agent may be named in it."""

NOBODY, UNSURE = "I am not sure who can help with that: ", "Do you mean "
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_NUMBER = re.compile(r"(?:the |number |no |option |nr )?(\d{1,2})(?:st|nd|rd|th)?(?: one| please)?")
_WORD = re.compile(r"[\w-]+")


def title(card: Agent) -> str:
    """What people call the agent."""
    return card.display_name or card.name


def question_back(cards: Sequence[Agent], unsure: bool) -> tuple[str, tuple[str, ...]]:
    """The sentence that offers the agents, and their names in its order. ``unsure``: between these, not because nobody is meant."""
    offered = cards[:MOST_OFFERED]
    named = [f"{number}. {title(card)}{_about(card)}" for number, card in enumerate(offered, 1)]
    listed = f"{', '.join(named[:-1])} or {named[-1]}"
    return f"{UNSURE if unsure else NOBODY}{listed}? Say a name or a number.", tuple(card.name for card in offered)


def _about(card: Agent) -> str:
    text = " ".join(card.description.split())
    if len(text) > LONGEST_ABOUT:
        text = f"{text[:LONGEST_ABOUT].rsplit(' ', 1)[0].rstrip(',;:.')}…"
    return f" ({text.rstrip('.')})" if text else ""


def offered_in(text: str, cards: Callable[[], Sequence[Agent]]) -> list[str]:
    """The agents that a question back offers, in its order, when all there is of it is its text; empty for any other text."""
    if not text.startswith((NOBODY, UNSURE)):
        return []
    found, known = [], cards()
    for number in range(1, MOST_OFFERED + 1):
        named = [card for card in known if f" {number}. {title(card)}" in text]
        if not named:
            break
        found.append(max(named, key=lambda card: len(title(card))).name)
    return found


def choice_of(reply: str, offered: Sequence[Agent]) -> str | None:
    """The agent that a reply chooses, by number or by name; None when it chooses none of them, or more than one."""
    words = _WORD.findall(reply[:400].casefold())
    if not words or len(words) > LONGEST_REPLY:
        return None
    said = " ".join(words)
    number = _NUMBER.fullmatch(said)
    if number is not None:
        place = int(number.group(1))
        return offered[place - 1].name if 0 < place <= len(offered) else None
    named = {card.name for card in offered for name in (card.name, card.display_name) if name and _says(said, name)}
    if len(named) == 1:
        return named.pop()
    placed = [place for place, word in enumerate(_ORDINALS[: len(offered)]) if word in words]
    return offered[placed[0]].name if not named and len(placed) == 1 else None


def _says(said: str, name: str) -> bool:
    return f" {' '.join(_WORD.findall(name.casefold()))} " in f" {said} "
