"""Ingest: how fast each stage is, against a plain process pool, after a small change, and in how much memory.

    python tests/benchmarks/ingest.py [--mb 6] [--words-mb 60] [--large 200 1000] [--rounds 3] [--parts stages pool again memory] [--json]

Documents are generated: Markdown of 10 to 60 kB with the words of the embedder's vocabulary in natural frequencies (Zipf), some of it in
JSON lines. Ray runs before anything is timed, but for the memory.

stages  one run with vectors over --mb, and one of words alone over --words-mb: MB/s and documents/s
pool    Ray Data against multiprocessing's pool: the same steps on the same groups with as many processes, both warm, taking turns;
        the ratio is of the medians of the time for reading and for embedding (or chunking)
again   the run with vectors again after 1 % of the files has changed, as a share of the full run
memory  the peak of the memory (proportional set size) of a run of words alone, its Ray included, for each size of --large; "held":
        without the pages of mapped files
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from cluster.catalog import Catalog, runs
from cluster.domain.data_recipes import IngestRecipe
from cluster.domain.runs import Run
from cluster.embedding import DEFAULT, model_directory
from cluster.job_run import JobRun
from cluster.settings import ROOT, cpu_cores, load_settings
from data_jobs import ingest as ingest_module
from data_jobs.documents import how_read
from data_jobs.ingest import Ingest, ingest
from data_jobs.on_ray import Row, Step, connect, spread
from data_jobs.pieces import pieces_of
from data_jobs.sources import gather

Weighed = tuple[Row, float]


def fill(root: Path, megabytes: float, seed: int = 1) -> int:
    """Documents of this many MB in all below ``root``; how many."""
    pick = random.Random(seed)
    vocabulary = words()
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(vocabulary))))
    # Sentences are drawn once and put together again and again: drawing a gigabyte of words would take longer than reading it.
    sentences = [
        " ".join(pick.choices(vocabulary, cum_weights=weights, k=pick.randint(6, 24))).capitalize() + "." for _ in range(20_000)
    ]
    root.mkdir(parents=True)
    written = documents = 0
    while written < megabytes * 1e6:
        lines = documents % 10 == 9
        file = root / f"{documents // 500:03}" / f"document{documents:06}.{'jsonl' if lines else 'md'}"
        file.parent.mkdir(exist_ok=True)
        paragraphs = [" ".join(pick.choices(sentences, k=8)) for _ in range(pick.randint(10, 60))]
        if lines:
            text = "\n".join(json.dumps({"title": f"Record {row}", "text": one}) for row, one in enumerate(paragraphs))
        else:
            text = "".join(f"## Section {row}\n\n{one}\n\n" for row, one in enumerate(paragraphs))
        written += file.write_bytes(text.encode())
        documents += 1
    return documents


@cache
def words() -> list[str]:
    """Whole words of the embedder's vocabulary, frequent ones first; made-up words would be three tokens each."""
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(str(model_directory(DEFAULT) / "tokenizer.json")).get_vocab()
    return [word for word, _ in sorted(known.items(), key=lambda item: item[1]) if word.isascii() and word.isalpha()]


def job(home: Path) -> JobRun:
    os.environ["TREADLE_HOME"] = str(home)
    settings = load_settings()
    catalog = Catalog(settings.catalog_url).prepare()
    run = Run(job="data_jobs.ingest", recipe={})
    with catalog.transaction() as work:
        runs.save(work, run)
    return JobRun(settings, run, local=True)


def recipe(root: Path, vectors: bool) -> IngestRecipe:
    return IngestRecipe(paths=(str(root),), corpus="bench", vectors=vectors)


def stages(report: dict[str, Any], megabytes: float) -> dict[str, Any]:
    rates = {
        name: {
            "seconds": took,
            "mb_per_s": round(megabytes / took, 2),
            "documents_per_s": round(report["documents"]["in"] / took, 1),
        }
        for name, took in report["stages"].items()
        if took > 0
    }
    return {"mb": round(megabytes, 1), "documents": report["documents"]["in"], "passages": report["passages"], "stages": rates}


def size(root: Path) -> float:
    return sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) / 1e6


def measure_stages(scratch: Path, roots: dict[bool, Path]) -> dict[str, Any]:
    result = {}
    connect(load_settings(), local=True)
    for vectors, root in roots.items():
        name = "with_vectors" if vectors else "words_alone"
        result[name] = stages(ingest(job(scratch / f"stages-{name}"), recipe(root, vectors)), size(root))
    return result


def in_pool(pool: Any, items: Sequence[Weighed], step: Step, _most: float) -> list[Row]:
    return [row for made in pool.imap_unordered(partial(_listed, step), [item for item, _ in items]) for row in made]


def _listed(step: Step, item: Row) -> list[Row]:
    return list(step(item))


def on_ray(here: JobRun, items: Sequence[Weighed], step: Step, most: float) -> list[Row]:
    return list(spread(items, step, here.settings, most))


def two_steps(
    here: JobRun, asked: IngestRecipe, run: Callable[[Sequence[Row], Callable[[Row], Iterator[Row]]], list[Row]]
) -> float:
    """Seconds for reading and embedding everything with ``run``, in an empty store."""
    one = Ingest(here, asked)
    found = gather(asked.paths, here.settings.home / "spool", here.settings.sources).files
    pieces = pieces_of([(file.path, file.source) for file in found], how_read(asked))
    took = 0.0

    def timed(items: Sequence[Weighed], step: Step, _here: bool, most: float) -> Iterator[Row]:
        nonlocal took
        began = time.perf_counter()
        made = run(items, step, most)
        took += time.perf_counter() - began
        return iter(made)

    one._each = timed  # type: ignore[method-assign]
    names = one._read(pieces)
    inventory = one._without_duplicates({piece.key for piece in pieces}, names)
    one._embed(inventory.kept)
    return took


