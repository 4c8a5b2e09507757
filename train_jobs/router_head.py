"""The router's head: which agent a text is for, or none. `python -m train_jobs.router_head --recipe configs/train/router.yaml`

Texts are agents' descriptions and examples, and router rows (examples, corrections). Where there are texts for no agent, they are a last
class of their own, which is never picked. What a head looks at is in ``cluster.routing``, how it is fitted in ``train_jobs.router_fit``;
temperature, scope and threshold are chosen on scores that each row got from a head that had not seen it (cross-validation); the
released head is trained on all rows and judged against the champion (``train_jobs.router_gate``). It is promoted by who asked for it.

Knows nothing of conversations: it sees one text.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster import job_run, routing
from cluster.artifacts import file_digest
from cluster.catalog import agents, questions, releases
from cluster.domain.agents import ROUTER, Agent
from cluster.domain.datasets import Dataset, RouterRow
from cluster.domain.recipes import RouterRecipe
from cluster.domain.releases import Release
from cluster.embedding import Embedder, model_directory
from cluster.errors import Conflict, InvalidInput, TreadleError
from cluster.job_run import JobRun
from cluster.routing import Floats, Head
from cluster.scratch import working_folder
from train_jobs import router_calibration, router_fit, router_gate, router_report
from train_jobs.router_calibration import Calibration
from train_jobs.router_gate import Contender, Judged, RouterComparison, RouterVerdict
from train_jobs.training import inputs

Labels = NDArray[np.int64]
_BULK = 20_000  # texts from which torch's start pays beside ONNX Runtime's exact vectors


class Trained(NamedTuple):
    """A head with its calibration and the texts (n), vectors (n, d) and labels (n,) it came from."""

    head: Head
    calibration: Calibration
    texts: Sequence[str]
    vectors: Floats
    labels: Labels

    @property
    def confusion(self) -> NDArray[np.int64]:
        rows = self.calibration.rows
        return router_calibration.confusion(self.labels[rows], self.calibration.picked, self.head.agents)

    @property
    def metrics(self) -> dict[str, float]:
        return {**self.calibration.metrics, **router_calibration.by_agent(self.confusion, self.head.agents)}


def collect(cards: Sequence[Agent], rows: Sequence[RouterRow]) -> tuple[list[str], Labels, dict[str, int]]:
    """Texts and their labels (index into ``cards``; their number for "no agent"), and what was dropped, by reason.

    A text given twice counts once; the later judgement wins. Raises InvalidInput when an agent has no text at all.
    """
    number = {card.name: index for index, card in enumerate(cards)}
    found: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    for card in cards:
        for text in (card.description, *card.examples):
            if text.strip():
                found[" ".join(text.split())] = number[card.name]
    for row in rows:
        text = " ".join(row.text.split())
        if not text:
            dropped["without text"] += 1
        elif row.agent is not None and row.agent not in number:
            dropped[f"for '{row.agent}', which is not routed to"] += 1
        else:
            found[text] = len(cards) if row.agent is None else number[row.agent]
    labels = np.array(list(found.values()), dtype=np.int64)
    for card in cards:
        if not (labels == number[card.name]).any():
            raise InvalidInput(f"Agent '{card.name}' has no routing examples; add 'examples' to its card, or router rows.")
    return list(found), labels, dict(dropped)


def teach(
    names: Sequence[str], texts: Sequence[str], vectors: Floats, labels: Labels, recipe: RouterRecipe, embedder: str
) -> Trained:
    """A calibrated head over ``names``; a label past the last name is "no agent". ``vectors`` (n, d) are unit vectors."""
    sample = router_fit.sample_of(texts, vectors, labels, len(names))
    held = router_fit.held_out(sample, recipe)
    found = router_calibration.calibrate(held, labels[held.rows], len(names), recipe.out_of_scope_recall)
    arrays = router_fit.fit(sample, recipe)._replace(scope=found.scope)
    head = Head(arrays, tuple(names), found.threshold, found.temperature, recipe.sharpness, embedder)
    return Trained(head, found, texts, sample.vectors, labels)


def train(job: JobRun, recipe: RouterRecipe) -> dict[str, Any]:
    """The job's body. ``verdict`` and ``reasons`` in the result say whether the new head should be promoted."""
    cards, sources = _look_up(job, recipe)
    rows = [row for one in sources for row in job.artifacts.read_rows(one.uri) if isinstance(row, RouterRow)]
    texts, labels, dropped = collect(cards, rows)
    job.progress(0.1, f"embedding {len(texts)} texts")
    embedder = Embedder(job.settings.models.embedder.location, bulk=len(texts) >= _BULK)
    vectors = embedder.embed(texts)
    job.progress(0.4, "training")
    trained = teach([card.name for card in cards], texts, vectors, labels, recipe, embedder.name)
    job.progress(0.8, "registering the release", **trained.calibration.metrics)
    return {"dropped": dropped, **_register(job, recipe, sources, trained, embedder)}


