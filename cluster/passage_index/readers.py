"""Which rows of an index somebody may read. Rows of equal readers are a class, of which there are few; an index without marks has none.

Hidden rows are left out inside the searches, before the best are taken. What is left of them shows in the words' weights alone: BM25
counts in how many passages a word stands, hidden ones included.
"""

import json
import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.domain.readers import key_of, may_read
from cluster.domain.users import Access, Person
from cluster.passage_index.dense import Selection
from cluster.passage_index.layout import READERS, ROW_READERS

_REMEMBERED = 32
"""Views that are kept: a bit for each row, and as many of them as there are groups of people who may read the same."""


class ReadersWriter:
    """Classes by row, in the rows' order."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._classes: list[Access | None] = []
        self._rows = array("i")

    def add(self, readers: Access | None) -> None:
        """One more row."""
        self._rows.append(self._class(readers))

    def take_over(self, before: "Readers") -> None:
        """The rows of an index that is continued."""
        numbers = np.array([self._class(one) for one in before.classes], dtype=np.int32)
        self._rows.extend(numbers[before.rows].tolist())

    def _class(self, readers: Access | None) -> int:
        number = self._number.setdefault(key_of(readers), len(self._classes))
        if number == len(self._classes):
            self._classes.append(readers)
        return number

    def write(self, directory: Path) -> None:
        said = [None if one is None else one.model_dump(mode="json") for one in self._classes]
        (directory / READERS).write_text(json.dumps(said) + "\n", encoding="utf-8")
        np.save(directory / ROW_READERS, np.frombuffer(self._rows, dtype=np.int32))


@dataclass(frozen=True)
class View:
    """What one group of people sees: the ``keys`` of its classes, and ``rows`` (n,) with the dead left out."""

    keys: tuple[str, ...]
    rows: NDArray[np.bool_]

    @cached_property
    def selection(self) -> Selection:
        return Selection(self.rows)


class Readers:
    """The opened classes. Safe to ask from several threads."""

    def __init__(self, directory: Path, alive: NDArray[np.bool_]) -> None:
        said = json.loads((directory / READERS).read_text(encoding="utf-8"))
        self.classes: list[Access | None] = [None if one is None else Access.model_validate(one) for one in said]
        self.rows: NDArray[np.int32] = np.load(directory / ROW_READERS, mmap_mode="r")
        self._alive = alive
        self._views: OrderedDict[tuple[int, ...], View] = OrderedDict()
        self._lock = threading.Lock()

    def view(self, person: Person) -> View | None:
        """What this person sees; None: everything."""
        open_to = tuple(number for number, readers in enumerate(self.classes) if may_read(readers, person))
        if len(open_to) == len(self.classes):
            return None
        with self._lock:
            found = self._views.get(open_to)
            if found is None:
                rows = np.isin(self.rows, np.array(open_to, dtype=np.int32)) & self._alive
                found = self._views[open_to] = View(tuple(key_of(self.classes[number]) for number in open_to), rows)
                if len(self._views) > _REMEMBERED:
                    self._views.popitem(last=False)
            self._views.move_to_end(open_to)
        return found
