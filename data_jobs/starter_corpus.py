"""The starter model's practice rows: copying, looking up, filling forms. Endless, seeded, and invented throughout.

`rows(seed, mixture)` yields `{"messages": [...], "skill": name}` without end; equal arguments give equal rows. A row is a
conversation in the project's prompt contract. The skills are general: none of the shipped agents' tasks is among them.
"""

import json
import random
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from data_jobs.starter_forms import example, letter, slots, to_json
from data_jobs.starter_lookup import lookup_messages, with_passages
from data_jobs.starter_values import Maker, Message, Skill, Split, dialogue, random_text
from data_jobs.starter_words import ADJECTIVES, ATTRIBUTES, COMMON, ENDINGS, NOUNS, PEOPLE, SYMBOLS, VERBS

COPY_ORDERS: Final = ("Repeat: ", "Copy: ", "Say this again: ", "Write exactly: ", "Echo: ", "")


def repeat(rng: random.Random, split: Split) -> list[Message]:
    """Say a random string again, up to four times a row with fresh strings."""
    maker, order = Maker(rng, split), rng.choice(COPY_ORDERS)
    turns = []
    low, high, most = rng.choice(((1, 4, 6), (2, 8, 4), (4, 14, 2)))
    for _ in range(rng.randint(1, most)):
        text = random_text(maker, low, high)
        turns.append((order + text, text))
    return dialogue("" if order else "Repeat what the user says.", *turns)


def span(rng: random.Random, split: Split) -> list[Message]:
    """Take a line, a neighbour or an end out of a list of random things, several times over the same list."""
    maker = Maker(rng, split)
    items = list(
        dict.fromkeys(maker.value() if rng.random() < 0.5 else random_text(maker, 1, 3) for _ in range(rng.randint(3, 7)))
    )
    questions = [(f"What comes after {a}?", b) for a, b in pairwise(items)]
    questions += [(f"What comes before {b}?", a) for a, b in pairwise(items)]
    questions += [("Which is first?", items[0]), ("Which is last?", items[-1])]
    questions += [(f"Give line {at}.", item) for at, item in enumerate(items, start=1)]
    numbered = rng.random() < 0.5
    listed = "\n".join(f"{at}. {item}" if numbered else item for at, item in enumerate(items, start=1))
    chosen = rng.sample(questions, min(len(questions), rng.randint(2, 6)))
    turns = [(f"{listed}\n\n{asked}" if at == 0 else asked, answer) for at, (asked, answer) in enumerate(chosen)]
    return dialogue("", *turns)


def keyvalue(rng: random.Random, split: Split) -> list[Message]:
    """Two to ten keys with values in one of many notations; several keys are asked for, with citations in one of them."""
    maker = Maker(rng, split)
    count = rng.choice((2, 3, 4, 5, rng.randint(2, 10)))
    makers = (maker.invented, maker.name, maker.entity, maker.code, lambda: rng.choice(ATTRIBUTES), lambda: rng.choice(NOUNS))
    make_key = rng.choice(makers)
    keys = list(dict.fromkeys(make_key() for _ in range(count)))
    kind = rng.choice(("any", "number", "invented", "name", "any"))
    pairs = [(key, maker.value(kind)) for key in keys]
    joint = rng.choice((" = ", ": ", " -> ", " is ", " | ", "\t", "=", " - ", " has "))
    style = rng.random()
    cite = style < 0.55 and rng.random() < 0.8
    asked = rng.sample(range(len(pairs)), min(len(pairs), rng.randint(1, 8)))
    if style < 0.55:
        body = "Passages:\n" + "\n".join(f"[{n}] {key}{joint}{value}" for n, (key, value) in enumerate(pairs, start=1))
    elif style < 0.65:
        body = json.dumps(dict(pairs), ensure_ascii=False)
    else:
        body = rng.choice(("\n", "\n", "; ", ", ")).join(f"{key}{joint}{value}" for key, value in pairs)
    ask = rng.choice(("Question: {k}", "Question: What is {k}?", "Value of {k}?", "{k}", "Which value has {k}?"))
    turns = []
    for turn, at in enumerate(asked):
        key, value = pairs[at]
        turns.append(((f"{body}\n\n" if turn == 0 else "") + ask.format(k=key), f"{value} [{at + 1}]" if cite else value))
    return dialogue("Cite the passage." if cite else rng.choice(("", "", "Look up the key.")), *turns)


