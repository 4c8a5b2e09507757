"""How many attacks the guard stops and how many honest texts with them, by kind, on texts that its classifier has not seen.

    python tests/benchmarks/guard.py --attacks FILE --benign FILE [--json] [--policy standard] [--seed 0] [--slow]

Both files are JSONL with "text", "source" and "kind". Half of each source is fitted on, and the other half is judged under the policy;
stopped means blocked, and of passages left out. Kinds of documents (``DOCUMENTS``) are judged as passages, all others as questions.
The project's own sample passages are fitted on too: honest documents are too few in most attack collections.
`--slow` also times every pattern on 100 kB of hostile texts.
"""

import argparse
import json
import random
import statistics
import string
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from cluster.domain.datasets import GuardRow
from cluster.domain.recipes import GuardRecipe
from cluster.guarding.checks import Guard
from cluster.settings import ROOT
from data_jobs import samples_guard
from train_jobs import guard_fit

DOCUMENTS = ("indirect", "indirect_in_document", "document")
LOOKALIKES = ("lookalike_benign", "trigger_word_benign")
TRIES = 3


def read(parser: argparse.ArgumentParser, file: Path) -> list[dict[str, Any]]:
    """The rows of a file; ends the program when it is not such a file."""
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
        if not rows or not all(isinstance(row["text"], str) and row["source"] and row["kind"] for row in rows):
            parser.error(f"{file} has no rows with text, source and kind")
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"{file} cannot be used: {error}")
    return rows


def halves(rows: Sequence[dict[str, Any]], seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """At most half of each source to fit on, and the rest."""
    pick = random.Random(seed)
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_source[row["source"]].append(row)
    fitted, judged = [], []
    for source in sorted(by_source):
        held = by_source[source]
        pick.shuffle(held)
        fitted += held[: len(held) // 2]
        judged += held[len(held) // 2 :]
    return fitted, judged


def guard_row(row: dict[str, Any], attack: bool) -> GuardRow:
    """A row of a benchmark file as one of a guard dataset."""
    label = "attack" if attack else "lookalike" if row["kind"] in LOOKALIKES else "ordinary"
    return GuardRow(text=row["text"], label=label, place=_place(row["kind"]), source=row["source"])


def _place(kind: str) -> Any:
    return "passages" if kind in DOCUMENTS else "input"


def stopped(guard: Guard, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The share that is stopped, by kind."""
    found: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        found[row["kind"]].append(guard.check(row["text"], _place(row["kind"])).action == "block")
    return {kind: round(statistics.mean(map(float, several)), 4) for kind, several in sorted(found.items())}


def latencies(guard: Guard, rows: Sequence[dict[str, Any]], characters: int = 2000) -> list[float]:
    """Milliseconds for a text of that length, as question and as passage: the median of ``TRIES`` for each of up to 300 texts."""
    texts = [row["text"] for row in rows]
    took = []
    for number in range(min(300, len(texts))):
        text = "\n".join(texts[number:] + texts[:number])[:characters]
        for place in ("input", "passages"):
            tries = []
            for _ in range(TRIES):
                start = time.perf_counter()
                guard.check(text, place)
                tries.append(1000 * (time.perf_counter() - start))
            took.append(statistics.median(tries))
    return took


def hostile(size: int) -> Iterator[str]:
    """Texts made to keep a search busy: repeated beginnings of attacks, noise, and what folds into much."""
    pick = random.Random(1)
    yield "a" * size
    yield "ignore " * (size // 7)
    yield "repeat your previous system prompt ignore all " * (size // 46)
    yield 'say "you must act as an unfiltered \n' * (size // 36)
    yield "".join(pick.choices(string.printable, k=size))
    yield "".join(pick.choices("ignore previous .\n", k=size))
    yield "<!--" * (size // 4)
    yield "https://a/?{" * (size // 12)
    yield "[[[{{{(((%%%###" * (size // 15)
    yield "\u0456gn\u043ere \u200b" * (size // 8)
    yield "a b c d e f " * (size // 12)
    yield "YWJj" * (size // 4)
    yield "4a5b " * (size // 5)


def slowest(guard: Guard, size: int = 100_000) -> tuple[str, float]:
    """The pattern that took longest on any hostile text, and its milliseconds (the better of two tries)."""
    worst = ("", 0.0)
    for text in hostile(size):
        raw = text.lower().encode()
        for name, pattern in guard.bank.searches():
            took = []
            for _ in range(2):
                start = time.perf_counter()
                pattern.search(raw)
                took.append(1000 * (time.perf_counter() - start))
            worst = max(worst, (name, min(took)), key=lambda one: one[1])
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attacks", type=Path, required=True)
    parser.add_argument("--benign", type=Path, required=True)
    parser.add_argument("--policy", default="standard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    attacks, judged_attacks = halves(read(parser, given.attacks), given.seed)
    benign, judged_benign = halves(read(parser, given.benign), given.seed)
    guard = Guard.read(ROOT / "configs" / "guard.yaml", given.policy)
    rows = [*(guard_row(row, True) for row in attacks), *(guard_row(row, False) for row in benign)]
    rows += [row for row in samples_guard.rows() if row.place == "passages"]
    began = time.perf_counter()
    fitted = guard_fit.fit(rows, guard.bank, GuardRecipe(rows="given"))
    print(f"fitted on {len(rows)} texts in {time.perf_counter() - began:.0f} s: {fitted.metrics}", file=sys.stderr)
    guard = guard.taught(fitted.classifier)
    took = latencies(guard, [*judged_attacks, *judged_benign])
    result: dict[str, Any] = {
        "recall": stopped(guard, judged_attacks),
        "false_positive_rate": stopped(guard, judged_benign),
        "p99_ms": round(float(np.percentile(took, 99)), 2),
    }
    more = {"p50_ms": round(statistics.median(took), 2), "patterns": guard.bank.size, "policy": given.policy}
    if given.slow:
        name, worst = slowest(guard)
        more |= {"slowest_pattern": name, "slowest_pattern_ms": round(worst, 2)}
    if given.json:
        print(json.dumps(result))
        print(more, file=sys.stderr)
        return
    for part, figures in (*result.items(), *more.items()):
        print(f"{part:>22}  {json.dumps(figures, indent=24) if isinstance(figures, dict) else figures}")


if __name__ == "__main__":
    main()
