"""Promotions and rollbacks under load: is anything lost, mixed or held up?

    python tests/benchmarks/serving_promotions.py [--moves 20] [--streams 32] [--json]

Two releases of one agent (random LoRA adapters that answer differently) take turns as champion while ``--streams`` connections ask it
without a pause. Every answer must be, to the letter, what the release that it names says when nothing moves: one of two releases would be
neither. ``worst_gap_ms`` is the longest time between two pieces of one answer, while nothing moves and while the champion does.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving import questions
from serving_adapters import AGENT, releases
from serving_arms import STARTER, Treadle
from serving_load import Endpoint

TOKENS = 48


class Answered:
    """One streamed answer: what was asked, the text, the release that it names, and the longest pause within it in seconds."""

    def __init__(self, question: str) -> None:
        self.question, self.text, self.release, self.gap, self.wrong = question, "", "", 0.0, ""


async def ask(endpoint: Endpoint, question: str) -> Answered:
    place = urlsplit(endpoint.address)
    found = Answered(question)
    writer = None
    try:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(endpoint.request(question, TOKENS))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            found.wrong = head.split(b"\r\n", 1)[0].decode()
            return found
        last = None
        while b"[DONE]" not in (line := await reader.readline()):
            if not line:
                found.wrong = "the stream ended early"
                return found
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                found.wrong = str(event["error"]["message"])
                return found
            moment = time.perf_counter()
            found.gap = max(found.gap, moment - last if last is not None else 0.0)
            last = moment
            for choice in event["choices"]:
                found.text += choice["delta"].get("content") or ""
            found.release = (event.get("treadle") or {}).get("release", found.release)
    except (OSError, asyncio.IncompleteReadError) as error:
        found.wrong = type(error).__name__
    finally:
        if writer is not None:
            writer.close()
    return found


async def under_load(endpoint: Endpoint, pool: list[str], streams: int, work: Callable[[], Any]) -> list[Answered]:
    """All answers that were begun while ``work`` ran in a thread."""
    going = True
    heard: list[Answered] = []

    async def stream(number: int) -> None:
        turn = number
        while going:
            heard.append(await ask(endpoint, pool[turn % len(pool)]))
            turn += streams

    tasks = [asyncio.create_task(stream(number)) for number in range(streams)]
    try:
        await asyncio.to_thread(work)
    finally:
        going = False
        await asyncio.gather(*tasks)
    return heard


def measure(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    treadle = Treadle(STARTER, scratch)
    try:
        names = releases(scratch, 2, spread=0.15)
        pool = questions(64)
        expected = {
            (name, question): asyncio.run(ask(treadle.endpoint._replace(model=name), question)).text
            for name in names
            for question in pool
        }
        different = sum(expected[names[0], question] != expected[names[1], question] for question in pool)
        endpoint = treadle.endpoint._replace(model=AGENT)
        treadle.command("releases", "promote", names[0])
        time.sleep(2)
        quiet = asyncio.run(under_load(endpoint, pool, given.streams, lambda: time.sleep(given.pause * 4)))

        def move() -> None:
            for number in range(given.moves):
                words = ("promote", names[1]) if number % 2 == 0 else ("rollback", AGENT)
                treadle.command("releases", *words)
                time.sleep(given.pause)

        moved = asyncio.run(under_load(endpoint, pool, given.streams, move))
        good = [one for one in moved if not one.wrong]
        mixed = [one for one in good if one.text != expected.get((one.release, one.question))]
        return {
            "moves": given.moves,
            "streams": given.streams,
            "answers": len(moved),
            "failed": len(moved) - len(good),
            "first_failure": next((one.wrong for one in moved if one.wrong), ""),
            "by_release": dict(Counter(one.release for one in good)),
            "not_what_the_named_release_says": len(mixed),
            "questions_that_tell_them_apart": f"{different} of {len(pool)}",
            "worst_gap_ms": {
                "quiet": round(1000 * max(one.gap for one in quiet)),
                "moving": round(1000 * max(one.gap for one in good)),
            },
        }
    finally:
        treadle.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between moves")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="treadle-serving-") as scratch:
        result = {"cores": os.cpu_count(), **measure(given, Path(scratch))}
    print(json.dumps(result) if given.json else json.dumps(result, indent=1))
    sys.exit(0 if not result["failed"] and not result["not_what_the_named_release_says"] else 1)


if __name__ == "__main__":
    main()
