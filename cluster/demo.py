"""The demo: one turn of the wheel on the shipped samples, with people played by a file, and everything measured on unseen inputs.

What is real: every part. What is played: the people. ``judgements`` holds what they ask and what they say of the answers; they say it
over HTTP, as anybody would.
"""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import httpx
from pydantic import Field

from cluster import ray_lifecycle
from cluster.access import own_key
from cluster.artifacts import write_whole
from cluster.catalog import Catalog, questions, releases
from cluster.domain.base import Frozen, Name
from cluster.domain.questions import Evaluation
from cluster.domain.recipes import EvaluateRecipe
from cluster.errors import InvalidInput, JobFailed
from cluster.flywheel import Plan, Wheel
from cluster.job_submission import Submitter
from cluster.settings import ROOT, Settings
from cluster.tls import trust

Say = Callable[[str], None]
REPORT = "demo-report.json"
ANEW = "To watch the demo from the beginning: TREADLE_HOME=/another/directory make demo"
_AT_ONCE = 8


class DemoPlan(Frozen):
    """What the demo turns, measures and judges. Question sets are named; ``learner`` is the agent that people correct."""

    plan: str
    learner: Name
    exact_match: dict[Name, Name]
    knowledge: Name
    validation: Name
    routing: Name
    judgements: str
    swap_requests: int = Field(default=120, ge=100)


class Demo:
    """Plays the demo. ``started`` (seconds since the epoch) is when set-up began, if it is to be counted."""

    def __init__(
        self, settings: Settings, catalog: Catalog, submitter: Submitter, wheel: Wheel, say: Say, started: float | None = None
    ) -> None:
        self._settings, self._catalog, self._submitter, self._wheel, self._say = settings, catalog, submitter, wheel, say
        self._seconds: dict[str, float] = {}
        self._begun = time.time()
        if started is not None:
            self._seconds["setup"] = round(self._begun - started, 1)
            self._begun = started

    @contextmanager
    def _stage(self, name: str, words: str) -> Iterator[None]:
        self._say(f"── {name}: {words}")
        start = time.monotonic()
        yield
        self._seconds[name] = round(time.monotonic() - start, 1)

    def play(self, demo: DemoPlan, plan: Plan) -> dict[str, Any]:
        """The whole demo; returns the report, which also stands in ``$TREADLE_HOME/demo-report.json``."""
        with self._stage("start", "Ray, MLflow"):
            ray_lifecycle.start(self._settings, self._say)
        with ThreadPoolExecutor(max_workers=1) as aside:
            serving = aside.submit(ray_lifecycle.deploy, self._settings, self._say)
            with self._stage("gather", "documents → corpora, conversations → datasets"):
                gathered = self._wheel.gather(plan)
            with self._stage("teach", "LoRA adapters by SFT, router head"):
                taught = self._wheel.teach(plan)
            with self._stage("serve", "the endpoint"):
                serving.result()
        if not taught and (report := played(self._settings.home)) is not None:
            self._say(f"The wheel has turned in {self._settings.home} already and nothing is new: this is that turn's report.")
            self._say(ANEW)
            return report
        with self._stage("admit", "first releases against the bare base model"):
            self._wheel.admit(plan, taught)
            champions = {name: self._champion(name) for name in demo.exact_match}
            before = champions[demo.learner]
        with self._stage("measure", "routing, knowledge with and without retrieval"):
            routing = self._evaluate("auto", demo.routing)
            known = self._evaluation(before, demo.knowledge)  # the gate has just asked
            guessed = self._evaluate(before, demo.knowledge, retrieve=False)
        with self._stage("judge", "people ask and say what was wrong"):
            judged = asyncio.run(self._judge(demo))
        with self._stage("listen", "signals → rows and regression questions"):
            self._wheel.listen()
        with self._stage("improve", "the adapter continued by DPO"):
            made = self._wheel.improve(plan)
            if not made:
                raise JobFailed(
                    f"People found nothing wrong with the answers of {before}, so there was nothing to improve. {ANEW}"
                )
            after = made[0]
        with self._stage("gate", "challenger against champion, question by question"):
            verdict = self._wheel.admit(plan, made, promote=False)[0]
        with self._stage("swap", f"promotion under load ({demo.swap_requests} requests)"):
            swap = asyncio.run(self._swap(demo.learner, after, demo.swap_requests, promote=verdict["verdict"] == "promote"))
        report = {
            "seconds": {},
            "agents": {name: {"exact_match": self._exact(champions[name], one)} for name, one in demo.exact_match.items()},
            "router": _routed(routing),
            "retrieval": {"with": known.rate, "without": guessed.rate, "n": known.n},
            "validation": self._validation(demo.validation, before, after, verdict),
            "gate": {"verdict": verdict["verdict"], "reasons": verdict["reasons"]},
            "releases": {"before": before, "after": after},
            "swap": swap,
            "signals": judged,
            "documents": [one for one in gathered if "corpus" in one],
            "diff": self._wheel.difference(before, after),
        }
        report["seconds"] = {**self._seconds, "total": round(time.time() - self._begun, 1)}
        write_whole(self._settings.home / REPORT, json.dumps(report, indent=1).encode())
        return report

    # Measuring

    def _evaluate(self, release: str, question_set: str, retrieve: bool = True) -> Evaluation:
        recipe = EvaluateRecipe(release=release, question_sets=(question_set,), retrieve=retrieve)
        self._submitter.run("train_jobs.evaluate", recipe)
        return self._evaluation(release, question_set, retrieve)

    def _evaluation(self, release: str, question_set: str, retrieve: bool = True) -> Evaluation:
        """The newest evaluation that a job left in the catalog."""
        with self._catalog.reading() as work:
            for one in questions.of_release(work, release):
                if one.question_set == question_set and one.options.get("retrieve", True) == retrieve:
                    return one
        raise JobFailed(f"No evaluation of {release} on '{question_set}' was recorded; see treadle runs list.")

    def _champion(self, name: str) -> str:
        with self._catalog.reading() as work:
            return releases.get(work, name).ref

    def _exact(self, release: str, question_set: str) -> dict[str, float]:
        name = release.partition("@")[0]
        base, adapter = self._evaluation(f"{name}@base", question_set), self._evaluation(release, question_set)
        return {"base": base.rate, "adapter": adapter.rate, "n": adapter.n}

    def _validation(self, question_set: str, before: str, after: str, verdict: dict[str, Any]) -> dict[str, Any]:
        was, now = self._evaluation(before, question_set), self._evaluation(after, question_set)
        compared = next(one for one in verdict["comparisons"] if one["question_set"] == question_set)
        return {"before": was.rate, "after": now.rate, "gain_ci95": compared["interval"], "n": now.n}

    # People

    def _client(self) -> httpx.AsyncClient:
        found = ray_lifecycle.connection(self._settings)
        headers = {"Authorization": f"Bearer {own_key(self._settings, self._catalog)}"}
        return httpx.AsyncClient(base_url=found.serve, headers=headers, timeout=120, verify=trust(self._settings))

    async def _judge(self, demo: DemoPlan) -> dict[str, int]:
        """Ask every question of the judgements through ``auto`` and say what the file says of it."""
        said = read_judgements(ROOT / demo.judgements)
        counts: dict[str, int] = {}
        gate = asyncio.Semaphore(_AT_ONCE)
        async with self._client() as client:

            async def one(judgement: dict[str, str]) -> None:
                async with gate:
                    answer = await _ask(client, "auto", judgement["question"])
                    for signal in _signals(judgement, answer, demo.learner):
                        posted = await client.post("/v1/signals", json={"turn_id": answer["treadle"]["turn_id"], **signal})
                        posted.raise_for_status()
                        what = f"thumb {signal['value']}" if signal["kind"] == "thumb" else signal["kind"].replace("_", " ")
                        counts[what] = counts.get(what, 0) + 1

            await asyncio.gather(*(one(judgement) for judgement in said))
        return counts

    async def _swap(self, learner: str, after: str, requests: int, promote: bool) -> dict[str, Any]:
        """Keep asking the agent while its alias moves; every answer counts, by the release that gave it."""
        with self._catalog.reading() as work:
            asked = [question.text for question in questions.get_set(work, f"{learner}-regression").questions]
        answered: dict[str, int] = {}
        failed = 0
        left = iter(range(100 * requests))  # bounded, should the new release never answer
        moved = asyncio.Event()
        async with self._client() as client:

            async def worker() -> None:
                nonlocal failed
                for number in left:
                    enough = sum(answered.values()) + failed >= requests
                    if enough and (not promote or answered.get(after, 0) >= _AT_ONCE):
                        return
                    try:
                        answer = await _ask(client, learner, asked[number % len(asked)])
                        release = str(answer["treadle"]["release"])
                        answered[release] = answered.get(release, 0) + 1
                    except (httpx.HTTPError, KeyError):
                        failed += 1
                    if sum(answered.values()) + failed >= requests // 3:
                        moved.set()

            async def promotion() -> None:
                await moved.wait()
                if promote:
                    await asyncio.to_thread(self._wheel.promote, after, "passed the gate")

            await asyncio.gather(promotion(), *(worker() for _ in range(_AT_ONCE)))
        return {"requests": sum(answered.values()) + failed, "failed": failed, "answered_by": answered}


