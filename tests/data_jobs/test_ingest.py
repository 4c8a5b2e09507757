"""The whole ingest on a real, small Ray: real files, FAISS, catalog and artifact store."""

import random
from pathlib import Path
from typing import Any

import pytest

from cluster.catalog import corpora, runs
from cluster.domain.data_recipes import IngestRecipe
from cluster.embedding import Embedder
from cluster.errors import InvalidInput
from cluster.job_run import JobRun
from cluster.passage_index import PassageIndex
from data_jobs import ingest as module
from data_jobs.ingest import ingest

pytestmark = pytest.mark.real


def long_text(seed: int) -> str:
    pick = random.Random(seed)
    vocabulary = ["".join(pick.choices("aeioulnrst", k=5)) for _ in range(300)]
    return "# Chapter\n\n" + " ".join(" ".join(pick.choices(vocabulary, k=9)).capitalize() + "." for _ in range(12))


@pytest.fixture
def corpus(files: Any) -> Path:
    files.raw("rent.md", "# Rent\n\nThe monthly rent of Oak House is 900 euros.\n\n## Deposit\n\nThe deposit is 2700 euros.")
    files.pdf("bins.pdf", [["Bins", "The bins of Oak House are emptied every Tuesday."]])
    files.docx("keys.docx", lambda document: document.add_paragraph("A lost key of Oak House costs 40 euros."))
    files.raw("lift.html", "<html><body><h1>Lift</h1><p>The lift code of Oak House is 4471.</p></body></html>")
    files.raw("rents.csv", "house,rent\nElm House,the rent is 950 euros\nAsh House,the rent is 990 euros\n")
    files.raw("long.md", long_text(1))
    files.raw("long-again.md", long_text(1).replace("Chapter", "Chapters"))
    files.raw("rent-copy.md", (files.root / "rent.md").read_text())
    files.raw("short.txt", "hi")
    files.raw("empty.txt", "")
    files.raw("torn.pdf", (files.root / "bins.pdf").read_bytes()[:300])
    files.pdf("locked.pdf", [["secret"]], password="key")
    files.raw("fake.docx", "no zip")
    files.raw("program.exe", b"MZ\x00")
    path: Path = files.root
    return path


def recipe(root: Path, **changes: Any) -> IngestRecipe:
    return IngestRecipe(**{"paths": (str(root),), "corpus": "kb", "chunk_size": 200, "overlap": 20, **changes})


def test_documents_become_a_searchable_version_and_the_report_adds_up(small_ray: None, job: JobRun, corpus: Path) -> None:
    report = ingest(job, recipe(corpus))
    assert report["documents"] == {
        "in": 15,
        "kept": 7,
        "dropped": {"near_duplicate": 1, "exact_duplicate": 1, "too_short": 1, "empty": 1},
        "quarantined": {"corrupt": 2, "encrypted": 1, "unknown_format": 1},
    }
    assert {one["source"]: one.get("of") for one in report["dropped"]} == {
        "long.md": "long-again.md",
        "rent.md": "rent-copy.md",
        "short.txt": None,
        "empty.txt": None,
    }
    assert {one["source"]: one["reason"] for one in report["quarantined"]} == {
        "torn.pdf": "corrupt",
        "fake.docx": "corrupt",
        "locked.pdf": "encrypted",
        "program.exe": "unknown_format",
    }
    assert (report["corpus"], report["version"], report["changed"]) == ("kb", 1, True)
    assert report["seconds"] > 0
    assert report["mb_per_s"] >= 0

    with job.catalog.reading() as work:
        version = corpora.newest(work, "kb")
    assert (version.digest, version.passages, version.documents) == (report["digest"], report["passages"], 7)
    index = PassageIndex.open(job.artifacts.fetch(version.index_uri))
    embedder = Embedder(threads=1)
    assert index.embedder == version.embedder == embedder.name
    for question, answer in {
        "What is the lift code?": "4471",
        "How much is a lost key?": "40 euros",
        "When are the bins emptied?": "Tuesday",
        "What is the rent of Elm House?": "950",
        "How high is the deposit?": "2700",
    }.items():
        hits = index.search(question, embedder.embed([question])[0], k=3)
        assert any(answer in hit.passage.text for hit in hits), question
    sources = [passage.source for passage in index.passages()]
    assert sources == sorted(sources)

    # The same again: nothing new. One document fewer: a new version without it. The old version stays.
    again = ingest(job, recipe(corpus))
    assert (again["version"], again["changed"], again["digest"]) == (1, False, report["digest"])
    assert again["documents"] == report["documents"]
    (corpus / "lift.html").unlink()
    fewer = ingest(job, recipe(corpus))
    assert (fewer["version"], fewer["changed"], fewer["documents"]["kept"]) == (2, True, 6)
    with job.catalog.reading() as work:
        assert [one.version for one in corpora.versions(work, "kb")] == [1, 2]
        second = PassageIndex.open(job.artifacts.fetch(corpora.newest(work, "kb").index_uri))
    assert "lift.html" not in {passage.source for passage in second.passages()}
    assert "lift.html" in {passage.source for passage in PassageIndex.open(job.artifacts.fetch(version.index_uri)).passages()}


def test_a_corpus_without_a_document_is_refused_and_nothing_is_written(small_ray: None, job: JobRun, files: Any) -> None:
    files.raw("a.txt", "hi")
    files.raw("b.pdf", "no pdf")
    with pytest.raises(InvalidInput, match=r"'kb' would be empty: of 2 files .*1 too_short.*; nothing was changed"):
        ingest(job, recipe(files.root))
    with job.catalog.reading() as work:
        assert corpora.names(work) == []
    assert not list(Path(job.artifacts.root).rglob("index.json"))


def test_the_module_runs_from_a_recipe_file(
    small_ray: None, job: JobRun, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"paths: [{corpus}]\ncorpus: by-hand\n")
    assert module.main(["--recipe", str(file)]) == 0
    with job.catalog.reading() as work:
        assert corpora.newest(work, "by-hand").version == 1
        (run,) = [one for one in runs.recent(work) if one.id != job.run.id]
    assert run.state == "succeeded"
    assert run.result is not None
    assert run.result["documents"]["in"] == 15
    capsys.readouterr()


def test_a_wrong_key_in_a_recipe_is_one_sentence_and_exit_2(
    settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("paths: [x]\ncorpus: kb\nchunk_sise: 3\n")
    assert module.main(["--recipe", str(file)]) == 2
    assert "unknown key 'chunk_sise'; did you mean 'chunk_size'?" in capsys.readouterr().err
