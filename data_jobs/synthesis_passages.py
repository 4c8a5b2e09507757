"""Which passages are asked about, and in what order: each document gives one before any gives a second."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from cluster.domain.base import digest_of
from cluster.domain.documents import Passage

_ENDED = re.compile(r"(?:[.!?:][\"'”’)*_`]*\s+|\n[ \t]*\n\s*)\Z")
T = TypeVar("T")


class Chosen(NamedTuple):
    """A passage to ask about. ``whole_start``: it begins where a sentence or block of its document does."""

    passage: Passage
    whole_start: bool


def chosen(passages: Iterable[Passage], min_chars: int, seed: int) -> tuple[list[Chosen], Counter[str]]:
    """The open passages worth asking about, documents in turn, in each in an order that the seed shuffles; and why others are left out.

    Passages must come document by document in order, as an index keeps them. Holds them all in memory.
    """
    by_document: dict[str, list[Chosen]] = defaultdict(list)
    seen: set[str] = set()
    skipped: Counter[str] = Counter()
    before: Passage | None = None
    for passage in passages:
        text = " ".join(passage.text.split())
        if passage.readers is not None:
            skipped["restricted"] += 1  # what is trained into an adapter is told to everybody
        elif len(text) < min_chars:
            skipped["too_short"] += 1
        elif text in seen:
            skipped["same_text"] += 1
        else:
            seen.add(text)
            by_document[passage.document_id].append(Chosen(passage, _whole_start(before, passage)))
        before = passage
    shuffled = [sorted(several, key=lambda one: digest_of([seed, one.passage.id])) for several in by_document.values()]
    return in_turn(shuffled), skipped


def _whole_start(before: Passage | None, passage: Passage) -> bool:
    """Whether what lies before the passage, as far as the passage before it shows, ends a sentence or a block. Between the two of them
    there is nothing but white space."""
    if passage.number == 0:  # before it there is a title at most
        return True
    if before is None or before.document_id != passage.document_id or before.start >= passage.start:
        return False
    gap = " " * max(0, passage.start - before.end)
    return _ENDED.search(before.text[: passage.start - before.start] + gap) is not None


def in_turn(groups: Iterable[Sequence[T]]) -> list[T]:
    """The first of every group, then the second of every group, and so on."""
    waiting = [list(reversed(group)) for group in groups if group]
    out: list[T] = []
    while waiting:
        out += [group.pop() for group in waiting]
        waiting = [group for group in waiting if group]
    return out
