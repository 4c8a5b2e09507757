"""Practice in filling forms: what a request says goes into a given form, a shown one, JSON or a letter.

The forms are made up of random words and signs for every row; none is the notation of a real tool or language.
"""

import json
import random
import string
from collections.abc import Mapping
from typing import Final

from data_jobs.starter_values import Maker, Message, Split, dialogue, scrap
from data_jobs.starter_words import COMMON, NOUNS, SYMBOLS, VERBS

SLOTS: Final = (
    "from",
    "to",
    "at",
    "for",
    "with",
    "in",
    "by",
    "before",
    "after",
    "near",
    "under",
    "named",
    "using",
    "on",
    "without",
    "through",
    "into",
    "about",
    "against",
    "like",
)
OPENERS: Final = ("", "", "please ", "can you ", "i want to ", "could you please ", "we need to ", "kindly ", "let us ")
CLOSERS: Final = ("", "", "", ".", ", please", ", thanks", "?", " now")
LETTERS: Final = (
    "Dear {name}, your {item} will be ready {when}. Yours, {by}.",
    "Hello {name}, thank you for your message about the {item}. {by} will look at it {when}.",
    "Thank you, {name}. We have noted the {item} and will answer {when}.",
    "Good day {name}, we are sorry about the {item}. It will be put right {when}. Ask {by} for more.",
    "{name}, the {item} was sent {when} by {by}.",
    "Reminder for {name}: bring the {item} {when}.",
)


def request(maker: Maker, frame: list[tuple[str, str]], opener: str, deed: str, closer: str) -> str:
    """A spoken request with the frame's slots in it; `deed` is what is to be done ('carry the lamps')."""
    return opener + deed + "".join(f" {slot} {value}" for slot, value in frame) + closer


def form_of(maker: Maker, slots: list[str]) -> str:
    """A made-up output form: random literals around every slot's place, e.g. `zor -q {to} [{from}]`."""
    rng = maker.rng
    parts = [scrap(maker) if rng.random() < 0.5 else maker.invented()]
    for slot in rng.sample(slots, len(slots)):
        place = rng.choice(("{%s}", "{%s}", "({%s})", '"{%s}"', "'{%s}'", "[{%s}]", "<{%s}>", "{%s},", "/{%s}")) % slot
        literal = rng.choice(("", "", f"-{rng.choice(string.ascii_letters)}", rng.choice(SYMBOLS), rng.choice(COMMON)))
        parts += [literal, place] if rng.random() < 0.7 else [place, literal]
    return " ".join(part for part in parts if part)


def braced(slot: str) -> str:
    return "{" + slot + "}"


def filled(form: str, values: Mapping[str, str]) -> str:
    for slot, value in values.items():
        form = form.replace(braced(slot), value)
    return form


def _frames(maker: Maker, turns: int) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Slot names, and per turn a request with its values: one wording or another, always the same slots."""
    rng = maker.rng
    slots = rng.sample(SLOTS, rng.choice((1, 2, 2, 3, 3, 4)))
    kinds = [rng.choice(("any", "path", "identifier", "number", "invented", "quoted")) for _ in slots]
    deed = f"{rng.choice(VERBS)} {rng.choice(('the', 'all', 'every', 'my', 'a'))} {rng.choice(NOUNS)}"
    drawn = []
    for _ in range(turns):
        values = {slot: maker.value(kind).strip("{}") for slot, kind in zip(slots, kinds, strict=True)}
        order = rng.sample(slots, len(slots)) if rng.random() < 0.3 else slots
        spoken = request(maker, [(slot, values[slot]) for slot in order], rng.choice(OPENERS), deed, rng.choice(CLOSERS))
        drawn.append((spoken if rng.random() < 0.5 else spoken[:1].upper() + spoken[1:], values))
    return slots, drawn


def slots(rng: random.Random, split: Split) -> list[Message]:
    """Put what a request says into a given form, for several requests in a row."""
    maker = Maker(rng, split)
    names, drawn = _frames(maker, rng.randint(1, 4))
    form = form_of(maker, names)
    inside = rng.random() < 0.3
    turns = [(spoken, filled(form, values)) for spoken, values in drawn]
    if inside:
        turns[0] = (f"Form: {form}\n{turns[0][0]}", turns[0][1])
        return dialogue("", *turns)
    return dialogue(rng.choice(("Form: {f}", "Write: {f}", "Answer with {f}")).replace("{f}", form), *turns)


def example(rng: random.Random, split: Split) -> list[Message]:
    """Do as one shown example does: same slots, other values; the form itself is never spelt out."""
    maker = Maker(rng, split)
    names, drawn = _frames(maker, rng.randint(2, 5))
    form = form_of(maker, names)
    (shown, values), *rest = drawn
    turns = [(spoken, filled(form, each)) for spoken, each in rest]
    turns[0] = (f"Example: {shown}\nBecomes: {filled(form, values)}\nNow: {turns[0][0]}", turns[0][1])
    return dialogue("", *turns)


def to_json(rng: random.Random, split: Split) -> list[Message]:
    """Take named slots out of requests as JSON."""
    maker = Maker(rng, split)
    names, drawn = _frames(maker, rng.randint(1, 4))
    keys = rng.sample(names, rng.randint(1, len(names)))
    system = rng.choice(("Give JSON with the keys {k}.", "Keys: {k}", "Return {k} as JSON.")).format(k=", ".join(keys))
    return dialogue(
        system, *((spoken, json.dumps({key: values[key] for key in keys}, ensure_ascii=False)) for spoken, values in drawn)
    )


def letter(rng: random.Random, split: Split) -> list[Message]:
    """Fill a letter's gaps from name=value pairs, or from a sentence that tells them."""
    maker, form = Maker(rng, split), rng.choice(LETTERS)
    turns = []
    for _ in range(rng.randint(1, 3)):
        values = {
            "name": maker.name(),
            "item": maker.phrase(),
            "by": maker.name(),
            "when": maker.pick((f"at {maker.time()}", f"on {maker.date()}", f"within {maker.duration()}", f"by {maker.time()}")),
        }
        used = [slot for slot in values if braced(slot) in form]
        given = ", ".join(f"{slot}={values[slot]}" for slot in rng.sample(used, len(used)))
        turns.append((given, filled(form, {slot: values[slot] for slot in used})))
    if rng.random() < 0.5:
        turns[0] = (f"Fill: {form}\n{turns[0][0]}", turns[0][1])
        return dialogue("", *turns)
    return dialogue(f"Fill: {form}", *turns)
