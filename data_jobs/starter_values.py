"""Invented names and random values for the starter model's practice rows, in two splits that never share a word.

Invented words are divided by a checksum of the word itself, so a held-out word can never slip into a training row,
whatever the seed.
"""

import random
import string
import zlib
from collections.abc import Callable
from typing import Final, Literal

from data_jobs.starter_words import (
    ADJECTIVES,
    ATTRIBUTES,
    CODAS,
    COMMON,
    DAYS,
    ENDINGS,
    MONTHS,
    NOUNS,
    ONSETS,
    PLACES,
    SYMBOLS,
    UNITS,
    VERBS,
    VOWELS,
)

Split = Literal["train", "heldout"]
Message = dict[str, str]
Skill = Callable[[random.Random, Split], list[Message]]

HELDOUT_SHARE: Final = 8  # one invented word in eight is kept for measuring
KINDS: Final = (
    "number",
    "time",
    "code",
    "path",
    "identifier",
    "money",
    "phone",
    "place",
    "date",
    "duration",
    "hours",
    "listing",
    "thing",
    "measure",
    "email",
    "name",
    "name",
    "invented",
    "quoted",
)


def dialogue(system: str, *turns: tuple[str, str]) -> list[Message]:
    """Messages from an optional system text and (user, assistant) pairs."""
    messages = [{"role": "system", "content": system}] if system else []
    for asked, answered in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return messages


def belongs(word: str, split: Split) -> bool:
    """Says whether an invented word or phrase is of the given split; depends on its letters alone."""
    heldout = zlib.crc32(word.lower().encode()) % HELDOUT_SHARE == 0
    return heldout == (split == "heldout")


