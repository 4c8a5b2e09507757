"""Rows to a recorded dataset."""

from cluster.domain.datasets import SftRow
from cluster.job_run import JobRun
from data_jobs.datasets import content_key, distinct, publish


def row(question: str, source: str) -> SftRow:
    return SftRow(question=question, answer="a", source=source)


def test_a_dataset_counts_where_its_rows_came_from(job: JobRun) -> None:
    sources = ["a.jsonl#line 1", "a.jsonl#line 9", "turn:turn_1#sig_2", "c@1/https://host/a:b#3"]
    made = publish(job.artifacts, "d", "sft", "linux", [row(str(n), source) for n, source in enumerate(sources)])
    assert made.sources == {"a.jsonl": 2, "turn": 1, "c@1/https://host/a:b": 1}


def test_rows_are_the_same_by_what_they_teach() -> None:
    first, twin, other = row("q", "a#1"), row("q", "b#2"), row("Q", "a#1")
    assert content_key(first) == content_key(twin) != content_key(other)
    assert distinct([first, twin, other]) == [first, other]
