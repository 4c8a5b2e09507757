"""Slots of the sample requests: invented values, divided between training and unseen questions by a checksum of the value itself.

A value that may appear in a training row can never appear in a question, whatever the seed. Closed sets, such as file endings,
permission modes and small counts, are exempt: both sides need them.
"""

import random
import re
import zlib
from typing import Final, Literal, NamedTuple

Split = Literal["train", "unseen"]

UNSEEN_SHARE: Final = 6  # one value in six is kept for the questions
_WORDS: Final = """
lamp bridge kettle drum wagon mirror pump boiler engine rocket antenna anchor sail barrel basket bottle bowl brush bucket button
cabinet candle carpet chair clock coat coin crate cup curtain desk flag flute fork fountain garden gate glove hammer harp helmet
jar key kite map mask needle oven paddle piano pillow pipe plate pot quilt radio ring rope saddle scarf shovel statue stove sword
table tent ticket tower toy tray truck tunnel valve vase violin wheel whistle window boat cart train ferry gallery theatre market
bakery orchard harbour island lake river mountain valley forest planet comet volcano castle temple palace clinic factory mill mine
otter heron badger falcon penguin beaver parrot camel rabbit donkey owl salmon beetle soup pie noodle salad pudding honey mushroom
"""
WORDS: Final = tuple(_WORDS.split())
ENDINGS: Final = ("txt", "csv", "log", "md", "json", "yaml", "ini", "conf", "html", "png", "jpg", "pdf", "xml", "sql", "bak")
EXEMPT: Final = frozenset({"ext", "mode", "small", "sep", "power"})
_SLOT: Final = re.compile(r"<([a-z]+)(\d?)>")


class Task(NamedTuple):
    """A kind of request: the one right answer and the ways to ask for it, both with ``<slot>`` marks."""

    name: str
    answer: str
    requests: tuple[str, ...]


class Example(NamedTuple):
    """One request and its right answer; ``values`` are the slot values that the split divides."""

    question: str
    answer: str
    category: str
    values: tuple[str, ...]


def parse(text: str) -> tuple[Task, ...]:
    """Blocks of ``# name``, the answer's line, and one line for each wording of the request."""
    tasks = []
    for block in text.strip().split("\n\n"):
        name, answer, *requests = block.splitlines()
        tasks.append(Task(name.removeprefix("# "), answer, tuple(requests)))
    return tuple(tasks)


def belongs(value: str, split: Split) -> bool:
    """Whether a value is of the split; depends on its letters alone."""
    return (zlib.crc32(value.encode()) % UNSEEN_SHARE == 0) == (split == "unseen")


class Slots:
    """Draws slot values of one split from one random stream."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split

    def value(self, slot: str) -> str:
        """A value for the slot: of this split, unless the slot is exempt."""
        while True:
            value = str(getattr(self, f"_{slot}")())
            if slot in EXEMPT or belongs(value, self.split):
                return value

    def fill(self, task: Task) -> Example:
        """The task with fresh values; two slots of one request never hold the same value."""
        request = self.rng.choice(task.requests)
        values: dict[str, str] = {}
        for kind, number in dict.fromkeys(_SLOT.findall(task.answer + request)):
            value = self.value(kind)
            while value in values.values():
                value = self.value(kind)
            values[kind + number] = value
        parted = tuple(value for slot, value in values.items() if slot.rstrip("0123456789") not in EXEMPT)
        return Example(filled(request, values), filled(task.answer, values), task.name, parted)

    def _word(self) -> str:
        return self.rng.choice(WORDS)

    def _two(self, joint: str = "_") -> str:
        return f"{self._word()}{joint}{self._word()}"

    def _dir(self) -> str:
        return self.rng.choice(("/srv", "/var", "/opt", "/data", "/home", "/mnt")) + f"/{self._two('/')}"

    def _ext(self) -> str:
        return self.rng.choice(ENDINGS)

    def _stem(self) -> str:
        return self._two("-") if self.rng.random() < 0.5 else f"{self._word()}{self.rng.randint(2, 99)}"

    def _file(self) -> str:
        return f"{self._stem()}.{self._ext()}"

    def _pattern(self) -> str:
        return self._two(self.rng.choice(" _"))

    def _user(self) -> str:
        return f"{self._word()}{self.rng.randint(1, 99)}"

    def _host(self) -> str:
        return f"{self._word()}{self.rng.randint(1, 99)}.{self.rng.choice(('local', 'lan', 'example.net'))}"

    def _service(self) -> str:
        return f"{self._word()}-{self.rng.choice(('api', 'sync', 'worker', 'web', 'queue', 'cache'))}"

    def _branch(self) -> str:
        return f"{self.rng.choice(('fix', 'feature', 'docs'))}/{self._two('-')}"

    def _mode(self) -> str:
        return self.rng.choice(("600", "640", "644", "660", "700", "740", "750", "755", "775"))

    def _small(self) -> int:
        return self.rng.randint(2, 60)

    def _power(self) -> int:
        return self.rng.randint(2, 9)

    def _number(self) -> int:
        return self.rng.randint(61, 9999)

    def _port(self) -> int:
        return self.rng.randint(1024, 9999)

    def _year(self) -> str:
        return f"{self.rng.randint(1950, 2049)}, {self.rng.randint(1, 12)}, {self.rng.randint(1, 28)}"

    def _name(self) -> str:
        return self._two() if self.rng.random() < 0.5 else f"{self._word()}{self.rng.randint(1, 99)}"

    def _list(self) -> str:
        return f"{self._word()}_{self.rng.choice(('list', 'items', 'rows', 'names', 'values', 'numbers'))}"

    def _dict(self) -> str:
        return f"{self._word()}_{self.rng.choice(('map', 'config', 'data', 'index', 'record'))}"

    def _text(self) -> str:
        return f"{self._word()}_{self.rng.choice(('text', 'line', 'title', 'note', 'string'))}"

    def _key(self) -> str:
        return self._two() if self.rng.random() < 0.4 else self._word()

    def _sep(self) -> str:
        return self.rng.choice((",", ";", "-", ":", "/", "|", ", ", " - "))


def filled(text: str, values: dict[str, str]) -> str:
    """The text with its ``<slot>`` marks replaced."""
    return _SLOT.sub(lambda mark: values[mark.group(1) + mark.group(2)], text)


def draw(tasks: tuple[Task, ...], rng: random.Random, split: Split, count: int, taken: set[str]) -> list[Example]:
    """``count`` examples, spread evenly over the tasks and shuffled; no question twice, none in ``taken``, to which they are added."""
    slots, examples = Slots(rng, split), []
    while len(examples) < count:
        example = slots.fill(tasks[len(examples) % len(tasks)])
        if example.question not in taken:
            taken.add(example.question)
            examples.append(example)
    rng.shuffle(examples)
    return examples
