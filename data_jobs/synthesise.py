"""Passages of a corpus to question/answer rows, each with the words that support it.

    python -m data_jobs.synthesise --recipe configs/data/synthesise.yaml

With an endpoint (the recipe's, or the refiner's in configs/models.yaml) a model makes the pairs, else templates do. Either way a pair is
kept only when its words are in the passage, the index finds the passage by the question, no kept question says the same, and the judge,
where there is one, agrees. Every answer of a model is in a journal before it is used, so a run that was killed goes on where it was.

The work is waiting for a server, so it needs no Ray Data. Holds the corpus's passages in memory. Spans are beside the rows, in a bundle
of kind "synthesis".
"""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from cluster import job_run
from cluster.catalog import corpora
from cluster.chat_client import ChatClient, estimated_tokens
from cluster.domain.base import digest_of
from cluster.domain.data_recipes import SynthesiseRecipe
from cluster.domain.datasets import SftRow
from cluster.domain.documents import CorpusVersion, Passage
from cluster.embedding import Embedder
from cluster.errors import InvalidInput, RecipeError
from cluster.job_run import JobRun
from cluster.model_roles import ModelRole
from cluster.passage_index import PassageIndex
from cluster.scratch import working_folder
from data_jobs import datasets
from data_jobs.synthesis_checks import located
from data_jobs.synthesis_filter import Filter, Made
from data_jobs.synthesis_journal import Journal
from data_jobs.synthesis_passages import Chosen, chosen, in_turn
from data_jobs.synthesis_prompts import PROMPTS, asking
from data_jobs.synthesis_refiner import Budget, Refiner, passage_digest, together
from data_jobs.synthesis_templates import pairs as templated

_AT_ONCE = 64
_EXAMPLES = 5
_TOKENS_A_PAIR = {"qa": 90, "reasoning": 260}
"""For the estimate of a dry run: what a pair of a kind takes as JSON."""


def main(argv: Sequence[str] | None = None) -> int:
    """The job: ``--run ID`` or ``--recipe FILE``; returns the exit code."""
    return job_run.main("data_jobs.synthesise", SynthesiseRecipe, synthesise, argv)


