"""Steady load while processes are killed: what fails, how soon it is mended, and whether anything that was acknowledged is lost.

    python tests/benchmarks/serving_chaos.py [--minutes 10] [--rate 6] [--json]

Treadle with two Router and two Engine replicas on a PostgreSQL of its own (without ``initdb`` on the machine: on SQLite, and the catalog's
connection is left alone). Questions begin at a steady rate, each on a connection of its own, streamed, without a second try; every
tenth answer gets a thumb. In turn a Router replica, an Engine replica, an Engine's vLLM process and a connection's server process in
PostgreSQL (which restarts on that) get SIGKILL, each when everything is whole; ``gone`` says that the process was seen to end,
``mended_s`` when everything was whole again: as many replicas as at the beginning in Serve's state RUNNING (an engine's is: it has
warmed up), each engine with its vLLM, and questions answered since. ``lost`` counts turns and signals whose id a client was given and that
the catalog does not hold at the end.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import nullcontext
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import postgres
import psutil
from serving import questions
from serving_arms import STARTER, Treadle

TOKENS = 32
QUIET_S = 20.0
"""Before the first kill and after the last one is mended."""
ROUTER, ENGINE, WORKER, CATALOG = "router", "engine", "vllm worker", "catalog connection"


class Processes:
    """The processes of one cluster by what they are for. ``dashboard`` is Ray's address that says which replicas run."""

    def __init__(self, dashboard: str, database: str) -> None:
        self._dashboard, self._database = dashboard, database

    def of(self, kind: str) -> list[psutil.Process]:
        """Those that can be killed: of Routers and Engines the replicas that Serve says run, of vLLM what such an Engine has."""
        if kind == CATALOG:
            return [one for one in psutil.process_iter() if self._serves_a_connection(one)]
        replicas = self._replicas(ROUTER if kind == ROUTER else ENGINE)
        return replicas if kind == ROUTER else [worker if kind == WORKER else one for one in replicas for worker in _workers(one)]

    def whole(self) -> int:
        """How many replicas run, of engines those with their vLLM."""
        return len(self.of(ROUTER)) + len(self.of(ENGINE))

    def _replicas(self, kind: str) -> list[psutil.Process]:
        key = {"Authorization": f"Bearer {Path(os.environ['RAY_AUTH_TOKEN_PATH']).read_text().strip()}"}
        found = httpx.get(f"{self._dashboard}/api/serve/applications/", headers=key, timeout=30).json()["applications"]
        known = [
            replica["pid"]
            for application in found.values()
            for name, deployment in application["deployments"].items()
            if name.lower() == kind
            for replica in deployment["replicas"]
            if replica["state"] == "RUNNING"
        ]
        return [one for pid in known for one in _alive(pid)]

    def _serves_a_connection(self, one: psutil.Process) -> bool:
        port = self._database.rsplit(":", 1)[-1].split("/")[0]
        try:
            parent = one.parent()
            said = " ".join(one.cmdline())
            return said.startswith("postgres: treadle treadle") and parent is not None and port in parent.cmdline()
        except psutil.Error:
            return False


def _alive(pid: int) -> list[psutil.Process]:
    try:
        one = psutil.Process(pid)
        return [one] if one.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


def _workers(engine: psutil.Process) -> list[psutil.Process]:
    try:
        return [
            one
            for one in engine.children(recursive=True)
            if "EngineCore" in " ".join([one.name(), *one.cmdline()]) and _alive(one.pid)
        ]
    except psutil.Error:
        return []


class Asked:
    """One question: when it was asked, when its answer was whole, and what went wrong."""

    def __init__(self) -> None:
        self.began, self.ended, self.wrong, self.turn = time.monotonic(), 0.0, "", ""


