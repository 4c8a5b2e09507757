"""Conversation files to a dataset.

    python -m data_jobs.conversations --recipe configs/data/conversations.yaml

Files are JSON lines, JSON or CSV in the forms that ``data_jobs.chat_formats`` names; logs of messages are threaded. A conversation may
carry ``agent``, ``category``, ``quality`` (a number, higher is better), ``passages`` (texts, on the conversation or on a user message)
and ``rejected`` (the answer that nobody wanted, for kind dpo). Other keys are left alone.

sft      every answer to a question → one row, with the messages before it as history
dpo      the last answer as the chosen one, ``rejected`` as the other
router   the first question with its ``agent`` (null: out of scope)

Without a category it may get one from the recipe's examples (``data_jobs.categories``), without a quality it is scored by what can be
observed (``data_jobs.conversation_quality``).
"""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from cluster import job_run
from cluster.catalog import forgotten
from cluster.domain.data_recipes import ConversationsRecipe
from cluster.domain.datasets import Row
from cluster.domain.documents import Dropped, Quarantined, is_of
from cluster.errors import InvalidInput
from cluster.job_run import JobRun
from data_jobs import datasets
from data_jobs.documents import REFUSALS
from data_jobs.on_ray import Row as RayRow
from data_jobs.on_ray import connect, spread
from data_jobs.sources import gather
from data_jobs.threads import read_threads
from data_jobs.wash import check

_BYTES_PER_TASK = 16e6
_OPENING = 0.5e6  # what opening a file weighs beside its bytes
_ROWS: TypeAdapter[list[Row]] = TypeAdapter(list[Row])


def main(argv: Sequence[str] | None = None) -> int:
    """The job: ``--run ID`` or ``--recipe FILE``; returns the exit code."""
    return job_run.main("data_jobs.conversations", ConversationsRecipe, convert, argv)


def convert(job: JobRun, recipe: ConversationsRecipe) -> dict[str, Any]:
    """Makes the recipe's dataset; returns the report. Raises InvalidInput when no conversation gives a row."""
    began = time.monotonic()
    check(recipe.wash)
    found = gather(recipe.paths, job.settings.home / "spool" / recipe.dataset, job.settings.sources)
    files = found.files
    job.progress(0.05, f"reading {len(files)} files")
    connect(job.settings, job.local)
    step = partial(read_threads, recipe=recipe, embedder=job.settings.models.embedder.location)
    weighed = [(one._asdict(), _OPENING + one.bytes) for one in files]
    read = list(spread(weighed, step, job.settings, _BYTES_PER_TASK))
    came, told = len(read) + len(found.refused), _told(read)
    read.sort(key=lambda row: (row["source"], row["line"]), reverse=True)

    job.progress(0.8, f"converting {came} conversations")
    with job.catalog.reading() as work:
        gone = forgotten.documents(work, "")
    refused: list[Dropped | Quarantined] = list(found.refused)
    rows: dict[str, Row] = {}
    repeated = kept = 0
    while read:
        one = read.pop()  # so that each conversation is here once: as what was read, or as its rows
        if one["refusal"]:
            refused.append(REFUSALS[one["refusal"]].model_validate_json(one["body"]))
            continue
        said = f"{one['source']}#line {one['line']}"
        if any(is_of(said, source) for source in gone):
            refused.append(Dropped(source=said, reason="forgotten"))
            continue
        made = {datasets.content_key(row): row for row in _ROWS.validate_json(one["rows"])}
        new = {key: row for key, row in made.items() if key not in rows}
        if new:
            kept += 1
            repeated += len(made) - len(new)
            rows |= new
        else:
            key, row = next(iter(made.items()))
            refused.append(Dropped(source=row.source, reason="exact_duplicate", of=rows[key].source))
    if not rows:
        why = ", ".join(f"{count} {reason}" for reason, count in Counter(one.reason for one in refused).most_common())
        raise InvalidInput(
            f"Dataset '{recipe.dataset}' would have no rows: {came} conversations in, none kept ({why or 'the files are empty'}); "
            "nothing was written. Check the recipe's filters and the files."
        )
    agent = None if recipe.kind == "router" else recipe.agent
    dataset = datasets.publish(job.artifacts, recipe.dataset, recipe.kind, agent, list(rows.values()))
    with job.catalog.transaction() as work:
        changed = datasets.record(work, dataset)
    job.progress(1.0, f"{dataset.ref}: {dataset.rows} rows" if changed else "nothing changed", rows=float(dataset.rows))
    report = {**_report(refused, came, kept), **told}
    made_of = {"dataset": dataset.name, "kind": dataset.kind, "agent": agent, "digest": dataset.digest, "uri": dataset.uri}
    seconds = round(time.monotonic() - began, 3)
    return {**made_of, "rows": dataset.rows, "repeated_rows": repeated, "changed": changed, "seconds": seconds, **report}


def _told(read: Sequence[RayRow]) -> dict[str, Any]:
    """Of all conversations that could be read: how many are in each category, how near those found by example are to it, and what the
    computed scores say."""
    near, scores = defaultdict(list), [one["score"] for one in read if one["score"] >= 0]
    for one in read:
        if one["category"] and one["near"] >= 0:
            near[one["category"]].append(one["near"])
    return {
        "categories": dict(Counter(one["category"] for one in read if one["category"]).most_common()),
        "categorised": {name: {"conversations": len(of), "mean_score": _mean(of)} for name, of in sorted(near.items())},
        "quality": {"scored": len(scores), "mean": _mean(scores)},
        "quality_reasons": dict(Counter(reason for one in read for reason in one["reasons"].split()).most_common()),
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None


def _report(refused: Sequence[Dropped | Quarantined], came: int, kept: int) -> dict[str, Any]:
    """What became of every conversation: in = kept + dropped + quarantined."""
    dropped = [one for one in refused if isinstance(one, Dropped)]
    quarantined = [one for one in refused if isinstance(one, Quarantined)]
    return {
        "conversations": {
            "in": came,
            "kept": kept,
            "dropped": dict(Counter(one.reason for one in dropped)),
            "quarantined": dict(Counter(one.reason for one in quarantined)),
        },
        "dropped": [one.model_dump(exclude_none=True) for one in dropped],
        "quarantined": [one.model_dump() for one in quarantined],
    }


if __name__ == "__main__":
    raise SystemExit(main())
