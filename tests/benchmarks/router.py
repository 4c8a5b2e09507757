"""The router's head on labelled texts: accuracy within scope, recall of what is out of scope, and what a decision costs.

    python tests/benchmarks/router.py --train FILE [--train FILE…] --test FILE [--json]

Files are JSON lines of {"text", "intent"}; the intent "oos" is out of scope. The head, its temperature, its scope and its threshold come
from the training rows alone; the test rows are only scored. A text within scope that is refused counts as wrong. "head_p99_ms" is, over
texts, the time of a decision beyond the embedding, from the released bundle as serving reads it; each text is decided nine times and its
median counts, so that it is the head which is measured and not what else the machine does. Without --json also the same of single
decisions, the calibration error, what cross-validation had promised, and the seconds of each part.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from cluster import routing
from cluster.domain.recipes import RouterRecipe
from cluster.embedding import Embedder
from serve_app.router import RouterHead
from train_jobs import router_calibration, router_head

OUTSIDE = "oos"
TRIES = 9


def read(parser: argparse.ArgumentParser, files: list[Path]) -> list[tuple[str, str]]:
    """Texts and intents. Ends with a sentence when a file or a line cannot be used."""
    rows: list[tuple[str, str]] = []
    for file in files:
        if not file.is_file():
            parser.error(f"there is no file {file}; give JSON lines of text and intent")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
                rows.append((str(value["text"]), str(value["intent"])))
            except (ValueError, KeyError, TypeError):
                parser.error(f'{file}, line {number} is not {{"text", "intent"}}')
    if not rows:
        parser.error(f"{', '.join(map(str, files))} has no rows; give at least one")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, action="append", required=True)
    parser.add_argument("--test", type=Path, action="append", required=True)
    parser.add_argument(
        "--bulk", action="store_true", help="embed the training rows in bfloat16 where the processor has tiles for it"
    )
    parser.add_argument("--exact", action="store_true", help="questions' vectors in float32, not as serving makes them")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    taught, asked = read(parser, given.train), read(parser, given.test)
    names = sorted({intent for _, intent in taught} - {OUTSIDE})
    if len(names) < 2:
        parser.error("the training rows have fewer than two intents beside 'oos'; a router needs at least two")
    number = {**{name: index for index, name in enumerate(names)}, OUTSIDE: len(names)}
    strange = sorted({intent for _, intent in asked} - set(number))
    if strange:
        parser.error(f"the test rows have the intent '{strange[0]}', which the training rows have not")
    began = time.perf_counter()
    embedder = Embedder(quick=not given.exact)
    vectors = Embedder(bulk=given.bulk).embed([text for text, _ in taught])
    tested = np.concatenate([embedder.embed([text]) for text, _ in asked])
    embedded = time.perf_counter()
    labels = np.array([number[intent] for _, intent in taught], dtype=np.int64)
    trained = router_head.teach(names, [text for text, _ in taught], vectors, labels, RouterRecipe(), embedder.name)
    fitted = time.perf_counter()
    took: list[float] = []
    once: list[float] = []
    served = set(names)
    with tempfile.TemporaryDirectory() as folder:
        routing.save(Path(folder), trained.head, {})
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        head = RouterHead(Path(folder), "router@0.0.0", embedder.name)
        picked, sure = [], []
        for (text, _), vector in zip(asked, tested, strict=True):
            tries = []
            for _ in range(TRIES):
                start = time.perf_counter()
                route = head.route(vector, text, served, names[0])
                tries.append(1000 * (time.perf_counter() - start))
            took.append(float(np.median(tries)))
            once.append(tries[0])
            picked.append(len(names) if route.out_of_scope else number[route.agent])
            sure.append(max(route.scores.values()))
    right = np.array([number[intent] for _, intent in asked]) == np.array(picked)
    inside = np.array([intent != OUTSIDE for _, intent in asked])
    result = {
        "in_scope_accuracy": round(float(right[inside].mean()), 4) if inside.any() else None,
        "out_of_scope_recall": round(float(right[~inside].mean()), 4) if (~inside).any() else None,
        "head_p99_ms": round(float(np.percentile(took, 99)), 3),
        "n": len(asked),
    }
    if given.json:
        print(json.dumps(result))
        return
    error = router_calibration.calibration_error(np.array(sure)[inside], right[inside]) if inside.any() else 0.0
    more = {
        "head_p50_ms": round(float(np.percentile(took, 50)), 3),
        "once_p99_ms": round(float(np.percentile(once, 99)), 3),
        "calibration_error": round(error, 4),
        "bundle_bytes": size,
    }
    seconds = {"embed_s": round(embedded - began, 1), "teach_s": round(fitted - embedded, 1)}
    promised = {f"held_out.{name}": round(value, 4) for name, value in trained.calibration.metrics.items()}
    for name, figure in {**result, **more, **seconds, **promised}.items():
        print(f"{name:>30}  {figure}")


if __name__ == "__main__":
    main()
