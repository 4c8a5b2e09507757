"""Who may read what, from the recipe to the passages of every later version."""

from pathlib import Path
from typing import Any

import pytest

from cluster.catalog import corpora
from cluster.domain.data_recipes import IngestRecipe
from cluster.domain.readers import AccessRule, Reader
from cluster.domain.users import Access
from cluster.job_run import JobRun
from cluster.passage_index import PassageIndex
from data_jobs.duplicates import Fingerprint, find_duplicates, signature
from data_jobs.ingest import ingest
from data_jobs.wash import text_digest

pytestmark = pytest.mark.real
BOARD = Access(roles=("curator",))


@pytest.fixture
def folder(files: Any) -> Path:
    files.raw("rent.md", "# Rent\n\nThe rent of Oak House is 900 euros.")
    files.raw("hr/pay.csv", "person,text\nEve,Eve is paid 5000 euros a month.\nMax,Max is paid 4000 euros a month.\n")
    files.raw("hr/rent-copy.md", "# Rent\n\nThe rent of Oak House is 900 euros.")
    path: Path = files.root
    return path


def recipe(folder: Path, **changes: Any) -> IngestRecipe:
    return IngestRecipe(**{"paths": (str(folder),), "corpus": "kb", "vectors": False, **changes})


def newest(job: JobRun) -> PassageIndex:
    with job.catalog.reading() as work:
        return PassageIndex.open(job.artifacts.fetch(corpora.newest(work, "kb").index_uri))


def test_readers_stay_with_the_passages_through_every_version(job: JobRun, folder: Path) -> None:
    rules = (AccessRule(sources="hr/*", roles=("curator",)), AccessRule(sources="boss/*", users=("ada",)))
    plain = ingest(job, recipe(folder))
    assert plain["documents"]["dropped"] == {"exact_duplicate": 1}
    assert newest(job).readers is None

    report = ingest(job, recipe(folder, access=rules))
    assert report["changed"]
    assert report["access"] == {"hr/*": 3, "boss/*": 0}
    assert report["documents"]["dropped"] == {}, "the open copy must not take the place of the other, nor the other way round"
    index = newest(job)
    assert {one.source: one.readers for one in index.passages()} == {
        "rent.md": None,
        "hr/pay.csv#row 2": BOARD,
        "hr/pay.csv#row 3": BOARD,
        "hr/rent-copy.md": BOARD,
    }
    assert index.search("Eve paid", None, 3, Reader(user="ben")) == []
    assert len(index.search("Eve paid", None, 3, Reader(user="ben", role="curator"))) == 2

    assert not ingest(job, recipe(folder, access=rules))["changed"]
    (folder / "new.md").write_text("Something new about the rent of Elm House.")
    ingest(job, recipe(folder, access=rules))
    continued = newest(job)
    assert sum(one.readers == BOARD for one in continued.passages()) == 3
    assert continued.search("Max paid", None, 3, Reader(user="ben")) == []

    again = ingest(job, recipe(folder, access=(AccessRule(sources="hr/*", users=("ben",)),)))
    assert again["changed"], "other readers are another version"
    assert newest(job).search("Max paid", None, 3, Reader(user="ben"))
    (folder / "new.md").unlink()
    opened = ingest(job, recipe(folder))
    assert opened["digest"] == plain["digest"], "without marks a corpus is what it always was"
    assert newest(job).readers is None


def test_near_duplicates_are_sought_among_equal_readers() -> None:
    text = " ".join(f"word{number} of the house" for number in range(60))
    prints = [
        Fingerprint("a", text_digest(text), signature(text)),
        Fingerprint("b", text_digest(f"{text} now"), signature(f"{text} now"), "curators"),
        Fingerprint("c", text_digest(f"{text} then"), signature(f"{text} then"), "curators"),
        Fingerprint("d", text_digest(f"{text} so"), signature(f"{text} so")),
    ]
    assert {one.source: one.of for one in find_duplicates(prints, 0.85)} == {"c": "b", "d": "a"}