def _look_up(job: JobRun, recipe: RouterRecipe) -> tuple[list[Agent], tuple[Dataset, ...]]:
    with job.catalog.reading() as work:
        cards = [agents.get(work, name) for name in recipe.agents] or [card for card in agents.everyone(work) if card.visible]
    if len(cards) < 2:
        raise InvalidInput(f"A router needs at least two agents, and there is {len(cards)}; treadle agents create makes one.")
    named = bool(recipe.datasets or recipe.rows)
    return sorted(cards, key=lambda card: card.name), inputs(job, ROUTER, "router", recipe.datasets, recipe.rows) if named else ()


def _register(
    job: JobRun, recipe: RouterRecipe, sources: Sequence[Dataset], trained: Trained, embedder: Embedder
) -> dict[str, Any]:
    params = recipe.model_dump(mode="json")
    with job.catalog.reading() as work:
        champion = releases.champion(work, ROUTER)
    with working_folder("router") as scratch:
        bundle = scratch / "head"
        bundle.mkdir()
        routing.save(bundle, trained.head, trained.calibration.metrics)
        router_gate.save_held(bundle, trained.texts, trained.calibration.rows, trained.calibration.picked)
        verdict = _judged(job, recipe, trained, bundle, champion, embedder)
        opened = job.registry.start_run(ROUTER, job.run.id, params, sources, champion.ref if champion else None)
        _log(job, opened, trained, verdict, scratch)
        location = job.settings.models.embedder.location
        try:
            release = job.registry.register(
                Agent(name=ROUTER, display_name="Router", description="Picks the agent for a text."),
                bundle,
                base_model=job.settings.models.embedder.name,
                base_digest=file_digest(model_directory(location) / "model.safetensors"),
                inputs=[one.digest for one in sources],
                recipe=params,
                parent=champion.ref if champion else None,
                run_id=job.run.id,
                mlflow_run_id=opened,
                metrics=trained.metrics,
            )
        except Conflict as unchanged:  # the same texts under the same recipe: a turn of the wheel goes on
            release = champion or _newest(job)
            if champion is not None:
                verdict = RouterVerdict(verdict="keep", reasons=(unchanged.message,))
        finally:
            job.registry.finish_run(opened)
    said = {"champion": champion.ref if champion else None, **verdict.model_dump(mode="json")}
    return {"release": release.ref, "metrics": trained.metrics, "threshold": trained.head.threshold, **said}


def _newest(job: JobRun) -> Release:
    """The head that a run which was cut short had registered and nobody promoted."""
    with job.catalog.reading() as work:
        return releases.of_agent(work, ROUTER)[0]


def _log(job: JobRun, opened: str, trained: Trained, verdict: RouterVerdict, scratch: Path) -> None:
    """Metrics, confusion matrix (figure and JSON) and verdict into the MLflow run."""
    job.registry.log_metrics(opened, trained.metrics)
    names = trained.head.agents
    router_report.draw(trained.confusion, names, scratch / "confusion.png")
    job.registry.log_file(opened, scratch / "confusion.png")
    job.registry.log_json(opened, router_report.table(trained.confusion, names), "confusion.json")
    job.registry.log_json(opened, verdict.model_dump(mode="json"), "verdict.json")


def _judged(
    job: JobRun, recipe: RouterRecipe, trained: Trained, bundle: Path, champion: Release | None, embedder: Embedder
) -> RouterVerdict:
    if champion is None:
        return RouterVerdict(verdict="promote", reasons=("It is the first head.",))
    try:
        folder = job.artifacts.fetch(champion.adapter_uri, champion.adapter_digest)
        before = router_gate.read_contender(folder, champion.ref)
        if before.head.embedder != embedder.name:
            raise InvalidInput(f"{champion.ref} was trained on embedder {before.head.embedder}, not on {embedder.name}.")
    except TreadleError as error:
        return RouterVerdict(
            verdict="promote", reasons=(f"The champion cannot be compared with and is replaced: {error.message}",)
        )
    after = router_gate.read_contender(bundle, "challenger")
    return router_gate.decide(_compared(job, trained, before, after, embedder), recipe.tolerance)


def _compared(job: JobRun, trained: Trained, before: Contender, after: Contender, embedder: Embedder) -> list[RouterComparison]:
    names = [*trained.head.agents, ""]
    right = [names[label] for label in trained.labels]
    found = [router_gate.compare_rows(before, after, Judged("its texts, held out", trained.texts, trained.vectors, right))]
    with job.catalog.reading() as work:
        asked = [one for one in questions.sets(work) if one.purpose == "routing"]
    for one in asked:
        vectors = embedder.embed([question.text for question in one.questions])
        found.append(router_gate.compare_questions(before, after, router_gate.judged_questions(one, vectors)))
    return [one for one in found if one is not None]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.router_head", RouterRecipe, train, argv)


if __name__ == "__main__":
    sys.exit(main())
