"""A router's head against the champion, text by text; no traffic, both are scored from what they are.

Neither may be judged on what it has learnt by heart, so every text is judged unseen on both sides:
- the challenger's own texts by what cross-validation said of them; the champion by its score where the text is new to it, and by what its
  own cross-validation had said (kept in its bundle, ``held.npz``) where it has trained on the text too. Texts that were never held out on
  one side, the only row of a class, are left out. The right answer is what people say now: a text that was corrected since counts as
  wrong for a champion that had learnt the old one.
- routing question sets by both heads as released, without the questions whose text either of them has trained on.

The challenger is kept when it does worse on a set and may be worse by more than the tolerance (paired bootstrap, ``train_jobs.gate``), or
when it is surely worse on some agent's texts. Otherwise it is promoted: a head that learnt a few corrections is seldom measurably better.
A champion that cannot be read any more, or was trained on another embedder, is replaced. On a handful of texts all this says little.
"""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Literal, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster import routing
from cluster.domain.base import Frozen
from cluster.domain.questions import QuestionSet
from cluster.errors import InvalidInput
from cluster.routing import Floats, Head
from train_jobs.paired import paired_interval

HELD = "held.npz"
_NEVER = -1  # the row was never held out
_SLICE_AT_LEAST = 5
NOBODY = "out_of_scope"


class Contender(NamedTuple):
    """A head with what cross-validation said of its training texts: digest of the text → the agent, "" for nobody, None if never held
    out."""

    head: Head
    held: dict[int, str | None]


class Judged(NamedTuple):
    """Texts (n) of one source with their vectors (n, d) and right agents (n; "" for nobody)."""

    name: str
    texts: Sequence[str]
    vectors: Floats
    right: Sequence[str]


class RouterComparison(Frozen):
    """Champion and challenger on one source of texts; rates 0 to 1, ``interval`` of challenger minus champion."""

    name: str
    n: int
    left_out: int
    champion_rate: float
    challenger_rate: float
    interval: tuple[float, float]
    worse_agents: tuple[str, ...] = ()


class RouterVerdict(Frozen):
    verdict: Literal["promote", "keep"]
    reasons: tuple[str, ...]
    comparisons: tuple[RouterComparison, ...] = ()


def digest_of_text(text: str) -> int:
    """64 bits of a text as training normalises it (white space folded): how a bundle names its texts without holding them."""
    folded = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(folded, digest_size=8).digest(), "little")


def save_held(directory: Path, texts: Sequence[str], rows: NDArray[np.int64], picked: NDArray[np.int64]) -> None:
    """Write ``held.npz`` beside the head: ``texts`` (n,) digests of all training texts, ``picked`` (n,) the class each was given while it
    was held out (the number of agents for nobody), -1 where it never was. ``rows`` index the texts that were held out."""
    given = np.full(len(texts), _NEVER, dtype=np.int16)
    given[rows] = picked
    np.savez(directory / HELD, texts=np.array([digest_of_text(text) for text in texts], dtype=np.uint64), picked=given)


def read_contender(directory: Path, ref: str) -> Contender:
    """A released head with its held-out answers. Raises InvalidInput when the bundle cannot be read."""
    head = routing.load(directory, ref)
    names: dict[int, str | None] = {_NEVER: None, len(head.agents): "", **dict(enumerate(head.agents))}
    try:
        with np.load(directory / HELD, allow_pickle=False) as file:
            pairs = zip(file["texts"].tolist(), file["picked"].tolist(), strict=True)
            return Contender(head, {text: names[number] for text, number in pairs})
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise InvalidInput(f"Router head {ref} has no readable {HELD} ({error}); train it again.") from None


def decisions(head: Head, texts: Sequence[str], vectors: Floats) -> list[str]:
    """The agent of each text as serving picks it, "" for nobody."""
    found = []
    for text, vector in zip(texts, vectors, strict=True):
        scores = routing.agent_scores(head, vector, text)
        found.append(head.agents[int(scores.argmax())] if scores.sum() >= head.threshold else "")
    return found