def which(rng: random.Random, split: Split) -> list[Message]:
    """Name the passage that holds something, or say what a numbered passage holds: the half of citing that is not looking up."""
    maker = Maker(rng, split)
    words = rng.choice((COMMON, NOUNS, ADJECTIVES))
    make = rng.choice(
        (lambda: random_text(maker, 1, 3), maker.value, maker.entity, maker.phrase, *[lambda: rng.choice(words)] * 3)
    )
    drawn = list(dict.fromkeys(make() for _ in range(rng.randint(2, 10))))
    size = rng.choice((1, 1, 2, 3))
    lines = [drawn[start : start + size] for start in range(0, len(drawn), size)]
    passages = [rng.choice((", ", ". ", " and ", "; ")).join(line) for line in lines]
    ask_cited = rng.choice(("Which passage holds {x}?", "Where is {x}?", "Cite: {x}", "Repeat and cite: {x}"))
    pieces = [(at, piece) for at, line in enumerate(lines) for piece in line]
    turns = []
    for at, piece in rng.sample(pieces, min(len(pieces), 6)):
        cited = f"{piece} [{at + 1}]" if ask_cited.startswith("Repeat") else f"[{at + 1}]"
        asked, answer = (ask_cited.replace("{x}", piece), cited)
        if rng.random() < 0.15:
            asked, answer = f"What does [{at + 1}] say?", passages[at]
        turns.append((asked if turns else with_passages(passages, asked), answer))
    return dialogue("", *turns)


def lookup(rng: random.Random, split: Split) -> list[Message]:
    style = rng.choice(("value", "value", "value", "sentence"))
    return lookup_messages(rng, split, style, cite=False, turns=rng.choice((1, 4, 8)))


def cite(rng: random.Random, split: Split) -> list[Message]:
    style = rng.choices(("value", "sentence", "number"), (6, 3, 1))[0]
    return lookup_messages(rng, split, style, cite=True, turns=rng.choice((1, 4, 8)))


def reorder(rng: random.Random, split: Split) -> list[Message]:
    """Swap, substitute or join a few random things as told."""
    maker = Maker(rng, split)
    turns = []
    for _ in range(rng.randint(1, 4)):
        a, b, c = (random_text(maker, 1, 2) for _ in range(3))
        turns.append(
            rng.choice(
                (
                    (f"Swap {a} and {b}", f"{b} and {a}"),
                    (f"Join {a} with {b} by {c}", f"{a} {c} {b}"),
                    (f"Put {c} in place of X: {a} X {b}", f"{a} {c} {b}"),
                    (f"Turn around: {a}, {b}, {c}", f"{c}, {b}, {a}"),
                    (f"Leave out {b}: {a}, {b}, {c}", f"{a}, {c}"),
                )
            )
        )
    return dialogue("", *turns)


SKILLS: Final[dict[str, Skill]] = {
    "repeat": repeat,
    "span": span,
    "keyvalue": keyvalue,
    "which": which,
    "lookup": lookup,
    "cite": cite,
    "slots": slots,
    "example": example,
    "to_json": to_json,
    "letter": letter,
    "reorder": reorder,
}


def probe(name: str, new_world: bool, entities: int) -> Skill:
    """A single-turn lookup with citation, for measuring: two or three entities, nothing missing."""

    def skill(rng: random.Random, split: Split) -> list[Message]:
        return lookup_messages(rng, split, "value", cite=True, turns=1, entities=entities, new_world=new_world, absent_share=0)

    skill.__name__ = name
    return skill


PROBES: Final[dict[str, Skill]] = {
    **SKILLS,
    "cite_two": probe("cite_two", False, 2),
    "cite_three": probe("cite_three", False, 3),
    "cite_new_world": probe("cite_new_world", True, 3),
}


def rows(seed: int, mixture: Mapping[str, float], split: Split = "train") -> Iterator[dict[str, object]]:
    """Yields rows without end: `messages` (role, content) and the `skill` practised.

    `mixture` maps names of PROBES to weights; an unknown name is an error. Invented words are of `split` alone.
    """
    unknown = sorted(set(mixture) - set(PROBES))
    if unknown:
        raise ValueError(f"The starter corpus has no skill {unknown[0]!r}; it has {', '.join(PROBES)}.")
    rng = random.Random(f"{seed}/{split}")
    names, weights = list(mixture), list(mixture.values())
    while True:
        name = rng.choices(names, weights)[0]
        yield {"messages": PROBES[name](rng, split), "skill": name}


def vocabulary(seed: int, count: int = 12_000) -> Iterator[str]:
    """Texts that shape the tokenizer: training rows, and the listed words alone, weighted by how much a token is wanted."""
    rng = random.Random(seed)
    for word in dict.fromkeys(COMMON):
        yield f" {word}" * 300
        yield f"{word}\n" * 120
        yield f"{word.capitalize()}\n" * 30
    for ending in ENDINGS:
        yield f".{ending}\n" * 300
        yield f"{ending}\n" * 100
    for word in dict.fromkeys([*NOUNS, *ADJECTIVES, *VERBS, *ATTRIBUTES, *PEOPLE]):
        yield f" {word}" * 20
    for symbol in SYMBOLS:
        yield f" {symbol}\n" * 40
    practice = rows(rng.randrange(2**31), dict.fromkeys(SKILLS, 1.0))
    for _ in range(count):
        yield from (message["content"] for message in next(practice)["messages"])  # type: ignore[attr-defined]
