"""The data commands as a person types them, without a cluster: the same words start a Ray of their own, or none."""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

import psutil
import pytest

from cluster.settings import ROOT

pytestmark = pytest.mark.real
Treadle = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def treadle(tmp_path_factory: pytest.TempPathFactory, settings_file: Path) -> Treadle:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
    home = tmp_path_factory.mktemp("data") / "home"
    env = {**kept, "TREADLE_HOME": str(home), "TREADLE_SETTINGS": str(settings_file)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        tool = str(Path(sys.executable).parent / "treadle")
        return subprocess.run([tool, *words], capture_output=True, text=True, env=env, check=False, timeout=300, cwd=ROOT)

    return run


def value(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("documents")
    (place / "rent.md").write_text(
        "# Rent\n\nThe monthly rent of Oak House is 900 euros. Write to office@oak.example about it.\n"
    )
    (place / "rents.csv").write_text("house,rent\nElm House,the rent is 950 euros\nAsh House,the rent is 990 euros\n")
    token = "ghp_" + "a1B2" * 9
    (place / "notes").write_text(f"The deploy token of Oak House is {token} and the lift code is 4471.\n")
    (place / "torn.pdf").write_bytes(b"%PDF-1.4 torn")
    return place


@pytest.fixture(scope="module")
def ingested(treadle: Treadle, documents: Path) -> dict[str, Any]:
    done = treadle(
        "data", "ingest", str(documents), "--corpus", "kb", "--json", "--report", str(documents.parent / "report.html")
    )
    assert done.returncode == 3, done.stderr  # finished, with something quarantined
    result: dict[str, Any] = value(done)
    return result


def test_a_report_adds_up_and_is_a_page(ingested: dict[str, Any], documents: Path) -> None:
    counted = ingested["documents"]
    assert counted == {"in": 5, "kept": 4, "dropped": {}, "quarantined": {"corrupt": 1}}
    assert {"corpus", "version", "digest", "documents", "passages", "seconds", "mb_per_s"} <= set(ingested)
    assert "torn.pdf" in (documents.parent / "report.html").read_text()


def test_what_is_found_is_masked_and_secrets_are_in_no_file(ingested: dict[str, Any], treadle: Treadle) -> None:
    done = treadle("data", "search", "lift code", "--corpus", "kb", "--json")
    best = value(done)[0]
    assert best["source"] == "notes"
    assert "[SECRET_1]" in best["text"]
    assert "4471" in best["text"]
    rent = value(treadle("data", "search", "rent of Oak House", "--corpus", "kb", "-k", "1", "--json"))[0]
    assert "[EMAIL_1]" in rent["text"]
    for file in Path(ingested["report"]).parents[1].rglob("*"):
        assert not file.is_file() or b"a1B2a1B2" not in file.read_bytes(), file


def test_the_same_again_is_quick_and_new_options_are_a_new_version(
    ingested: dict[str, Any], treadle: Treadle, documents: Path
) -> None:
    again = value(treadle("data", "ingest", str(documents), "--corpus", "kb", "--json"))
    assert (again["changed"], again["version"], again["digest"]) == (False, 1, ingested["digest"])
    outlook = value(treadle("data", "ingest", str(documents), "--corpus", "kb", "--dry-run", "--json"))
    assert (outlook["files"], outlook["files_to_read"]) == (4, 0)


def test_passages_are_exported_with_offsets(ingested: dict[str, Any], treadle: Treadle, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(treadle("data", "export", "kb", "--corpus", "--form", "csv").stdout)))
    assert len(rows) == ingested["passages"]
    assert {"document_id", "source", "number", "start", "end", "text"} <= set(rows[0])
    done = treadle("data", "export", "kb", "--corpus", "--form", "parquet", "-o", str(tmp_path / "kb.parquet"), "--json")
    assert value(done)["rows"] == ingested["passages"]


def test_questions_are_made_from_a_corpus_and_forgotten_with_their_document(
    ingested: dict[str, Any], treadle: Treadle, documents: Path
) -> None:
    words = ("data", "synthesise", "--corpus", "kb", "--dataset", "kb-synthetic", "--agent", "property", "--json")
    dry = value(treadle(*words, "--dry-run"))
    assert dry["passages"]["in"] == ingested["passages"]
    made = treadle(*words)
    assert made.returncode == 0, made.stderr
    rows = [json.loads(line) for line in treadle("data", "export", "kb-synthetic").stdout.splitlines()]
    assert len(rows) == value(made)["rows"] > 0
    assert all(row["source"].startswith("kb@1/") for row in rows)
    source = rows[0]["source"].removeprefix("kb@1/").split("#")[0]

    held = value(treadle("data", "forget", source, "--dry-run", "--json"))
    assert [one["name"] for one in held["datasets"]] == ["kb-synthetic"]
    assert held["done"] is False
    done = value(treadle("data", "forget", source, "--json"))
    assert done["done"] is True
    left = [json.loads(line) for line in treadle("data", "export", "kb-synthetic").stdout.splitlines()] if len(rows) > 1 else []
    assert not [row for row in left if source in row["source"]]
    after = value(treadle("data", "ingest", str(documents), "--corpus", "kb", "--json"))
    assert after["documents"]["dropped"]["forgotten"] >= 1
    assert after["version"] == 2
    listed = value(treadle("data", "datasets", "--json"))
    assert {one["digest"]: one["replaced"] for one in listed}[held["datasets"][0]["digest"]].startswith("holds document")
    assert [one["rebuild"] for one in value(treadle("data", "corpora", "--json"))] == [None, None]  # it was built again
    unknown = treadle("data", "forget", "no-such.md")
    assert unknown.returncode == 1
    assert "Nothing holds a document 'no-such.md'" in unknown.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ingest", "/no/such/place", "--corpus", "x"), "/no/such/place"),
        (("ingest", "--corpus", "x"), "paths"),
        (("ingest", "README.md", "--corpus", "Not A Name"), "is not a name"),
        (("ingest", "http://127.0.0.1:1/x.md", "--corpus", "x"), "allow"),
        (("ingest", "git+ext::sh -c id", "--corpus", "x"), "ext"),
        (("search", "x", "--corpus", "nothing"), "no corpus 'nothing'"),
        (("export", "nothing"), "no dataset 'nothing'"),
        (("ingest", "README.md", "--corpus", "x", "--report", "/no/such/place/r.html"), "there is no directory /no/such/place"),
        (("ingest", "README.md", "--corpus", "x", "--detach"), "start one with treadle up"),
        (("ingest", "README.md", "--corpus", "x", "--mode", "cluster"), "start it with: treadle up"),
        (("forget",), "Give either a document or --user"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_one_sentence(treadle: Treadle, words: tuple[str, ...], said: str) -> None:
    done = treadle("data", *words)
    assert done.returncode == 1
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_training_needs_a_cluster(treadle: Treadle) -> None:
    done = treadle("train", "router", "--recipe", "configs/train/router.yaml")
    assert done.returncode == 1
    assert "start it with: treadle up" in " ".join(done.stderr.split())


def test_more_than_a_little_starts_a_ray_and_leaves_nothing_of_it(treadle: Treadle, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(30):
        (many / f"{number}.txt").write_text(f"Sentence {number} of a file that says next to nothing. " * 1200)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    left = Path(tempfile.gettempdir()) / f"treadle-of-{ended.pid}-ray-left"  # as a run that was killed leaves it
    left.mkdir()
    before = {process.pid for process in psutil.process_iter() if process.name() == "raylet"}
    done = treadle("data", "ingest", str(many), "--corpus", "many", "--words-only", "--mode", "local", "--json")
    assert done.returncode == 0, done.stderr
    assert value(done)["documents"]["in"] == 30
    assert {process.pid for process in psutil.process_iter() if process.name() == "raylet"} <= before
    assert not left.exists()