def measure_pool(scratch: Path, roots: dict[bool, Path], rounds: int) -> dict[str, Any]:
    connect(load_settings(), local=True)
    result = {}
    with get_context("spawn").Pool(cpu_cores()) as pool:
        ways = {
            "ray": on_ray,
            "pool": lambda _here, items, step, most: in_pool(pool, items, step, most),
        }
        for vectors, root in roots.items():
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(-1, rounds):  # the first turn warms workers up
                for name, way in ways.items():
                    here = job(scratch / f"pool-{vectors}-{turn}-{name}")
                    took = two_steps(here, recipe(root, vectors), partial(way, here))
                    if turn >= 0:
                        seconds[name].append(took)
            medians = {name: statistics.median(times) for name, times in seconds.items()}
            result["with_vectors" if vectors else "words_alone"] = {
                "mb": round(size(root), 1),
                **{f"{name}_s": round(median, 2) for name, median in medians.items()},
                "ray_against_pool": round(medians["pool"] / medians["ray"], 3),
            }
    return result


def measure_again(scratch: Path, root: Path) -> dict[str, Any]:
    """A run over everything, a run after 1 % of the files has changed, and one after nothing has."""
    here = job(scratch / "again")
    connect(here.settings, local=True)
    asked = recipe(root, vectors=True)
    took: dict[str, float] = {}

    def run(name: str) -> None:
        began = time.perf_counter()
        ingest(here, asked)
        took[name] = time.perf_counter() - began

    run("full_s")
    files = sorted(root.rglob("*.md"))
    for file in files[:: max(1, len(files) * 100 // len(list(root.rglob("*.*"))))][: max(1, round(len(files) / 100))]:
        file.write_text(file.read_text() + "\nA sentence that was not there before.\n")
    run("one_percent_s")
    run("nothing_s")
    share = took["one_percent_s"] / took["full_s"]
    return {"mb": round(size(root), 1), **{name: round(value, 2) for name, value in took.items()}, "share": round(share, 4)}


def measure_memory(scratch: Path, megabytes: float) -> dict[str, Any]:
    root = scratch / f"large-{megabytes:g}"
    documents = fill(root, megabytes, seed=2)
    file = scratch / "large.json"
    file.write_text(recipe(root, vectors=False).model_dump_json(exclude_defaults=True))
    env = {**os.environ, "TREADLE_HOME": str(scratch / f"home-{megabytes:g}"), "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    command = [sys.executable, "-m", "data_jobs.ingest", "--local", "--recipe", str(file)]
    running = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peaks = [0, 0, 0, 0]
    while running.poll() is None:
        peaks = [max(pair) for pair in zip(peaks, memory_of(running.pid), strict=True)]
        time.sleep(0.25)
    took = time.perf_counter() - began
    assert running.stdout is not None
    report = json.loads(running.stdout.read().strip().splitlines()[-1])
    for made in sorted([*root.rglob("*")], reverse=True):
        made.unlink() if made.is_file() else made.rmdir()
    return {
        "mb": megabytes,
        "documents": documents,
        "passages": report["passages"],
        "seconds": round(took, 1),
        "mb_per_s": round(megabytes / took, 2),
        "stages": report["stages"],
        **{name: round(peak / 1e6) for name, peak in zip(_MEMORY, peaks, strict=True)},
    }


_MEMORY = ("peak_mb", "driver_peak_mb", "peak_held_mb", "driver_peak_held_mb")


def memory_of(pid: int) -> tuple[int, int, int, int]:
    """Bytes (proportional set size) of a process with all below it, and of itself alone; then the same without the pages of files that
    are mapped, which the system takes back when it needs them."""
    try:
        own = psutil.Process(pid)
        below = own.children(recursive=True)
    except psutil.Error:
        return 0, 0, 0, 0
    sizes = [_sizes(process.pid) for process in (own, *below)]
    return sum(whole for whole, _ in sizes), sizes[0][0], sum(held for _, held in sizes), sizes[0][1]


def _sizes(pid: int) -> tuple[int, int]:
    """Proportional set size of one process, and the part of it that is not mapped files."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:  # it has ended
        return 0, 0
    found = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines[1:])}
    return found.get("Pss", 0), found.get("Pss", 0) - found.get("Pss_File", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=6.0)
    parser.add_argument("--words-mb", type=float, default=60.0)
    parser.add_argument("--large", type=float, nargs="*", default=[200.0, 1000.0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="*", default=["stages", "pool", "again", "memory"])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    small = ingest_module._READ_HERE, ingest_module._EMBED_HERE
    ingest_module._READ_HERE = ingest_module._EMBED_HERE = 0  # on Ray whatever the size; a small change keeps its short way
    result: dict[str, Any] = {"cores": cpu_cores()}
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as place:
        scratch = Path(place)
        roots = {True: scratch / "vectors", False: scratch / "words"}
        fill(roots[True], given.mb)
        fill(roots[False], given.words_mb)
        if "memory" in given.parts:
            result["memory"] = [measure_memory(scratch, megabytes) for megabytes in given.large]
        if "stages" in given.parts:
            result["stages"] = measure_stages(scratch, roots)
        if "pool" in given.parts:
            result["pool"] = measure_pool(scratch, roots, given.rounds)
        if "again" in given.parts:
            ingest_module._READ_HERE, ingest_module._EMBED_HERE = small
            result["again"] = measure_again(scratch, roots[True])
    if given.json:
        print(json.dumps(result))
        return
    for name, figures in result.items():
        print(f"{name:>8}  {json.dumps(figures, indent=1) if isinstance(figures, dict | list) else figures}")


if __name__ == "__main__":
    main()
