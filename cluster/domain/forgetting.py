"""What holds a document or a user's data, and what became of it when it was to be forgotten."""

from typing import Literal

from cluster.domain.base import Frozen


class HeldCorpus(Frozen):
    """A version of a corpus with documents that are to be forgotten."""

    corpus: str
    version: int
    newest: bool
    documents: tuple[str, ...]


class HeldDataset(Frozen):
    """A dataset with rows that came from it. ``successor`` is the dataset without them; None when no row would be left."""

    ref: str
    digest: str
    name: str
    rows: int
    of: int
    successor: str | None = None


class HeldRelease(Frozen):
    """A release that learnt from it, or answers from it."""

    ref: str
    because: str
    alias: str | None = None


class Held(Frozen):
    """Everything that holds a document (by source) or a user's data. ``done``: it was forgotten, not only looked for."""

    kind: Literal["document", "user"]
    ref: str
    corpora: tuple[HeldCorpus, ...] = ()
    datasets: tuple[HeldDataset, ...] = ()
    releases: tuple[HeldRelease, ...] = ()
    turns: int = 0
    questions: tuple[str, ...] = ()
    done: bool = False

    @property
    def nothing(self) -> bool:
        """Whether nothing holds it."""
        return not (self.corpora or self.datasets or self.releases or self.turns or self.questions)