def compare_rows(champion: Contender, challenger: Contender, rows: Judged) -> RouterComparison | None:
    """Both on the challenger's training texts, unseen on both sides. None when nothing is left to compare."""
    digests = [digest_of_text(text) for text in rows.texts]
    new = [index for index, digest in enumerate(digests) if digest not in champion.held]
    scored = decisions(champion.head, [rows.texts[index] for index in new], rows.vectors[new])
    before = {digest: champion.held.get(digest) for digest in digests}
    before |= {digests[index]: one for index, one in zip(new, scored, strict=True)}
    answers = [(before[digest], challenger.held.get(digest)) for digest in digests]
    return _compared(rows, answers)


def compare_questions(champion: Contender, challenger: Contender, asked: Judged) -> RouterComparison | None:
    """Both as released on questions that neither has trained on. None when there are none."""
    seen = champion.held.keys() | challenger.held.keys()
    fresh = [index for index, text in enumerate(asked.texts) if digest_of_text(text) not in seen]
    texts, vectors = [asked.texts[index] for index in fresh], asked.vectors[fresh]
    pairs = zip(decisions(champion.head, texts, vectors), decisions(challenger.head, texts, vectors), strict=True)
    given: dict[int, tuple[str | None, str | None]] = dict(zip(fresh, pairs, strict=True))
    return _compared(asked, [given.get(index, (None, None)) for index in range(len(asked.texts))])


def _compared(judged: Judged, answers: Sequence[tuple[str | None, str | None]]) -> RouterComparison | None:
    pairs = [
        (one == right, two == right) for right, (one, two) in zip(judged.right, answers, strict=True) if None not in (one, two)
    ]
    if not pairs:
        return None
    by_agent: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for right, (one, two) in zip(judged.right, answers, strict=True):
        if None not in (one, two):
            by_agent[right or NOBODY].append((one == right, two == right))
    enough = {name: held for name, held in sorted(by_agent.items()) if len(held) >= _SLICE_AT_LEAST}
    sure = 1 - 0.05 / max(1, len(enough))  # Bonferroni: of many agents, some look worse by chance
    worse = [name for name, held in enough.items() if _interval(held, sure)[1] < 0]
    rates = np.mean(pairs, axis=0)
    return RouterComparison(
        name=judged.name,
        n=len(pairs),
        left_out=len(judged.right) - len(pairs),
        champion_rate=float(rates[0]),
        challenger_rate=float(rates[1]),
        interval=_interval(pairs),
        worse_agents=tuple(worse),
    )


def _interval(pairs: Sequence[tuple[bool, bool]], confidence: float = 0.95) -> tuple[float, float]:
    return paired_interval([one for one, _ in pairs], [two for _, two in pairs], confidence)


def decide(comparisons: Sequence[RouterComparison], tolerance: float) -> RouterVerdict:
    """Worse somewhere → keep; else promote. Each reason is a sentence with source, rates and interval."""
    worse = []
    for one in comparisons:
        if one.worse_agents:
            worse.append(f"{_words(one)}: it is surely worse for {', '.join(one.worse_agents)}.")
        elif one.challenger_rate < one.champion_rate and one.interval[0] < -tolerance:
            worse.append(f"{_words(one)}: it may be worse by more than {tolerance:.1%}.")
    reasons = worse or [f"{_words(one)}: it is not worse." for one in comparisons]
    return RouterVerdict(
        verdict="keep" if worse else "promote",
        reasons=tuple(reasons or ["There was no text to compare the two heads on."]),
        comparisons=tuple(comparisons),
    )


def _words(one: RouterComparison) -> str:
    low, high = one.interval
    return (
        f"On {one.name} (n = {one.n}) the challenger routes {one.challenger_rate:.1%} rightly and the champion {one.champion_rate:.1%}, "
        f"difference {one.challenger_rate - one.champion_rate:+.1%} [{low:+.1%}, {high:+.1%}]"
    )


def judged_questions(asked: QuestionSet, vectors: Floats) -> Judged:
    """A routing question set as texts with their right agents."""
    right = [question.expected or "" for question in asked.questions]
    return Judged(f"question set '{asked.name}'", [question.text for question in asked.questions], vectors, right)
