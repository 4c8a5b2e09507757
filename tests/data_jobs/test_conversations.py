"""Conversation files to a recorded dataset, on a real, small Ray."""

import json
from typing import Any

import pytest

from cluster.catalog import datasets
from cluster.domain.datasets import SftRow, rows_digest
from cluster.domain.recipes import ConversationsRecipe
from cluster.errors import Conflict, InvalidInput
from cluster.job_run import JobRun
from data_jobs.conversations import convert

pytestmark = pytest.mark.real


def line(question: str, answer: str, **more: Any) -> str:
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **more})


def test_conversations_become_an_immutable_dataset_and_the_report_adds_up(small_ray: None, job: JobRun, files: Any) -> None:
    good = [line(f"q{number}", f"a{number}", agent="property", quality=0.9) for number in range(60)]
    files.raw("b.jsonl", "\n".join([*good[:30], line("q0", "a0"), "{torn", line("x", "y", agent="linux")]))
    files.raw("a.jsonl", "\n".join([*good[30:], line("low", "a", quality=0.1), line("none", "a")]))
    files.raw("notes.txt", "no conversation")
    recipe = ConversationsRecipe(paths=(str(files.root),), dataset="talks", agent="property", min_quality=0.5, score_missing=False)
    report = convert(job, recipe)
    assert report["conversations"] == {
        "in": 66,
        "kept": 60,
        "dropped": {"low_quality": 1, "no_quality": 2, "other_agent": 1},
        "quarantined": {"corrupt": 1, "unknown_format": 1},
    }
    assert (report["dataset"], report["kind"], report["agent"], report["rows"], report["changed"]) == (
        "talks",
        "sft",
        "property",
        60,
        True,
    )
    with job.catalog.reading() as work:
        recorded = datasets.get(work, "talks")
    rows = job.artifacts.read_rows(recorded.uri)
    assert recorded.digest == report["digest"] == rows_digest(rows)
    assert recorded.sources == {"a.jsonl": 30, "b.jsonl": 30}
    assert isinstance(rows[0], SftRow)
    assert (rows[0].question, rows[0].source) == ("q30", "a.jsonl#line 1")  # in order of file and line

    again = convert(job, recipe)
    assert (again["digest"], again["changed"]) == (report["digest"], False)
    with pytest.raises(Conflict, match="'other' are exactly those of 'talks@"):
        convert(job, recipe.model_copy(update={"dataset": "other"}))

    # Without the quality filter, the row said twice is dropped, naming the first.
    loose = convert(job, recipe.model_copy(update={"min_quality": None, "dataset": "loose"}))
    assert loose["conversations"]["dropped"] == {"other_agent": 1, "exact_duplicate": 1}
    assert {"source": "b.jsonl#line 31", "reason": "exact_duplicate", "of": "b.jsonl#line 1"} in loose["dropped"]
    assert sum(loose["conversations"]["dropped"].values()) + loose["conversations"]["kept"] + 2 == loose["conversations"]["in"]

    with pytest.raises(
        InvalidInput, match=r"Dataset 'none' would have no rows: 66 conversations in, none kept \(.*other_category"
    ):
        convert(job, recipe.model_copy(update={"dataset": "none", "categories": ("no-such",)}))
    with job.catalog.reading() as work:
        assert sorted(dataset.name for dataset in datasets.everything(work)) == ["loose", "talks"]
