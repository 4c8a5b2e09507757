"""Ingests that follow one another: small changes, kills at every point, more than one node. Each gives what an unbroken run gives."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, corpora
from cluster.domain.data_recipes import IngestRecipe
from cluster.domain.documents import CorpusVersion
from cluster.embedding import Embedder
from cluster.job_run import JobRun
from cluster.passage_index import PassageIndex
from cluster.settings import ROOT
from data_jobs import index as index_module
from data_jobs.ingest import Ingest, ingest
from data_jobs.shards import Shards

pytestmark = pytest.mark.real


def sentences(seed: int, count: int = 14) -> str:
    pick = random.Random(seed)
    words = ["".join(pick.choices("aeioulnrst", k=pick.randint(3, 9))) for _ in range(200)]
    return " ".join(" ".join(pick.choices(words, k=9)).capitalize() + "." for _ in range(count))


def fill(root: Path, documents: int, count: int = 14) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        (root / f"file{number:03}.md").write_text(f"# Number {number}\n\n{sentences(number, count)}\n")
    (root / "torn.pdf").write_bytes(b"%PDF-1.4 torn")
    return root


def recipe(root: Path, **changes: Any) -> IngestRecipe:
    return IngestRecipe(**{"paths": (str(root),), "corpus": "kb", "chunk_size": 200, "overlap": 20, **changes})


def opened(job: JobRun) -> PassageIndex:
    with job.catalog.reading() as work:
        return PassageIndex.open(job.artifacts.fetch(corpora.newest(work, "kb").index_uri))


def test_after_a_small_change_only_what_changed_is_read_and_embedded(
    job: JobRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "files", 60)
    first = ingest(job, recipe(root))
    assert (first["version"], first["documents"]["kept"]) == (1, 60)
    read: list[str] = []
    embedded: list[int] = []
    write, embed = Shards.write, Embedder.embed
    monkeypatch.setattr(Shards, "write", lambda self, name, table, keys: (read.extend(keys), write(self, name, table, keys))[1])
    monkeypatch.setattr(Embedder, "embed", lambda self, texts: (embedded.append(len(texts)), embed(self, texts))[1])

    (root / "file007.md").write_text("# Number 7\n\nThe lift code of Oak House is 4471.")
    (root / "new.md").write_text("# New\n\nA lost key of Oak House costs 40 euros.")
    (root / "file009.md").unlink()
    second = ingest(job, recipe(root))
    assert (second["version"], second["documents"]["kept"], second["changed"]) == (2, 60, True)
    assert (len(read) - 1, sum(embedded)) == (2, 2)  # a shard of passages names itself, one of texts its two pieces
    found = opened(job)
    assert {passage.source for passage in found.passages()} >= {"new.md", "file007.md"}
    assert "file009.md" not in {passage.source for passage in found.passages()}
    assert found.search("lift code", Embedder(threads=1).embed(["lift code"])[0], k=1)[0].passage.source == "file007.md"

    # The same as if it had been made in one go.
    fresh = ingest(job, recipe(root, corpus="kb2"))
    texts = {passage.text for passage in found.passages()}
    with job.catalog.reading() as work:
        other = PassageIndex.open(job.artifacts.fetch(corpora.newest(work, "kb2").index_uri))
    assert {passage.text for passage in other.passages()} == texts
    assert fresh["passages"] == second["passages"] == len(found)

    third = ingest(job, recipe(root))
    assert (third["version"], third["changed"]) == (2, False)
    (root / "file009.md").write_text(f"# Number 9\n\n{sentences(9)}\n")
    (root / "new.md").unlink()
    (root / "file007.md").write_text(f"# Number 7\n\n{sentences(7)}\n")
    back = ingest(job, recipe(root))
    assert (back["version"], back["digest"]) == (3, first["digest"])


def test_a_document_comes_back_when_its_twin_goes(job: JobRun, tmp_path: Path) -> None:
    root = fill(tmp_path / "files", 4)
    shutil.copy(root / "file002.md", root / "file999.md")
    first = ingest(job, recipe(root))
    assert first["dropped"] == [{"source": "file999.md", "reason": "exact_duplicate", "of": "file002.md"}]
    (root / "file002.md").unlink()
    second = ingest(job, recipe(root))
    assert (second["documents"]["kept"], second["documents"]["dropped"]) == (4, {})
    assert "file999.md" in {passage.source for passage in opened(job).passages()}


def test_another_way_of_chunking_is_a_new_index_of_the_same_texts(job: JobRun, tmp_path: Path) -> None:
    root = fill(tmp_path / "files", 5)
    ingest(job, recipe(root))
    tokens = ingest(job, recipe(root, chunk_unit="tokens", chunk_size=64, overlap=0))
    assert (tokens["version"], tokens["changed"]) == (2, True)
    words = ingest(job, recipe(root, vectors=False))
    assert words["version"] == 3
    assert opened(job).kind == "lexical"


def test_a_dry_run_reads_nothing(job: JobRun, tmp_path: Path) -> None:
    root = fill(tmp_path / "files", 5)
    asked = recipe(root, vectors=False)
    before = ingest(job, asked.model_copy(update={"dry_run": True}))
    assert (before["files"], before["files_to_read"]) == (6, 6)
    with job.catalog.reading() as work:
        assert corpora.names(work) == []
    ingest(job, asked)
    (root / "file001.md").write_text("# Another\n\nAnother text that is long enough to keep.")
    after = ingest(job, asked.model_copy(update={"dry_run": True}))
    assert (after["files"], after["files_to_read"]) == (6, 1)


KILLED = """
import os, signal, sys
from cluster.catalog import corpora
from data_jobs import index, ingest, shards

