"""The samples of the demo: three agents with their documents, conversations, questions, routing rows and judgements.

``python -m data_jobs.samples`` writes them to ``configs/demo``; equal seeds give equal files. What the questions ask occurs in no
row that is trained on: a slot value belongs to one side by its checksum, and the buildings of the knowledge base are in no conversation.
"""

import argparse
import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from data_jobs import samples_documents, samples_linux, samples_property, samples_python, samples_routing
from data_jobs.samples_property import ABSENT, EVERYDAY, KNOWN_BUILDINGS, TRAIN_BUILDINGS, UNKNOWN, URGENT, Fact, Request
from data_jobs.samples_values import Task, draw

FOLDER: Final = Path(__file__).resolve().parents[1] / "configs" / "demo"
SEED: Final = 20260711
QUESTIONS: Final = 120
ROUTING_EACH: Final = 60
ROUTING_ASIDE: Final = 72
CONVERSATIONS: Final = {"linux": 1920, "python": 1920}
SLOPPY_SHARE: Final = 0.04
RANKED_FIRST: Final = 0.85  # the history's passages stand as retrieval ranked them: the one that answers is mostly the first
BESIDE_SHARE: Final = 0.3  # requests rarely come near enough to a passage (min_score), but they may
MIN_SCORE: Final = (
    0.55  # similarity of requests to the nearest passage: 95 % below 0.53; of questions about facts: 95 % above 0.70
)
SLOPPY: Final = ("Not sure.", "Please look it up.", "It should work now.", "Ask somebody else.")
TASKS: Final[dict[str, tuple[Task, ...]]] = {"linux": samples_linux.TASKS, "python": samples_python.TASKS}
ACKNOWLEDGE: Final = ["thank you", "sorry"]
ACTION: Final = [r"\bwill (come|look|speak|check|empty|cut|repair|change|test|clear)\b"]
TIMELINE: Final = [r"within \d+ (hour|day)s?\b", r"\b(today|tomorrow)\b", r"\bby \d\d:\d\d\b"]
NO_REQUEST: Final = [r"\[\d+\]", "do not (say|know)"]  # the other answers: facts, cited or missing
RULES: Final[list[dict[str, Any]]] = [
    {"kind": "length", "name": "length", "min_chars": 10, "max_chars": 300},
    {"kind": "must_match", "name": "acknowledge", "patterns": [*ACKNOWLEDGE, *NO_REQUEST]},
    {"kind": "must_match", "name": "action", "patterns": [*ACTION, *NO_REQUEST]},
    {"kind": "must_match", "name": "timeline", "patterns": [*TIMELINE, *NO_REQUEST]},
    {"kind": "must_not_match", "name": "no_blame", "patterns": ["your (own )?fault", "you should have", "not our (problem|job)"]},
]
REQUEST_ANSWERED: Final = "(?is)" + ".*".join(f"(?:{'|'.join(part)})" for part in (ACKNOWLEDGE, ACTION, TIMELINE))

Row = dict[str, Any]


def conversation(agent: str, question: str, answer: str, category: str, rng: random.Random, passages: Iterable[str] = ()) -> Row:
    """One historic conversation. A few replies are sloppy, and their low quality says so."""
    sloppy = rng.random() < SLOPPY_SHARE
    quality = round(rng.uniform(0.05, 0.3) if sloppy else rng.uniform(0.75, 1.0), 2)
    said = rng.choice(SLOPPY) if sloppy else answer
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": said}]
    row: Row = {"messages": messages, "agent": agent, "category": category, "quality": quality}
    given = list(passages)
    return {**row, "passages": given} if given else row


def exact(identifier: str, question: str, expected: str, *slices: str) -> Row:
    return {"id": identifier, "text": question, "kind": "exact", "expected": expected, "slices": list(slices)}