def synthesise(job: JobRun, recipe: SynthesiseRecipe) -> dict[str, Any]:
    """Makes the recipe's dataset; returns the report. Raises InvalidInput when no pair is good enough."""
    began = time.monotonic()
    with job.catalog.reading() as work:
        version = (
            corpora.newest(work, recipe.corpus) if recipe.version is None else corpora.get(work, recipe.corpus, recipe.version)
        )
    job.progress(0.02, f"opening {version.corpus}@{version.version}")
    index = PassageIndex.open(job.artifacts.fetch(version.index_uri))
    passages, skipped = chosen(index.passages(), recipe.min_chars, recipe.seed)
    endpoint = asked_endpoint(job.settings.models.refiner, recipe)
    documents = len({one.passage.document_id for one in passages})
    count = (
        recipe.per_passage if recipe.max_samples is None else min(recipe.per_passage, -(-recipe.max_samples // max(1, documents)))
    )
    base = {
        "corpus": f"{version.corpus}@{version.version}",
        "mode": "endpoint" if endpoint else "templates",
        "model": endpoint[1] if endpoint else None,
        "documents": documents,
    }
    came = {"in": len(passages) + sum(skipped.values()), "skipped": dict(skipped)}
    if recipe.dry_run:
        job.progress(1.0, f"{len(passages)} passages would be asked about")
        return {**base, "passages": came, **_estimate(passages, count, recipe, bool(endpoint)), "dry_run": True}
    synthesis = _Synthesis(job, recipe, version, index, passages, count)
    asyncio.run(synthesis.run(endpoint))
    report = synthesis.published()
    report["passages"] = came | report["passages"]
    return {**base, **report, "seconds": round(time.monotonic() - began, 3)}


def asked_endpoint(role: ModelRole, recipe: SynthesiseRecipe) -> tuple[str, str, str | None] | None:
    """Address, model and key of whom to ask; None: templates. The role's key goes to the role's own endpoint only."""
    if recipe.endpoint is None:
        return (role.endpoint, recipe.model or role.name, role.key) if role.endpoint else None
    if recipe.model is None and recipe.endpoint != role.endpoint:
        raise RecipeError(f"Endpoint '{recipe.endpoint}' needs the name of a model there; set 'model' in the recipe.")
    return recipe.endpoint, recipe.model or role.name, role.key if recipe.endpoint == role.endpoint else None


def _estimate(passages: Sequence[Chosen], count: int, recipe: SynthesiseRecipe, asks: bool) -> dict[str, Any]:
    """What a run would ask at most; with ``max_samples`` it may stop sooner. The judge is not counted."""
    kinds = recipe.kinds if asks else ()
    tokens_in = sum(estimated_tokens(asking(one.passage, kind, count)) for one in passages for kind in kinds)
    tokens_out = sum(min(recipe.max_tokens, _TOKENS_A_PAIR[kind] * count) for kind in kinds) * len(passages)
    tokens = {"in": tokens_in, "out": tokens_out}
    return {
        "requests": len(passages) * len(kinds),
        "estimated_tokens": tokens,
        "estimated_cost": _cost(tokens_in, tokens_out, recipe),
    }


def _cost(tokens_in: int, tokens_out: int, recipe: SynthesiseRecipe) -> float:
    return round((tokens_in * recipe.price_per_million_in + tokens_out * recipe.price_per_million_out) / 1e6, 6)


class _Synthesis:
    """One run: its parts, and what it counts."""

    def __init__(
        self,
        job: JobRun,
        recipe: SynthesiseRecipe,
        version: CorpusVersion,
        index: PassageIndex,
        passages: list[Chosen],
        count: int,
    ) -> None:
        self._job, self._recipe, self._version, self._index = job, recipe, version, index
        self._passages, self._count = passages, count
        self._failed: Counter[str] = Counter()
        self._done = self._answered = self._asked = 0
        self._stopped = ""
        self._budget = Budget(recipe.max_tokens_total)
        self._askers: list[Refiner] = []
        self._began = time.monotonic()

    async def run(self, endpoint: tuple[str, str, str | None] | None) -> None:
        """Makes and filters pairs, passages in bunches, until the passages, the samples or the budget are used up."""
        embedder = Embedder(self._job.settings.models.embedder.location)
        if self._version.embedder and embedder.name != self._version.embedder:
            raise InvalidInput(
                f"Corpus '{self._version.corpus}' was embedded by {self._version.embedder}, and configs/models.yaml names {embedder.name}; "
                "ingest it again."
            )
        judge = self._job.settings.models.judge
        judged = judge.endpoint and self._recipe.judge
        journals: list[Journal] = []
        clients: list[ChatClient] = []
        try:
            refiner = self._asker(endpoint, "ask", journals, clients) if endpoint else None
            judging = self._asker((judge.endpoint or "", judge.name, judge.key), "judge", journals, clients) if judged else None
            self.filter = Filter(self._index, embedder, self._recipe, judging)
            bunch = max(_AT_ONCE, 4 * self._recipe.concurrency)
            for start in range(0, len(self._passages), bunch):
                await self.filter.take(await self._made(self._passages[start : start + bunch], refiner))
                if self._recipe.max_samples is not None and len(self.filter.kept) >= self._recipe.max_samples:
                    self._stopped = "max_samples"
                    break
                if self._budget.reached:
                    self._stopped = "max_tokens_total"
                    break
        finally:
            for client in clients:
                await client.close()
            for journal in journals:
                journal.close()

    def _asker(
        self, endpoint: tuple[str, str, str | None], what: str, journals: list[Journal], clients: list[ChatClient]
    ) -> Refiner:
        address, model, key = endpoint
        recipe = self._recipe
        clients.append(ChatClient(address, model, key, recipe.concurrency, recipe.retries, recipe.timeout))
        name = digest_of([recipe.corpus, what, clients[-1].endpoint, model, PROMPTS])[:20]
        present = {passage_digest(one.passage) for one in self._passages}
        journals.append(Journal(self._job.settings.home / "work" / "synthesise" / f"{name}.jsonl", present))
        self._askers.append(Refiner(clients[-1], journals[-1], recipe, self._budget))
        return self._askers[-1]

    async def _made(self, several: Sequence[Chosen], refiner: Refiner | None) -> list[Made]:
        made = await together([self._of(one, refiner) for one in several])
        return [one for pairs in made for one in pairs]

    async def _of(self, one: Chosen, refiner: Refiner | None) -> list[Made]:
        """The passage's pairs. It counts as answered when something usable came for one of the kinds."""
        if refiner is None:
            pairs, problem = templated(one.passage, one.whole_start, self._recipe.kinds, self._count), ""
        else:
            entries = [await refiner.pairs(one.passage, kind, self._count) for kind in self._recipe.kinds]
            if all(entry is None for entry in entries):
                return []
            pairs = [pair for entry in entries if entry for pair in entry.pairs]
            problem = next((entry.problem for entry in entries if entry and entry.problem), "") if not pairs else ""
        self._asked += 1
        if problem:
            self._failed[problem] += 1
        else:
            self._answered += 1
        self._report_progress()
        return [Made(one.passage, pair) for pair in pairs]

    def _report_progress(self) -> None:
        seconds = max(1e-3, time.monotonic() - self._began)
        rate, total = self._asked / seconds, len(self._passages)
        most = self._recipe.max_samples
        kept = len(self.filter.kept)
        share = max(self._asked / total, kept / most if most else 0.0)
        left = seconds / share - seconds
        message = f"{self._asked} of {total} passages, {kept} pairs kept, {rate:.1f} passages/s, about {left:.0f} s left"
        self._job.progress(0.05 + 0.9 * min(1.0, share), message, passages_per_second=round(rate, 2), pairs=float(kept))

    def published(self) -> dict[str, Any]:
        """Writes the dataset and its spans, and says what became of every passage and pair. Raises InvalidInput without a pair."""
        recipe, kept = self._recipe, self._capped()
        if not kept:
            why = ", ".join(f"{count} {reason}" for reason, count in (self.filter.dropped + self._failed).most_common())
            raise InvalidInput(
                f"Dataset '{recipe.dataset}' would have no rows: {self._asked} passages asked, {self.filter.came} pairs made, none kept "
                f"({why or 'nothing to ask about was found'}); nothing was written. Without an endpoint only definitions, facts, lists, "
                "steps and commands in English give pairs."
            )
        rows = [self._row(one) for one in kept]
        dataset = datasets.publish(self._job.artifacts, recipe.dataset, "sft", recipe.agent, rows)
        spans = self._publish_spans(kept, rows, dataset.digest)
        with self._job.catalog.transaction() as work:
            changed = datasets.record(work, dataset)
        self._job.progress(1.0, f"{dataset.ref}: {dataset.rows} rows" if changed else "nothing changed", rows=float(dataset.rows))
        made_of = {
            "dataset": dataset.name,
            "kind": dataset.kind,
            "agent": dataset.agent,
            "digest": dataset.digest,
            "uri": dataset.uri,
        }
        return {**made_of, "rows": dataset.rows, "changed": changed, "spans_uri": spans, **self._report(kept)}

    def _capped(self) -> list[Made]:
        """The kept pairs in order of document and place; over ``max_samples``, each document gives one before any gives a second."""
        kept, most = self.filter.kept, self._recipe.max_samples
        if most is not None and len(kept) > most:
            groups: dict[str, list[Made]] = defaultdict(list)
            for one in kept:
                groups[one.passage.document_id].append(one)
            spread = in_turn(groups.values())
            for one in spread[most:]:
                self.filter.drop(one, "over_max_samples")
            kept = spread[:most]
        return sorted(kept, key=lambda one: (one.passage.source, one.passage.document_id, one.passage.number))

    def _row(self, made: Made) -> SftRow:
        answer = f"{made.pair.answer} [1]" if self._recipe.cite else made.pair.answer
        source = f"{self._version.corpus}@{self._version.version}/{made.passage.source}#{made.passage.number}"
        return SftRow(question=made.pair.question, passages=(made.passage.text,), answer=answer, source=source)

    def _publish_spans(self, kept: Sequence[Made], rows: Sequence[SftRow], digest: str) -> str:
        """``spans.jsonl``, a line a row in the rows' order: where in its document the support of each answer stands."""
        with working_folder("spans") as scratch:
            with (scratch / "spans.jsonl").open("w", encoding="utf-8") as file:
                for made, row in zip(kept, rows, strict=True):
                    file.write(
                        json.dumps({"source": row.source, "question": row.question, **_span(made)}, ensure_ascii=False) + "\n"
                    )
            return self._job.artifacts.publish("synthesis", scratch, {"dataset": digest}).uri

    def _report(self, kept: Sequence[Made]) -> dict[str, Any]:
        passages = {
            "asked": self._asked,
            "answered": self._answered,
            "failed": dict(self._failed),
            "left": len(self._passages) - self._asked,
        }
        tokens = {"in": self._budget.tokens_in, "out": self._budget.tokens_out}
        return {
            "passages": passages,
            "stopped_by": self._stopped or None,
            "pairs": {"in": self.filter.came, "kept": len(kept), "dropped": dict(self.filter.dropped.most_common())},
            "kinds": dict(Counter(one.pair.kind for one in kept)),
            "documents_with_rows": len({one.passage.document_id for one in kept}),
            "requests": sum(entry.requests for asker in self._askers for entry in asker.entries.values()),
            "reused_answers": sum(asker.reused for asker in self._askers),
            "tokens": tokens,
            "cost": _cost(tokens["in"], tokens["out"], self._recipe),
            "examples": [
                {"question": one.pair.question, "answer": one.pair.answer, "span": one.pair.span} for one in kept[:_EXAMPLES]
            ],
            "dropped_examples": self.filter.examples,
        }


def _span(made: Made) -> dict[str, Any]:
    passage: Passage = made.passage
    place = located(made.pair.span, passage.text)
    assert place is not None
    start, end = place
    where = {"document": passage.document_id, "passage": passage.id, "start": passage.start + start, "end": passage.start + end}
    return {"kind": made.pair.kind, "span": passage.text[start:end], **where, "score": made.score}


if __name__ == "__main__":
    raise SystemExit(main())