ingest._READ_PIECES, ingest._EMBED_DOCUMENTS = 3, 2
owner = {"shard": shards.Shards, "index": index.NewIndex, "version": corpora, "tidy": ingest.Ingest}[sys.argv[1]]
name = {"shard": "write", "index": "publish", "version": "add", "tidy": "_tidy"}[sys.argv[1]]
real, calls, nth, when = getattr(owner, name), 0, int(sys.argv[2]), sys.argv[3]

def killed(*args, **named):
    global calls
    calls += 1
    if (calls, when) == (nth, "before"):
        os.kill(os.getpid(), signal.SIGKILL)
    made = real(*args, **named)
    if calls == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    return made

setattr(owner, name, killed)
sys.exit(ingest.main(["--recipe", sys.argv[4]]))
"""
POINTS = [("shard", 1, "before"), ("shard", 2, "after"), ("shard", 9, "before"), ("shard", 11, "after"), ("index", 1, "before")]
POINTS += [("index", 1, "after"), ("version", 1, "after"), ("tidy", 1, "before")]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, settings_file: Path) -> dict[str, Any]:
    """What a run that nobody kills gives."""
    root = fill(tmp_path_factory.mktemp("unbroken") / "files", 16, 6)
    return run_job(root.parent, settings_file, root)


def environment(home: Path, settings_file: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
    return {**kept, "TREADLE_HOME": str(home), "TREADLE_SETTINGS": str(settings_file), "PYTHONPATH": str(ROOT)}


def recipe_file(place: Path, root: Path, **changes: Any) -> Path:
    file = place / "recipe.json"
    file.write_text(recipe(root, **changes).model_dump_json(exclude_defaults=True))
    return file


def run_job(place: Path, settings_file: Path, root: Path, env: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "data_jobs.ingest", "--recipe", str(recipe_file(place, root, **changes))]
    with_home = {**environment(place / "home", settings_file), **(env or {})}
    done = subprocess.run(command, cwd=ROOT, env=with_home, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def newest(home: Path) -> CorpusVersion | None:
    with Catalog(f"sqlite:///{home}/catalog.db").prepare().reading() as work:
        found = corpora.versions(work, "kb")
    return found[-1] if found else None


@pytest.mark.parametrize("point", POINTS, ids=lambda point: "-".join(map(str, point)))
def test_a_killed_run_is_continued_by_the_next(
    point: tuple[str, int, str], tmp_path: Path, settings_file: Path, unbroken: dict[str, Any]
) -> None:
    root = fill(tmp_path / "files", 16, 6)
    file = recipe_file(tmp_path, root)
    command = [sys.executable, "-c", KILLED, point[0], str(point[1]), point[2], str(file)]
    env = environment(tmp_path / "home", settings_file)
    killed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    recorded = newest(tmp_path / "home")
    assert (recorded is not None) == (point[0] == "tidy")

    result = run_job(tmp_path, settings_file, root)
    assert result["digest"] == unbroken["digest"]
    assert (result["version"], result["documents"]) == (1, unbroken["documents"])
    version = newest(tmp_path / "home")
    assert version is not None
    store = tmp_path / "home" / "artifacts"
    assert {path.name for path in store.rglob("*") if path.name.startswith(".")} <= {".managed.json"}
    assert len(PassageIndex.open(Artifacts(str(store)).fetch(version.index_uri))) == unbroken["passages"]
    assert list((store / "corpora" / "kb" / "embedded").iterdir()) == []
    held = Shards(str(store / "corpora" / "kb" / "washed"))
    assert len({key for name in held.names() for key in held.keys(name) or ()}) == 17


def ray_children(pid: int) -> set[str]:
    """The tasks that a raylet's workers are at."""
    try:
        return {child.cmdline()[0] for child in psutil.Process(pid).children() if child.cmdline()}
    except psutil.Error:
        return set()


