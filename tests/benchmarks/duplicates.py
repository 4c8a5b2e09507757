"""Near-duplicates among 20,000 passages, against datasketch in the same run.

    python tests/benchmarks/duplicates.py [--passages 20000] [--rounds 3] [--json]

Passages are generated: sentences over a vocabulary with natural word frequencies (Zipf), 60 to 120 words. To every tenth of them a copy
with 5 to 30 % of its words edited (replaced, left out, put in, or moved) is planted. Both are given the same sets of word triples, the same
256 permutations and the same threshold, and start from the texts; they take turns, and the ratio is of the medians.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from itertools import accumulate

from data_jobs.duplicates import PERMUTATIONS, Fingerprint, find_duplicates, signature
from data_jobs.wash import text_digest

THRESHOLD = 0.12
"""Jaccard similarity of word triples. With 30 % of the words edited about 0.7^3 of the triples stay: 0.34 / (2 - 0.34) = 0.21."""
Pairs = set[tuple[str, str]]


def passages(count: int, seed: int) -> tuple[dict[str, str], Pairs]:
    """Texts by name, a tenth of them with an edited copy; and which is whose copy."""
    pick = random.Random(seed)
    vocabulary = ["".join(pick.choices("abcdefghijklmnopqrstuvwxyz", k=pick.randint(2, 9))) for _ in range(30_000)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(vocabulary))))
    originals = round(count / 1.1)
    texts = {
        f"p{number:06}": pick.choices(vocabulary, cum_weights=weights, k=pick.randint(60, 120)) for number in range(originals)
    }
    planted: Pairs = set()
    for number, name in enumerate(pick.sample(sorted(texts), count - originals)):
        copy = f"q{number:06}"
        texts[copy] = edited(texts[name], pick.uniform(0.05, 0.30), vocabulary, pick)
        planted.add((name, copy))
    return {name: " ".join(said) for name, said in texts.items()}, planted


def edited(said: list[str], share: float, vocabulary: list[str], pick: random.Random) -> list[str]:
    """A copy with this share of its words edited."""
    out = list(said)
    for _ in range(round(share * len(said))):
        place = pick.randrange(len(out))
        kind = pick.random()
        if kind < 0.5:
            out[place] = pick.choice(vocabulary)
        elif kind < 0.7:
            del out[place]
        elif kind < 0.9:
            out.insert(place, pick.choice(vocabulary))
        else:
            out.insert(pick.randrange(len(out)), out.pop(place))
    return out


def by_treadle(texts: dict[str, str]) -> Pairs:
    """Pairs (kept, dropped) that Treadle finds."""
    prints = (Fingerprint(name, text_digest(text), signature(text)) for name, text in texts.items())
    return {(str(one.of), one.source) for one in find_duplicates(prints, THRESHOLD)}


def by_datasketch(texts: dict[str, str]) -> Pairs:
    """The same with datasketch: MinHash in bulk, MinHashLSH, estimated similarity to choose the twin."""
    from datasketch import MinHash, MinHashLSH

    names = sorted(texts)
    words = (texts[name].split() for name in names)
    sets = [[" ".join(said[at : at + 3]).encode() for at in range(len(said) - 2)] for said in words]
    hashed = dict(zip(names, MinHash.bulk(sets, num_perm=PERMUTATIONS, seed=42), strict=True))
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    found: Pairs = set()
    for name in names:
        near = ((hashed[other].jaccard(hashed[name]), other) for other in index.query(hashed[name]))
        best = max((one for one in near if one[0] >= THRESHOLD), default=None)
        if best is None:
            index.insert(name, hashed[name])
        else:
            found.add((best[1], name))
    return found


def quality(found: Pairs, planted: Pairs) -> dict[str, float]:
    right = len(found & planted)
    return {"recall": round(right / len(planted), 4), "precision": round(right / max(1, len(found)), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    texts, planted = passages(given.passages, given.seed)
    ways: dict[str, Callable[[dict[str, str]], Pairs]] = {"treadle": by_treadle, "datasketch": by_datasketch}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    result: dict[str, object] = {"passages": len(texts), "planted": len(planted), "threshold": THRESHOLD}
    for _ in range(given.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            found = way(texts)
            seconds[name].append(time.perf_counter() - began)
            result[name] = quality(found, planted)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    result["seconds"] = {name: round(median, 2) for name, median in medians.items()}
    result["times_as_fast"] = round(medians["datasketch"] / medians["treadle"], 2)
    if given.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:>15}  {value}", file=sys.stdout)


if __name__ == "__main__":
    main()