class Maker:
    """Draws names and values of one split from one random stream. Everything it returns is plain text."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng = rng
        self.split = split
        self.pick = rng.choice

    def invented(self) -> str:
        """A pronounceable lower-case word of two or three syllables that is of this split."""
        pick = self.pick
        while True:
            syllables = self.rng.choice((2, 2, 2, 3))
            word = "".join(pick(ONSETS) + pick(VOWELS) for _ in range(syllables)) + pick(CODAS)
            if belongs(word, self.split):
                return word

    def name(self) -> str:
        """An invented proper name, now and then of two words."""
        first = self.invented().capitalize()
        return f"{first} {self.invented().capitalize()}" if self.rng.random() < 0.2 else first

    def phrase(self) -> str:
        """Adjective and noun, of this split as a whole: 'copper bridge'."""
        while True:
            phrase = f"{self.pick(ADJECTIVES)} {self.pick(NOUNS)}"
            if belongs(phrase, self.split):
                return phrase

    def digits(self, low: int, high: int) -> str:
        return "".join(self.pick(string.digits) for _ in range(self.rng.randint(low, high)))

    def number(self) -> str:
        rng = self.rng
        style = rng.random()
        if style < 0.6:
            return str(rng.randint(2, 10 ** rng.randint(1, 4)))
        if style < 0.8:
            return f"{rng.randint(1, 99)}.{rng.randint(0, 9)}"
        return f"{rng.randint(1, 99)},{rng.randint(0, 999):03d}"

    def time(self) -> str:
        hour, minute = self.rng.randint(0, 23), self.rng.choice((0, 0, 15, 30, 45, self.rng.randint(0, 59)))
        return f"{hour}:{minute:02d}" if self.rng.random() < 0.8 else f"{hour % 12 + 1} {self.pick(('am', 'pm'))}"

    def code(self) -> str:
        letters = "".join(self.pick(string.ascii_uppercase) for _ in range(self.rng.randint(1, 3)))
        style = self.rng.random()
        if style < 0.4:
            return f"{letters}-{self.digits(1, 4)}"
        if style < 0.7:
            return letters + self.digits(1, 3)
        return "".join(self.pick(string.ascii_lowercase + string.digits) for _ in range(self.rng.randint(3, 6)))

    def stem(self) -> str:
        """A file or variable stem: invented, common, or two parts with a joint."""
        part = self.invented() if self.rng.random() < 0.5 else self.pick(COMMON if self.rng.random() < 0.5 else NOUNS)
        if self.rng.random() < 0.3:
            return part + self.pick("_-._") + self.pick((self.invented(), self.pick(NOUNS), self.digits(1, 3)))
        return part

    def path(self) -> str:
        """A file name or path; the first part is always of this split."""
        style = self.rng.random()
        ending = f".{self.pick(ENDINGS)}" if self.rng.random() < 0.6 else ""
        if style < 0.4:
            return self.stem() + (ending or f".{self.pick(ENDINGS)}")
        head = self.pick(("/", "", "./", "~/", "../", "/"))
        return head + "/".join(self.stem() for _ in range(self.rng.randint(2, 3))) + ending

    def identifier(self) -> str:
        style = self.rng.random()
        if style < 0.4:
            return f"{self.stem()}_{self.pick(NOUNS)}"
        if style < 0.6:
            return self.invented() + self.digits(1, 3)
        if style < 0.8:
            return self.invented().upper()
        return f"*.{self.pick(ENDINGS)}" if style < 0.9 else f"{self.invented()}{self.pick(NOUNS).capitalize()}"

    def money(self) -> str:
        amount = self.number()
        return self.pick((f"{amount} euros", f"${amount}", f"{amount} coins", f"£{amount}", f"{amount} crowns"))

    def phone(self) -> str:
        return self.pick(
            (
                f"0{self.digits(3, 3)} {self.digits(3, 3)} {self.digits(3, 3)}",
                f"+{self.digits(2, 2)} {self.digits(2, 2)} {self.digits(4, 4)}",
                f"555-{self.digits(4, 4)}",
            )
        )

    def place(self) -> str:
        return self.pick(
            (
                f"{self.pick(PLACES)} {self.number()}",
                f"{self.pick(PLACES)} {self.code()}",
                f"the {self.phrase()}",
                f"the {self.invented().capitalize()} {self.pick(NOUNS)}",
                self.name(),
            )
        )

    def date(self) -> str:
        day = self.rng.randint(1, 28)
        return self.pick(
            (
                f"{day} {self.pick(MONTHS)}",
                f"{self.pick(MONTHS)} {day}",
                self.pick(DAYS),
                f"20{self.digits(2, 2)}-{self.rng.randint(1, 12):02d}-{day:02d}",
                f"{self.pick(DAYS)} and {self.pick(DAYS)}",
            )
        )

    def duration(self) -> str:
        return f"{self.rng.randint(2, 90)} {self.pick(('minutes', 'hours', 'days', 'weeks', 'months', 'working days'))}"

    def hours(self) -> str:
        return f"from {self.time()} to {self.time()}"

    def listing(self) -> str:
        return f"{self.pick(NOUNS)}, {self.invented()} and {self.pick(NOUNS)}"

    def thing(self) -> str:
        return self.pick(
            (
                f"a {self.phrase()}",
                self.invented(),
                f"{self.pick(ADJECTIVES)} {self.pick(NOUNS)}s",
                self.pick(ADJECTIVES),
                f"{self.invented()} {self.pick(NOUNS)}",
            )
        )

    def measure(self) -> str:
        return f"{self.number()} {self.pick(UNITS)}"

    def email(self) -> str:
        return f"{self.invented()}@{self.stem().replace('/', '')}.{self.pick(('com', 'org', 'net', 'io'))}"

    def quoted(self) -> str:
        return self.pick((f'"{self.invented()}"', f"'{self.invented()} {self.pick(NOUNS)}'", f"'{self.code()}'"))

    def value(self, kind: str = "any") -> str:
        """A value of the named kind; 'any' draws the kind too."""
        return str(getattr(self, self.pick(KINDS) if kind == "any" else kind)())

    def entity(self) -> str:
        """What a fact is about: a name, a titled name, a thing with a code, or an adjective and a noun."""
        style = self.rng.random()
        if style < 0.18:
            return self.name()
        if style < 0.45:
            return self.phrase().title()
        if style < 0.55:
            return f"the {self.pick(NOUNS)} {self.invented().capitalize()}"
        if style < 0.65:
            return f"the {self.invented().capitalize()} {self.pick(NOUNS)}"
        if style < 0.75:
            return f"{self.pick(NOUNS)} {self.invented()[:3].upper()}-{self.digits(1, 3)}"
        return f"the {self.phrase()}"


def scrap(maker: Maker) -> str:
    """A short random piece of text: a word, part of a word, symbols, digits, letters or a value."""
    rng, style = maker.rng, maker.rng.random()
    if style < 0.35:
        word = rng.choice(COMMON if rng.random() < 0.7 else rng.choice((NOUNS, ADJECTIVES, VERBS, ATTRIBUTES)))
        return rng.choice((word, word, word.capitalize(), word.upper() if rng.random() < 0.3 else word))
    if style < 0.45:
        word = rng.choice(COMMON)
        start = rng.randrange(len(word))
        return word[start : rng.randint(start + 1, len(word))]
    if style < 0.6:
        return rng.choice(SYMBOLS)
    if style < 0.65:
        return maker.digits(1, 5)
    if style < 0.75:
        return "".join(rng.choice(string.ascii_letters) for _ in range(rng.randint(1, 4)))
    return maker.invented() if style < 0.85 else maker.value()


def random_text(maker: Maker, low: int, high: int) -> str:
    """Scraps in a row; joints are mostly spaces, sometimes nothing or a symbol."""
    rng = maker.rng
    tight = rng.random() < 0.3
    pieces = [scrap(maker)]
    for _ in range(rng.randint(low, high) - 1):
        pieces.append(rng.choice(("", "", "-", "_", ".", "/", " ")) if tight else rng.choice((" ", " ", " ", " ", "", ", ")))
        pieces.append(scrap(maker))
    return " ".join("".join(pieces).split())
