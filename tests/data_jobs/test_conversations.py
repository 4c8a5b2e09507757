"""Conversation files to a recorded dataset, on a real, small Ray."""

import json
from typing import Any

import pytest

from cluster.catalog import datasets
from cluster.domain.data_recipes import ConversationsRecipe
from cluster.domain.datasets import SftRow, rows_digest
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
    recipe = ConversationsRecipe(
        paths=(str(files.root),), dataset="talks", agent="property", min_quality=0.5, score_missing=False
    )
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


def test_forms_are_mixed_and_the_report_says_what_was_found(small_ray: None, job: JobRun, files: Any) -> None:
    files.raw("a.csv", "question,answer\nWhere is my key?,At the desk.\nAnd the rent?,I'm sorry.\ntorn\n")
    log = [
        {"author": "Kim", "text": "I lost my key."},
        {"author": "Desk", "text": "We have one."},
        {"author": "Kim", "text": "Thanks!"},
    ]
    files.raw(
        "b.jsonl", "\n".join(json.dumps({**one, "time": f"2026-03-0{1 + place // 2}T09:00:00"}) for place, one in enumerate(log))
    )
    recipe = ConversationsRecipe(
        paths=(str(files.root),),
        dataset="mixed",
        agent="property",
        min_quality=0.5,
        assistant_authors=("Desk",),
        gap_hours=48,
        categories_by_example={"keys": ("My key is gone.", "I lost the key.")},
    )
    report = convert(job, recipe)
    assert report["conversations"] == {"in": 4, "kept": 2, "dropped": {"low_quality": 1}, "quarantined": {"corrupt": 1}}
    assert report["quarantined"][0]["detail"] == "a.csv#line 4: it has 1 columns, the first row 2; correct or remove it."
    assert report["categories"] == {"keys": 2}
    assert report["categorised"]["keys"]["conversations"] == 2
    assert report["quality"] == {"scored": 3, "mean": 0.767}
    assert report["quality_reasons"] == {"refused": 1, "thanked": 1}
    assert [row.source for row in job.artifacts.read_rows(report["uri"])] == ["a.csv#line 2", "b.jsonl#line 1"]