class Samples:
    """All samples, made once in a fixed order. ``taken`` keeps any question from being drawn twice."""

    def __init__(self, seed: int = SEED) -> None:
        self._seed = seed
        self.taken: set[str] = set()
        self.facts = samples_property.knowledge(self._stream("knowledge"))
        self.question_sets = self._question_sets()
        self.routing = self._routing()
        self.judgements = self._judgements()
        self.conversations = {agent: self._skill(agent) for agent in TASKS} | {"property": self._property()}
        self.router_rows = self._router_rows(110, 170)
        self.agents = self._agents()

    def _stream(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}/{name}")

    def _question_sets(self) -> dict[str, Row]:
        sets: dict[str, Row] = {}
        for agent, tasks in TASKS.items():
            drawn = draw(tasks, self._stream(f"{agent}/questions"), "unseen", QUESTIONS, self.taken)
            asked = [exact(f"{agent}-{at:03d}", one.question, one.answer, one.category) for at, one in enumerate(drawn, 1)]
            sets[agent] = _set(agent, agent, asked)
        sets["property-requests"] = _set(
            "property-requests",
            "property",
            [
                exact(f"request-{at:03d}", one.question, one.full, one.kind, _novelty(one))
                for at, one in enumerate(self._unseen_requests("requests", QUESTIONS, 0), 1)
            ],
        )
        sets["property-rules"] = _set(
            "property-rules",
            "property",
            [
                {
                    "id": f"rule-{at:03d}",
                    "text": one.question,
                    "kind": "regex",  # not the rules alone: nonsense with a citation keeps those
                    "expected": REQUEST_ANSWERED,
                    "slices": [_urgency(one), one.kind, _novelty(one)],
                }
                for at, one in enumerate(self._unseen_requests("rules", QUESTIONS // 2, QUESTIONS // 2), 1)
            ],
        )
        rng = self._stream("facts/questions")
        sets["property-facts"] = _set(
            "property-facts",
            "property",
            [
                {
                    "id": f"fact-{at:03d}",
                    "text": samples_property.asked(one, rng),
                    "kind": "contains",
                    "expected": one.value,
                    "slices": [one.attribute.name.replace(" ", "-"), samples_documents.format_of(one.building)],
                }
                for at, one in enumerate(rng.sample(self.facts, QUESTIONS), 1)
            ],
        )
        return sets

    def _unseen_requests(self, name: str, urgent: int, everyday: int) -> list[Request]:
        """Unseen flats, half of them in the buildings that no conversation names."""
        rng, made = self._stream(f"{name}/questions"), []
        for kinds, count in ((URGENT, urgent), (EVERYDAY, everyday)):
            for buildings in (KNOWN_BUILDINGS, TRAIN_BUILDINGS):
                made += samples_property.requests(kinds, rng, "unseen", buildings, count // 2, self.taken)
        rng.shuffle(made)
        return made

    def _routing(self) -> list[Row]:
        rng, asked = self._stream("routing"), []
        for agent in ("linux", "python", "property"):
            texts = samples_routing.wordings(agent, "unseen")
            texts += self._requests_for(agent, "unseen", ROUTING_EACH - len(texts), rng)
            asked += [(text, agent, agent) for text in texts]
        asked += [(text, None, "out_of_scope") for text in samples_routing.aside("unseen", rng, ROUTING_ASIDE)]
        rows = [
            {"id": f"route-{at:03d}", "text": text, "kind": "route", "expected": expected, "slices": [name]}
            for at, (text, expected, name) in enumerate(asked, 1)
        ]
        self.question_sets["routing"] = {"name": "routing", "agent": None, "purpose": "routing", "questions": rows}
        return rows

    def _requests_for(self, agent: str, split: Any, count: int, rng: random.Random) -> list[str]:
        """Questions of the kind that the agent is trained on; for property, requests and questions about facts by turns."""
        if agent in TASKS:
            return [one.question for one in draw(TASKS[agent], rng, split, count, self.taken)]
        buildings = TRAIN_BUILDINGS if split == "train" else KNOWN_BUILDINGS
        said = samples_property.requests(URGENT + EVERYDAY, rng, split, buildings, count - count // 3, self.taken)
        texts = [one.question for one in said]
        while len(texts) < count:
            text = samples_property.asked(
                samples_property.fact(rng.choice(buildings), rng.choice(samples_property.ATTRIBUTES), rng), rng
            )
            if text not in self.taken:
                self.taken.add(text)
                texts.append(text)
        return texts

    def _judgements(self) -> list[Row]:
        rng = self._stream("judgements")
        everyday = samples_property.requests(EVERYDAY, rng, "train", TRAIN_BUILDINGS, 96, self.taken)
        urgent = samples_property.requests(URGENT, rng, "train", TRAIN_BUILDINGS, 96, self.taken)
        said: list[Row] = [{"question": one.question, "ideal": one.full} for one in everyday + urgent]
        rng.shuffle(said)
        return said

    def _skill(self, agent: str) -> list[Row]:
        rng = self._stream(f"{agent}/conversations")
        drawn = draw(TASKS[agent], rng, "train", CONVERSATIONS[agent], self.taken)
        return [conversation(agent, one.question, one.answer, one.category, rng) for one in drawn]

    def _property(self) -> list[Row]:
        rng = self._stream("property/conversations")
        rows = []
        for kinds, count in ((URGENT, 640), (EVERYDAY, 480)):
            for one in samples_property.requests(kinds, rng, "train", TRAIN_BUILDINGS, count, self.taken):
                beside = self._beside(one, rng) if rng.random() < BESIDE_SHARE else []
                rows.append(conversation("property", one.question, one.historic, one.kind, rng, beside))
        for number in range(1040):
            rows.append(self._looked_up(samples_property.ATTRIBUTES[number % len(samples_property.ATTRIBUTES)], rng))
        rng.shuffle(rows)
        return rows

    def _beside(self, one: Request, rng: random.Random) -> list[str]:
        """One or two passages that retrieval would bring to a request, and that say nothing about it."""
        attributes = rng.sample(samples_property.ATTRIBUTES, rng.choice((1, 2)))
        return [samples_property.fact(one.place[1], attribute, rng).statement for attribute in attributes]

    def _looked_up(self, attribute: samples_property.Attribute, rng: random.Random) -> Row:
        """A question about a fact: mostly answered from one of two passages, sometimes not answered by them, sometimes without any."""
        one = samples_property.fact(rng.choice(TRAIN_BUILDINGS), attribute, rng)
        question, style = samples_property.asked(one, rng), rng.random()
        if style < 0.1:
            return conversation("property", question, UNKNOWN, "fact-unknown", rng)
        given: list[Fact] = [samples_property.distractor(one, rng, TRAIN_BUILDINGS), one]
        if style < 0.2:
            given = [samples_property.distractor(one, rng, TRAIN_BUILDINGS), given[0]]
            return conversation("property", question, ABSENT, "fact-absent", rng, [other.statement for other in given])
        if rng.random() < RANKED_FIRST:
            given.reverse()
        given = [one] if style < 0.3 else given
        answer = f"{one.statement} [{given.index(one) + 1}]"
        texts = [self._under_heading(other.statement, rng) for other in given]
        return conversation("property", question, answer, "fact", rng, texts)

    def _under_heading(self, statement: str, rng: random.Random) -> str:
        """The statement, now and then as the first passage of a PDF holds it: after the page's heading."""
        return f"{samples_documents.PDF_HEADING} {statement}" if rng.random() < 0.05 else statement

    def _router_rows(self, each: int, outside: int) -> list[Row]:
        rng, rows = self._stream("router"), []
        for agent in ("linux", "python", "property"):
            texts = samples_routing.wordings(agent, "train")
            texts += self._requests_for(agent, "train", each - len(texts), rng)
            rows += [{"kind": "router", "text": text, "agent": agent, "source": "sample:routing"} for text in texts]
        asides = samples_routing.aside("train", rng, outside)
        rows += [{"kind": "router", "text": text, "agent": None, "source": "sample:routing"} for text in asides]
        rng.shuffle(rows)
        return rows

    def _agents(self) -> dict[str, Row]:
        rng = self._stream("agents")
        greedy = {"max_tokens": 64, "temperature": 0.0}
        cards: dict[str, Row] = {}
        for name, display, made in (("linux", "Linux helper", samples_linux), ("python", "Python helper", samples_python)):
            cards[name] = {"name": name, "display_name": display, "description": made.DESCRIPTION, "prompt": made.PROMPT}
            cards[name] |= {"generation": greedy, "examples": self._requests_for(name, "train", 40, rng)}
        cards["property"] = {
            "name": "property",
            "display_name": "Property support",
            "description": samples_property.DESCRIPTION,
            "prompt": samples_property.PROMPT,
            "default": True,
            "corpora": ["property-kb"],
            "top_k": 2,
            "min_score": MIN_SCORE,
            "rules": RULES,
            "generation": {**greedy, "max_tokens": 96},
            "examples": self._requests_for("property", "train", 40, rng),
        }
        return cards

    def write(self, folder: Path) -> None:
        """Every file of the samples. Other files in the folder stay."""
        for name in ("agents", "conversations", "questions"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, card in self.agents.items():
            text = yaml.safe_dump(card, sort_keys=False, width=130)
            (folder / "agents" / f"{name}.yaml").write_text(text, encoding="utf-8")
        for name, rows in self.conversations.items():
            _write_lines(folder / "conversations" / f"{name}.jsonl", rows)
        for name, question_set in self.question_sets.items():
            (folder / "questions" / f"{name}.yaml").write_text(_as_yaml(question_set), encoding="utf-8")
        _write_lines(folder / "router.jsonl", self.router_rows)
        _write_lines(folder / "judgements.jsonl", self.judgements)
        shutil.rmtree(folder / "documents" / "property", ignore_errors=True)
        samples_documents.write(self.facts, folder / "documents" / "property")


def _set(name: str, agent: str, questions: list[Row]) -> Row:
    return {"name": name, "agent": agent, "purpose": "skill", "questions": questions}


def _novelty(one: Request) -> str:
    return "unseen-building" if one.place[1] in KNOWN_BUILDINGS else "known-building"


def _urgency(one: Request) -> str:
    return "urgent" if one.kind in {kind.name for kind in URGENT} else "everyday"


def _as_yaml(question_set: Row) -> str:
    """YAML with a question a line, each in JSON's notation, which YAML reads: short files, and differences that can be read."""
    head = yaml.safe_dump({key: value for key, value in question_set.items() if key != "questions"}, sort_keys=False)
    return head + "questions:\n" + "".join(f"- {json.dumps(question)}\n" for question in question_set["questions"])


def _write_lines(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the samples of the demo.")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder to write to (default: {FOLDER})")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args(argv)
    samples = Samples(arguments.seed)
    samples.write(arguments.out)
    counts = {name: len(rows) for name, rows in samples.conversations.items()}
    print(f"Wrote {arguments.out}: conversations {counts}, {len(samples.router_rows)} router rows, {len(samples.facts)} facts.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