def test_killing_driver_and_ray_while_workers_read_loses_nothing(tmp_path: Path, settings_file: Path) -> None:
    root = fill(tmp_path / "files", 260, 120)
    env = environment(tmp_path / "home", settings_file)
    command = [sys.executable, "-m", "data_jobs.ingest", "--local", "--recipe", str(recipe_file(tmp_path, root, vectors=False))]
    running = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    washed = tmp_path / "home" / "artifacts" / "corpora" / "kb" / "washed"
    while running.poll() is None and not list(washed.glob("[!.]*.parquet")):
        time.sleep(0.01)
    everyone = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    for process in everyone:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert running.wait(30) == -signal.SIGKILL
    psutil.wait_procs(everyone, timeout=30)
    assert newest(tmp_path / "home") is None
    result = run_job(tmp_path, settings_file, root, vectors=False)
    clean = tmp_path / "clean"
    clean.mkdir()
    assert run_job(clean, settings_file, root, vectors=False)["digest"] == result["digest"]
    assert result["documents"]["kept"] == 260


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[Any]:
    """Two raylets on this machine, one core each; told of by RAY_ADDRESS."""
    code = (
        "import sys; from ray.cluster_utils import Cluster; cluster = Cluster(); "
        "options = {'num_cpus': 1, 'object_store_memory': 256 << 20, 'include_dashboard': False}; "
        "nodes = [cluster.add_node(**options), cluster.add_node(num_cpus=1, object_store_memory=256 << 20)]; "
        "pids = [process.process.pid for node in nodes for process in node.all_processes['raylet']]; "
        "print(cluster.address, *pids, flush=True); sys.stdin.read(); cluster.shutdown()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address, *pids = process.stdout.readline().split()
    yield address, [int(pid) for pid in pids]
    process.communicate("")


def test_two_nodes_give_the_digest_of_one(two_nodes: Any, tmp_path: Path, settings_file: Path) -> None:
    address, raylets = two_nodes
    root = fill(tmp_path / "files", 260, 120)
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    command = [sys.executable, "-m", "data_jobs.ingest", "--recipe", str(recipe_file(tmp_path / "two", root, vectors=False))]
    env = {**environment(tmp_path / "two" / "home", settings_file), "RAY_ADDRESS": address}
    running = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    seen: dict[int, set[str]] = {pid: set() for pid in raylets}
    while running.poll() is None:
        for pid in raylets:
            seen[pid] |= ray_children(pid)
        time.sleep(0.05)
    assert running.returncode == 0
    assert running.stdout is not None
    two = json.loads(running.stdout.read().strip().splitlines()[-1])
    assert all(any(name.startswith("ray::") and "IDLE" not in name for name in names) for names in seen.values()), seen
    one = run_job(tmp_path / "one", settings_file, root, vectors=False)
    assert (two["digest"], two["documents"], two["passages"]) == (one["digest"], one["documents"], one["passages"])


def test_what_is_forgotten_stays_out_and_leaves_no_trace(job: JobRun, tmp_path: Path) -> None:
    from cluster.catalog import forgotten

    root = fill(tmp_path / "files", 12)
    secret = "The alarm code of Oak House is 998877."
    (root / "alarm.md").write_text(f"# Alarm\n\n{secret}")
    ingest(job, recipe(root, vectors=False))
    with job.catalog.transaction() as work:
        forgotten.remember(work, "document", "alarm.md", "kb")
        forgotten.mark(work, "corpus", "kb", "holds it")
    report = ingest(job, recipe(root, vectors=False))
    assert report["documents"]["dropped"] == {"forgotten": 1}
    index = opened(job)
    assert index.best_lexical("998877", 5) == []
    for file in index.directory.rglob("*"):
        assert not file.is_file() or b"998877" not in file.read_bytes()
    with job.catalog.reading() as work:
        assert forgotten.marks(work, "corpus") == {}


def test_the_report_is_a_page_and_every_refusal(job: JobRun, tmp_path: Path) -> None:
    root = fill(tmp_path / "files", 6)
    (root / "<b>.md").write_text("hi")
    result = ingest(job, recipe(root, vectors=False))
    place = job.artifacts.fetch(result["report"])
    page = (place / "report.html").read_text()
    assert "&lt;b&gt;.md" in page
    assert "<b>.md" not in page
    assert "<script" not in page
    assert "torn.pdf" in page
    refused = [json.loads(line) for line in (place / "refused.jsonl").read_text().splitlines()]
    assert {(one["outcome"], one["reason"]) for one in refused} == {("dropped", "too_short"), ("quarantined", "corrupt")}
    assert set(result["stages"]) == {"find", "read", "duplicates", "embed", "index"}


def test_the_driver_works_alone_when_there_is_little_to_do(job: JobRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import data_jobs.ingest as module

    def no_ray(*_: Any) -> None:
        raise AssertionError("Ray was asked for")

    monkeypatch.setattr(module, "connect", no_ray)
    assert Ingest(job, recipe(fill(tmp_path / "files", 3))).run()["documents"]["kept"] == 3
    assert index_module.opened(job.settings.models.embedder.location).dimension == 384


def test_passages_that_stay_word_for_word_keep_their_vectors(
    job: JobRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "files", 3, 60)
    first = ingest(job, recipe(root))
    before = opened(job)
    embedded: list[str] = []
    embed = Embedder.embed
    monkeypatch.setattr(Embedder, "embed", lambda self, texts: (embedded.extend(texts), embed(self, texts))[1])
    with (root / "file001.md").open("a") as file:
        file.write("\n\nOne more sentence stands here now.\n")
    second = ingest(job, recipe(root))
    assert second["passages"] in (first["passages"], first["passages"] + 1)
    assert 1 <= len(embedded) <= 2
    assert "One more sentence" in embedded[-1]
    after = opened(job)
    text = next(passage.text for passage in before.passages() if passage.source == "file001.md")
    vectors = [
        index.vectors(np.array([row]))
        for index in (before, after)
        for row in np.flatnonzero(index.alive)
        if index.passage(int(row)).text == text
    ]
    assert len(vectors) == 2
    assert np.array_equal(vectors[0], vectors[1])
