"""What becomes of made pairs: checked by words, asked of the index, compared with those kept before, judged. Adds up."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cluster.domain.data_recipes import SynthesiseRecipe
from cluster.domain.documents import Passage
from cluster.embedding import Embedder, Vectors
from data_jobs.synthesis_checks import Pair, normalised, refusal
from data_jobs.synthesis_refiner import Refiner, together

_EXAMPLES = 3


class Made(NamedTuple):
    """A pair and the passage it was made from; ``score`` is the judge's, where one was asked."""

    passage: Passage
    pair: Pair
    score: int | None = None


class Filter:
    """Keeps good pairs in the order they come. ``index`` is the opened index of the corpus."""

    def __init__(self, index: Any, embedder: Embedder, recipe: SynthesiseRecipe, judge: Refiner | None) -> None:
        self._index, self._embedder, self._recipe, self._judge = index, embedder, recipe, judge
        self._questions: set[str] = set()
        self._vectors = np.zeros((0, embedder.dimension), dtype=np.float32)
        self.kept: list[Made] = []
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, list[dict[str, str]]] = {}
        self.came = 0

    async def take(self, pairs: Sequence[Made]) -> None:
        """Keeps those that pass, in their order."""
        self.came += len(pairs)
        fine = [one for one in pairs if self._passes(one, refusal(one.pair, one.passage))]
        if not fine:
            return
        vectors = self._embedder.embed([one.pair.question for one in fine])
        rest = [
            (one, vector)
            for one, vector in zip(fine, vectors, strict=True)
            if self._passes(one, self._lost(one, vector)) and self._passes(one, self._repeated(one, vector))
        ]
        scores = await self._scores([one for one, _ in rest])
        self.kept += [one for one in scores if self._passes(one, self._judged(one))]

    def drop(self, one: Made, reason: str) -> None:
        """Counts a pair that is not kept after all, with a few of each reason as examples."""
        self.dropped[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < _EXAMPLES:
            shown.append({"passage": one.passage.id, "question": one.pair.question[:300], "answer": one.pair.answer[:300]})

    def _passes(self, one: Made, reason: str) -> bool:
        if reason:
            self.drop(one, reason)
        return not reason

    def _lost(self, one: Made, vector: Vectors) -> str:
        """The round trip: whoever asks the question must be given the passage."""
        hits = self._index.search(one.pair.question, vector, self._recipe.top_k)
        return "" if any(hit.passage.id == one.passage.id for hit in hits) else "not_found_again"

    def _repeated(self, one: Made, vector: Vectors) -> str:
        question = normalised(one.pair.question)
        if question in self._questions:
            return "same_question"
        if len(self._vectors) and float((self._vectors @ vector).max()) >= self._recipe.near_duplicate:
            return "near_same_question"
        self._questions.add(question)
        self._vectors = np.vstack([self._vectors, vector])
        return ""

    async def _scores(self, made: Sequence[Made]) -> list[Made]:
        if self._judge is None:
            return list(made)
        entries = await together([self._judge.score(one.pair, one.passage) for one in made])
        return [one._replace(score=entry.score or 0) if entry else one for one, entry in zip(made, entries, strict=True)]

    def _judged(self, one: Made) -> str:
        """With a judge, a pair that it did not score (for the budget, or because its answer could not be read) is not kept."""
        if self._judge is None:
            return ""
        if not one.score:
            return "not_judged"
        return "judged_low" if one.score < self._recipe.judge_threshold else ""
