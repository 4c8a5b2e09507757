"""Retrieval quality and speed on questions whose paragraph is known (SQuAD's form): words, vectors, and both.

    python tests/benchmarks/retrieval.py --squad FILE [--passages 10000] [--json]

FILE is SQuAD's JSON ({"data": [{"paragraphs": […]}]}) or one article a line. Paragraphs are the corpus, questions the queries; the right
answer to a question is its own paragraph. Times are of the search, without embedding the question. "at" repeats them on an index filled up
to --passages with paragraphs whose words are shuffled together from the file's own.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.domain.documents import Passage
from cluster.embedding import Embedder
from cluster.passage_index import PassageIndex, build

DEPTH = 10
Search = Callable[[str, np.ndarray], list[int]]


def read(file: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Paragraphs, and questions with the number of their paragraph."""
    text = file.read_text(encoding="utf-8")
    try:
        articles = json.loads(text)["data"]
    except (ValueError, KeyError, TypeError):
        articles = [json.loads(line) for line in text.splitlines() if line.strip()]
    paragraphs: list[str] = []
    questions: list[tuple[str, int]] = []
    for article in articles:
        for paragraph in article["paragraphs"]:
            questions += [(asked["question"], len(paragraphs)) for asked in paragraph["qas"]]
            paragraphs.append(paragraph["context"])
    return paragraphs, questions


def index_of(paragraphs: Sequence[str], vectors: np.ndarray, place: Path) -> PassageIndex:
    passages = [
        Passage(id=f"p{number}.0", document_id=f"p{number}", corpus="squad", number=number, text=text, start=0, end=len(text))
        for number, text in enumerate(paragraphs)
    ]
    return PassageIndex.open(build(passages, vectors, place))


def searches(index: PassageIndex) -> dict[str, Search]:
    return {
        "bm25": lambda text, _: [row for row, _ in index.best_lexical(text, DEPTH)],
        "dense": lambda _, vector: [row for row, _ in index.best_dense(vector, DEPTH)],
        "fused": lambda text, vector: [hit.passage.number for hit in index.search(text, vector, DEPTH)],
    }


def times(search: Search, asked: Sequence[tuple[str, np.ndarray]]) -> tuple[list[list[int]], dict[str, float]]:
    found, took = [], []
    for text, vector in asked:
        began = time.perf_counter()
        found.append(search(text, vector))
        took.append(1000 * (time.perf_counter() - began))
    return found, {"p50_ms": round(float(np.percentile(took, 50)), 3), "p95_ms": round(float(np.percentile(took, 95)), 3)}


def quality(found: Sequence[Sequence[int]], right: Sequence[int]) -> dict[str, float]:
    """One paragraph is right, so nDCG is 1 / log2(1 + its rank) (Järvelin and Kekäläinen, 2002)."""
    ranks = [rows.index(one) + 1 if one in rows else 0 for rows, one in zip(found, right, strict=True)]
    gain = [1 / np.log2(1 + rank) if rank else 0.0 for rank in ranks]
    recall = {f"recall@{k}": round(float(np.mean([0 < rank <= k for rank in ranks])), 4) for k in (1, 5, 10)}
    return {"ndcg@10": round(float(np.mean(gain)), 4), **recall}


def padded(paragraphs: Sequence[str], vectors: np.ndarray, count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts and vectors filled up with shuffled ones; a shuffled text's vector is a noisy mixture of two real ones."""
    pick, noise = random.Random(seed), np.random.default_rng(seed)
    words = " ".join(paragraphs).split()
    extra = max(0, count - len(paragraphs))
    texts = [*paragraphs, *(" ".join(pick.choices(words, k=80)) for _ in range(extra))]
    pairs = noise.integers(len(paragraphs), size=(extra, 2))
    mixed = vectors[pairs].mean(axis=1) + noise.normal(scale=0.03, size=(extra, vectors.shape[1])).astype(np.float32)
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    return texts, np.concatenate([vectors, mixed]).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", type=Path, required=True)
    parser.add_argument("--passages", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--exact", action="store_true", help="questions' vectors in float32, not as serving makes them")
    given = parser.parse_args()
    if not given.squad.is_file():
        parser.error(f"there is no file {given.squad}; give a file of questions in SQuAD's form")
    paragraphs, questions = read(given.squad)
    embedder = Embedder(quick=not given.exact)
    vectors = Embedder().embed(paragraphs)
    texts = [text for text, _ in questions]
    _, embedding = times(lambda text, _: list(embedder.embed([text])[0][:0]), [(text, vectors[0]) for text in texts[:200]])
    asked = [(text, embedder.embed([text])[0]) for text in texts]
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        small = index_of(paragraphs, vectors, Path(scratch) / "small")
        for name, search in searches(small).items():
            found, took = times(search, asked)
            result[name] = {**quality(found, [right for _, right in questions]), **took}
        large = index_of(*padded(paragraphs, vectors, given.passages, 1), Path(scratch) / "large")
        result["at"] = {"passages": len(large), "kind": large.kind, "embedding": embedding}
        result["at"] |= {name: times(search, asked)[1] for name, search in searches(large).items()}
    result |= {"paragraphs": len(paragraphs), "questions": len(questions)}
    if given.json:
        print(json.dumps(result))
        return
    for name, figures in result.items():
        print(f"{name:>10}  {figures}")


if __name__ == "__main__":
    main()
