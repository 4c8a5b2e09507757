"""Signals that are in no dataset yet to SFT, DPO and router datasets and regression questions, with the ledger's links.

    python -m data_jobs.signals --recipe configs/data/signals.yaml

What a signal becomes is ``cluster.domain.signals.consequences``' to say. Datasets, questions, ledger and the marks on the signals are one
transaction: a job that dies leaves every signal waiting. Signals are few next to documents (people make them) and lie in the catalog,
so this job needs no Ray Data. A dataset made here holds the new rows only; a recipe may name several datasets.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from cluster import job_run
from cluster.catalog import Work, conversations, questions
from cluster.catalog import signals as catalog_signals
from cluster.domain.data_recipes import SignalsRecipe, WashRecipe
from cluster.domain.datasets import Dataset, Row
from cluster.domain.signals import Consequence, consequences
from cluster.job_run import JobRun
from data_jobs import datasets

Key = tuple[str, str | None]
RESTRICTED = "its answer rests on documents that are not for everybody"


def main(argv: Sequence[str] | None = None) -> int:
    """The job: ``--run ID`` or ``--recipe FILE``; returns the exit code."""
    return job_run.main("data_jobs.signals", SignalsRecipe, curate, argv)


def curate(job: JobRun, recipe: SignalsRecipe) -> dict[str, Any]:
    """Makes the datasets and regression questions; returns what each signal became. No waiting signals is no error."""
    with job.catalog.reading() as work:
        signal_ids, made, restricted = _waiting(work, recipe.agent)
    job.progress(0.3, f"{len(signal_ids)} signals waiting")
    groups: dict[Key, list[Consequence]] = defaultdict(list)
    for one in made:
        if one.row is not None:
            groups[one.row.kind, None if one.row.kind == "router" else one.agent].append(one)
    built = {key: _dataset(job, key, group, recipe.wash) for key, group in sorted(groups.items(), key=str)}
    job.progress(0.7, f"recording {len(built)} datasets")
    with job.catalog.transaction() as work:
        for key, dataset in built.items():
            datasets.record(work, dataset)
            for one in groups[key]:
                catalog_signals.link(work, one.signal_id, "dataset", dataset.ref)
        regression = _record_questions(work, made)
        for signal_id in _without(signal_ids, made):
            catalog_signals.link(work, signal_id, "none", RESTRICTED if signal_id in restricted else "nothing to learn")
        catalog_signals.mark_curated(work, signal_ids)
    job.progress(1.0, f"{len(signal_ids)} signals curated", signals=float(len(signal_ids)))
    return {
        "signals": {
            "in": len(signal_ids),
            "used": len({one.signal_id for one in made}),
            "without_use": len(_without(signal_ids, made)),
        },
        "datasets": [_shown(dataset) for dataset in built.values()],
        "questions": regression,
    }


def _waiting(work: Work, agent: str | None) -> tuple[list[str], list[Consequence], set[str]]:
    """Ids of the waiting signals (of one agent's turns, if given), what they become, and which of them are on turns that rest on
    documents for some only. Older signals on the same turns count when it is decided which is the newest of its kind, but become
    nothing a second time."""
    waiting = catalog_signals.waiting(work)
    turns = conversations.turns_of(work, list({signal.turn_id for signal in waiting}))
    turns = {key: turn for key, turn in turns.items() if agent in (None, turn.agent)}
    ids = [signal.id for signal in waiting if signal.turn_id in turns]
    by_turn = defaultdict(list)
    for signal in catalog_signals.of_turns(work, list(turns)):
        by_turn[signal.turn_id].append(signal)
    made = [one for turn in turns.values() for one in consequences(turn, by_turn[turn.id])]
    restricted = {signal.id for signal in waiting if signal.turn_id in turns and turns[signal.turn_id].restricted}
    return ids, [one for one in made if one.signal_id in set(ids)], restricted


def _dataset(job: JobRun, key: Key, group: Sequence[Consequence], wash: WashRecipe) -> Dataset:
    kind, agent = key
    rows: list[Row] = datasets.distinct(datasets.masked_row(one.row, wash) for one in group if one.row is not None)
    name = f"signals-{kind}" if agent is None else f"{agent}-signals-{kind}"
    return datasets.publish(job.artifacts, name, rows[0].kind, agent, rows)


def _record_questions(work: Work, made: Sequence[Consequence]) -> dict[str, int]:
    """Puts the new questions into their agents' regression sets; how many went into each."""
    by_agent = defaultdict(list)
    for one in made:
        if one.question is not None:
            by_agent[one.agent].append(one)
    counts = {}
    for agent, asked in sorted(by_agent.items()):
        kept = questions.add_regression(work, agent, [one.question for one in asked if one.question is not None])
        counts[kept.name] = len({one.question.id for one in asked if one.question is not None})
        for one in asked:
            assert one.question is not None
            catalog_signals.link(work, one.signal_id, "question", f"{kept.name}#{one.question.id}")
    return counts


def _without(signal_ids: Sequence[str], made: Sequence[Consequence]) -> list[str]:
    used = {one.signal_id for one in made}
    return [one for one in signal_ids if one not in used]


def _shown(dataset: Dataset) -> dict[str, Any]:
    return {"ref": dataset.ref, **dataset.model_dump(include={"name", "kind", "agent", "rows", "uri"})}


if __name__ == "__main__":
    raise SystemExit(main())
