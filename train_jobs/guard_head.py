"""The guard's classifier: which texts are attacks. `python -m train_jobs.guard_head --recipe configs/train/guard.yaml`

Learns from guard rows (a dataset, or a JSONL file) how ``train_jobs.guard_fit`` says, and from the agents' own examples, which are
ordinary; registers a release of the pseudo-agent ``guard``, which the gateway takes into use once it is promoted; without one the
patterns work alone. One that stops what the agents' question sets ask is not to be promoted. A challenger is compared with the champion
by the held-out figures that each got on its own rows: other rows, other figures, so read that part of the verdict as a hint.
"""

import sys
from typing import Any, Sequence

from cluster import job_run
from cluster.catalog import agents, questions, releases
from cluster.domain.agents import GUARD, Agent
from cluster.domain.base import Frozen
from cluster.domain.datasets import Dataset, GuardRow
from cluster.domain.recipes import GuardRecipe
from cluster.domain.releases import Release
from cluster.errors import Conflict
from cluster.guarding import classifier
from cluster.guarding.checks import Guard
from cluster.job_run import JobRun
from cluster.scratch import working_folder
from cluster.settings import ROOT
from train_jobs import guard_fit
from train_jobs.guard_fit import Fitted
from train_jobs.training import inputs

BASE = "guard-features"
"""What stands for a base model: the features, which no weights are needed for."""


class GuardVerdict(Frozen):
    """Whether the new classifier should be promoted, and why."""

    verdict: str
    reasons: tuple[str, ...]


def train(job: JobRun, recipe: GuardRecipe) -> dict[str, Any]:
    """The job's body. ``verdict`` and ``reasons`` in the result say whether the new classifier should be promoted."""
    sources = inputs(job, GUARD, "guard", recipe.datasets, recipe.rows)
    rows = [row for one in sources for row in job.artifacts.read_rows(one.uri) if isinstance(row, GuardRow)]
    learnt, asked = _own_texts(job)
    rows += [GuardRow(text=text, label="ordinary", place="input", source="card") for text in learnt]
    job.progress(0.1, f"fitting on {len(rows)} texts")
    guard = Guard.read(ROOT / recipe.bank)
    fitted = guard_fit.fit(rows, guard.bank, recipe)
    refused = _refused(guard, guard.taught(fitted.classifier), asked)
    job.progress(0.8, "registering the release", **fitted.metrics)
    return _register(job, recipe, sources, fitted, refused, len(asked))


def _own_texts(job: JobRun) -> tuple[list[str], list[str]]:
    """What the agents of this catalog are for, by their cards' examples; and what they are asked, by their question sets."""
    with job.catalog.reading() as work:
        examples = [text for card in agents.everyone(work) for text in card.examples]
        sets = questions.sets(work)
    asked = [one.text for each in sets if each.purpose not in ("guard", "routing") for one in each.questions]
    return list(dict.fromkeys(examples)), list(dict.fromkeys(asked))


def _refused(before: Guard, after: Guard, asked: Sequence[str]) -> list[str]:
    """The questions that the patterns let through and the classifier stops."""
    passed = [text for text in asked if before.check(text, "input").action != "block"]
    return [text for text in passed if after.check(text, "input").action == "block"]


def judged(
    fitted: Fitted, champion: Release | None, tolerance: float, refused: Sequence[str] = (), asked: int = 0
) -> GuardVerdict:
    """Promote unless a head is gone, its held-out recall fell by more than the tolerance, or it refuses more than that share of what
    the agents are ``asked``."""
    reasons = []
    if len(refused) > tolerance * asked:
        reasons.append(
            f"It stops {len(refused)} of {asked} questions that the agents' question sets ask, such as '{refused[0][:80]}': give it more "
            "ordinary rows."
        )
    if champion is None:
        return GuardVerdict(verdict="keep" if reasons else "promote", reasons=tuple(reasons) or ("It is the first classifier.",))
    for name, before in champion.metrics.items():
        if name.endswith(".recall_at_0.01"):
            after = fitted.metrics.get(name, 0.0)
            if after < before - tolerance:
                reasons.append(f"{name} is {after:.3f} and was {before:.3f} with {champion.ref}.")
    return GuardVerdict(verdict="keep" if reasons else "promote", reasons=tuple(reasons) or ("No recall was lost.",))


def _register(
    job: JobRun, recipe: GuardRecipe, sources: Sequence[Dataset], fitted: Fitted, refused: Sequence[str], asked: int
) -> dict[str, Any]:
    params = recipe.model_dump(mode="json")
    with job.catalog.reading() as work:
        champion = releases.champion(work, GUARD)
    parent = champion.ref if champion else None
    verdict = judged(fitted, champion, recipe.tolerance, refused, asked)
    with working_folder("guard") as scratch:
        bundle = scratch / "guard"
        bundle.mkdir()
        classifier.save(bundle, fitted.classifier, fitted.metrics)
        opened = job.registry.start_run(GUARD, job.run.id, params, sources, parent)
        job.registry.log_metrics(opened, fitted.metrics)
        try:
            release = job.registry.register(
                Agent(name=GUARD, display_name="Guard", description="Tells attacks from ordinary texts."),
                bundle,
                base_model=BASE,
                base_digest=f"{classifier.FORMAT:064x}",
                inputs=[one.digest for one in sources],
                recipe=params,
                parent=parent,
                run_id=job.run.id,
                mlflow_run_id=opened,
                metrics=fitted.metrics,
            )
        except Conflict as unchanged:  # the same rows under the same recipe
            release = champion or _newest(job)
            if champion is not None:
                verdict = GuardVerdict(verdict="keep", reasons=(unchanged.message,))
        finally:
            job.registry.finish_run(opened)
    return {
        "release": release.ref,
        "metrics": fitted.metrics,
        "champion": parent,
        "refused": len(refused),
        **verdict.model_dump(mode="json"),
    }


def _newest(job: JobRun) -> Release:
    """The classifier that a run which was cut short had registered and nobody promoted."""
    with job.catalog.reading() as work:
        return releases.of_agent(work, GUARD)[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.guard_head", GuardRecipe, train, argv)


if __name__ == "__main__":
    sys.exit(main())
