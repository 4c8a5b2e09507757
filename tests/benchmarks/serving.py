"""Serving against bare `vllm serve` and stock Ray Serve LLM: same machine, model, flags and questions, in turns.

    python tests/benchmarks/serving.py [--models starter random] [--streams 1 8 32 128] [--rounds 3] [--json]

All servers are up at once and asked one after the other, in another order in each round; ``bare_again`` is bare vLLM a second time, the A/A
control. Treadle answers model "auto" with a key: authentication, guard, routing by a trained head, recording. Every figure is a paired
ratio to bare vLLM in the same round, and the median of the rounds; absolute medians stand under ``absolute``. Answers are greedy, streamed,
and as long as the model makes them, at most ``--tokens``.

The starter model is the small one that everything but the engine weighs most against; ``random`` is a Llama of 100 M random weights.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from serving_arms import AGENT, ROOT, STARTER, BareVllm, Stock, Treadle, random_model
from serving_load import Endpoint, each, load

MOST_QUESTIONS = {"starter": {1: 24, 8: 96, 32: 256, 128: 512}, "random": {1: 4, 8: 16, 32: 64, 128: 128}}
SETTLE_S = 2.0
"""After each measurement: what a server still does for its last answers is not to be the next one's burden."""
TIMES_ALONE = 4
"""So many measurements a round with one stream, each of fewer questions: milliseconds are only told apart when the arms follow each other
closely, and one stream is over so soon that a moment's noise is all of it."""
FIGURES = ("tokens_per_s", "ttft_p50", "e2e_p95")


def questions(most: int) -> list[str]:
    """The Linux agent's history, each asked once."""
    lines = (ROOT / "configs" / "demo" / "conversations" / "linux.jsonl").read_text().splitlines()
    texts = dict.fromkeys(str(json.loads(line)["messages"][0]["content"]) for line in lines)
    return list(texts)[:most]


def count(model: str, streams: int) -> int:
    """How many questions make a measurement of some seconds."""
    known = MOST_QUESTIONS[model]
    return known.get(streams, max(streams, 8))


def measure(model: str, given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """One model: its servers, all rounds, the ratios."""
    say = lambda text: print(f"{model}: {text}", file=sys.stderr, flush=True)  # noqa: E731
    place = STARTER if model == "starter" else random_model(scratch / "model")
    system = str(yaml.safe_load(AGENT.read_text())["prompt"])
    say("starting Treadle's cluster")
    treadle = Treadle(place, scratch)
    bare = stock = None
    try:
        from cluster.settings import load_settings
        from serve_app.app import vllm_environment

        environment = vllm_environment(load_settings())
        say("starting bare vLLM")
        bare = BareVllm(place, scratch, environment, system)
        arms = {"bare": bare.endpoint, "treadle": treadle.endpoint, "bare_again": bare.endpoint}
        if "stock" in given.arms:
            say("starting stock Ray Serve LLM")
            stock = Stock(place, scratch, environment, system)
            arms["stock"] = stock.endpoint
        return ratios_of(model, arms, given, say)
    finally:
        treadle.end()
        for one in (bare, stock):
            if one is not None:
                one.end()


def ratios_of(model: str, arms: dict[str, Endpoint], given: argparse.Namespace, say: Any) -> dict[str, Any]:
    pool = questions(max(count(model, streams) for streams in given.streams))
    asked_before = itertools.count(1)

    def fresh(streams: int) -> list[str]:
        """Questions that nobody has asked: a number in front keeps the prefix cache from answering for the second who asks."""
        return [f"{next(asked_before)}. {text}" for text in pool[: count(model, streams)]]

    for arm in arms.values():
        load(each(arm, fresh(1) + fresh(8)), 16, given.tokens)  # what the first requests cost is nobody's
    heard: dict[int, list[dict[str, dict[str, Any]]]] = {streams: [] for streams in given.streams}
    names = list(arms)
    for number in range(given.rounds):
        for streams in [one for one in given.streams for _ in range(TIMES_ALONE if one == 1 else 1)]:
            turn = len(heard[streams]) % len(names)
            order = [*names[turn:], *names[:turn]]
            heard[streams].append({})
            for name in order:
                heard[streams][-1][name] = load(each(arms[name], fresh(streams)), streams, given.tokens)
                time.sleep(SETTLE_S)
            said = {name: round(one["tokens_per_s"]) for name, one in heard[streams][-1].items()}
            say(f"round {number + 1}, {streams} streams, tokens/s: {said}")

    def ratio(streams: int, name: str, figure: str) -> float:
        return round(statistics.median(one[name][figure] / one["bare"][figure] for one in heard[streams]), 3)

    def median(streams: int, name: str, figure: str) -> float:
        return round(statistics.median(one[name][figure] for one in heard[streams]), 4)

    others = [name for name in names if name not in ("bare", "bare_again")]
    result: dict[str, Any] = {
        "ratios": {str(s): {name: {one: ratio(s, name, one) for one in FIGURES} for name in others} for s in given.streams},
        "aa": {str(s): {one: ratio(s, "bare_again", one) for one in FIGURES} for s in given.streams},
        "absolute": {str(s): {name: {one: median(s, name, one) for one in FIGURES} for name in names} for s in given.streams},
        "failed": {name: sum(one[name]["failed"] for rounds in heard.values() for one in rounds) for name in names},
        "tokens": {name: heard[given.streams[0]][0][name]["tokens"] for name in names},
    }
    if 1 in given.streams:
        added = (one["treadle"]["ttft_p50"] - one["bare"]["ttft_p50"] for one in heard[1])
        result["added_ttft_p50_ms"] = round(1000 * statistics.median(added), 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["starter", "random"], choices=["starter", "random"])
    parser.add_argument("--arms", nargs="*", default=["stock"], choices=["stock"], help="beside bare vLLM and Treadle")
    parser.add_argument("--streams", nargs="*", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="at most, in an answer")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result: dict[str, Any] = {"cores": os.cpu_count(), "rounds": given.rounds}
    for model in given.models:
        with tempfile.TemporaryDirectory(prefix="treadle-serving-") as scratch:
            result[model] = measure(model, given, Path(scratch))
    print(json.dumps(result) if given.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