async def ask(address: str, key: str, question: str, judged: bool, signals: list[str]) -> Asked:
    one = Asked()
    headers = {"Authorization": f"Bearer {key}"}
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "temperature": 0,
        "max_tokens": TOKENS,
    }
    try:
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60) as client:
            done = False
            async with client.stream("POST", "/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    one.wrong = f"{answer.status_code}: {(await answer.aread())[:160]!r}"
                    return one
                async for line in answer.aiter_lines():
                    done = done or line == "data: [DONE]"
                    if line.startswith("data: {"):
                        event = json.loads(line[6:])
                        if "error" in event:
                            one.wrong = str(event["error"]["message"])
                        one.turn = (event.get("treadle") or {}).get("turn_id") or one.turn
            if not done and not one.wrong:
                one.wrong = "the stream ended early"
            if judged and one.turn and not one.wrong:
                said = await client.post("/signals", json={"turn_id": one.turn, "kind": "thumb", "value": "up"})
                if said.status_code == 201:
                    signals.append(said.json()["id"])
    except httpx.HTTPError as error:
        one.wrong = type(error).__name__
    finally:
        one.ended = time.monotonic()
    return one


async def kill(processes: Processes, kind: str, whole: int, heard: list[Asked], say: Any) -> dict[str, Any]:
    """One SIGKILL, and everything until all is mended."""
    there = await asyncio.to_thread(processes.of, kind)
    if not there:
        return {"kind": kind, "gone": False, "why": "there was no such process"}
    victim = there[0]
    began = time.monotonic()
    victim.kill()
    gone = False
    while not gone and time.monotonic() - began < 10:
        await asyncio.sleep(0.05)
        gone = not _alive(victim.pid)
    until = began + 180
    mended = None
    while mended is None and time.monotonic() < until:
        await asyncio.sleep(0.5)
        last = max((one.ended for one in heard if not one.wrong), default=0.0)
        if last > began and await asyncio.to_thread(processes.whole) >= whole:
            mended = round(time.monotonic() - began, 1)
    failed = sum(bool(one.wrong) for one in list(heard) if one.ended >= began)
    say(f"{kind}: whole after {mended} s, {failed} failed")
    return {"kind": kind, "pid": victim.pid, "gone": gone, "mended_s": mended, "failed_meanwhile": failed}


async def storm(treadle: Treadle, processes: Processes, given: argparse.Namespace, say: Any) -> dict[str, Any]:
    heard: list[Asked] = []
    signals: list[str] = []
    tasks: set[asyncio.Task[None]] = set()
    pool = cycle(questions(400))
    ends = time.monotonic() + 60 * given.minutes

    async def one(question: str, number: int) -> None:
        heard.append(await ask(treadle.endpoint.address, treadle.endpoint.key, question, number % 10 == 0, signals))

    async def load() -> None:
        number = 0
        while time.monotonic() < ends:
            number += 1
            task = asyncio.create_task(one(f"{number}. {next(pool)}", number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(1 / given.rate)

    loading = asyncio.create_task(load())
    await asyncio.sleep(QUIET_S)
    kills: list[dict[str, Any]] = []
    whole = await asyncio.to_thread(processes.whole)
    kinds = [kind for kind in (ROUTER, ENGINE, WORKER, CATALOG) if kind != CATALOG or given.database]
    for kind in cycle(kinds):
        if time.monotonic() > ends - 2 * QUIET_S:
            break
        kills.append(await kill(processes, kind, whole, heard, say))
        await asyncio.sleep(QUIET_S)
    await loading
    while tasks:
        await asyncio.wait(tasks)
    failures = [one.wrong for one in heard if one.wrong]
    kept = await asyncio.to_thread(held, [one.turn for one in heard if one.turn], signals)
    return {
        "requests": len(heard),
        "failed": len(failures),
        "success": round(1 - len(failures) / len(heard), 5),
        "what_failed": {what: failures.count(what) for what in sorted(set(failures))},
        "kills": kills,
        "acknowledged": {"turns": sum(bool(one.turn) for one in heard), "signals": len(signals)},
        "unrecorded": sum(not one.turn and not one.wrong for one in heard),
        "lost": kept,
    }


def held(turns: list[str], said: list[str]) -> dict[str, int]:
    """How many of these the catalog does not hold."""
    from cluster.catalog import Catalog, conversations, signals
    from cluster.errors import NotFound
    from cluster.settings import load_settings

    lost = {"turns": 0, "signals": 0}
    catalog = Catalog(load_settings().catalog_url)
    with catalog.reading() as work:
        known = {signal.id for signal in signals.of_turns(work, turns)}
        lost["signals"] = sum(one not in known for one in said)
        for turn in turns:
            try:
                conversations.turn(work, turn)
            except NotFound:
                lost["turns"] += 1
    catalog.close()
    return lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=6.0, help="questions that begin in a second")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    database = postgres.server() if postgres.installed() else nullcontext("")
    with tempfile.TemporaryDirectory(prefix="treadle-chaos-") as name, database as given.database:
        treadle = Treadle(STARTER, Path(name), router={"replicas": 2}, database=given.database, replicas=2)
        try:
            from cluster import ray_lifecycle
            from cluster.settings import load_settings

            processes = Processes(ray_lifecycle.connection(load_settings()).dashboard, given.database)
            say({kind: len(processes.of(kind)) for kind in (ROUTER, ENGINE, WORKER, CATALOG)})
            found = asyncio.run(storm(treadle, processes, given, say))
        finally:
            treadle.end()
    result = {"cores": os.cpu_count(), "minutes": given.minutes, "rate": given.rate, **found}
    print(json.dumps(result) if given.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