async def _ask(client: httpx.AsyncClient, model: str, question: str) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    answer = await client.post("/v1/chat/completions", json=body)
    answer.raise_for_status()
    value: dict[str, Any] = answer.json()
    return value


def _signals(judgement: dict[str, str], answer: dict[str, Any], learner: str) -> list[dict[str, Any]]:
    """What a person says of one answer: the right agent when it was another; a thumb up for what they would have written themselves;
    else a thumb down and what it should have been."""
    said = str(answer["choices"][0]["message"]["content"]).strip()
    if answer["treadle"]["agent"] != learner:
        return [{"kind": "right_agent", "value": learner}]
    if said == judgement["ideal"]:
        return [{"kind": "thumb", "value": "up"}]
    return [{"kind": "thumb", "value": "down"}, {"kind": "ideal_answer", "value": judgement["ideal"]}]


def played(home: Path) -> dict[str, Any] | None:
    """The report of the demo that was played in this home before; None when there is none that can be read."""
    try:
        report: dict[str, Any] = json.loads((home / REPORT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return report


def read_judgements(path: Path) -> list[dict[str, str]]:
    """The judgements file: JSON lines of ``{"question", "ideal"}``. Raises InvalidInput naming the line that is none."""
    found: list[dict[str, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            value = json.loads(line)
            found.append({"question": value["question"], "ideal": value["ideal"]})
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{path}, line {number} is no judgement (question, ideal): {error!r}.") from None
    return found


def _routed(evaluation: Evaluation) -> dict[str, Any]:
    """Accuracy over questions that some agent should answer, and the share of out-of-scope questions that were caught."""
    inside = [one.passed for one in evaluation.results if "out_of_scope" not in one.slices]
    outside = [one.passed for one in evaluation.results if "out_of_scope" in one.slices]
    return {
        "accuracy": sum(inside) / max(1, len(inside)),
        "out_of_scope_recall": sum(outside) / max(1, len(outside)),
        "n": evaluation.n,
    }
