"""Practice in looking things up: invented worlds, facts about them, passages, questions and cited answers.

The worlds are far from any shipped agent's field on purpose: the starter learns how to look up, not what to answer.
"""

import random
from dataclasses import dataclass
from typing import Final

from data_jobs.starter_values import Maker, Split
from data_jobs.starter_words import ATTRIBUTES, FILLERS, NOUNS, PEOPLE, VERBS
from data_jobs.starter_worlds import HELDOUT_WORLD, TRAIN_WORLDS, WORLDS

ABSENT: Final = "The passages do not say."

GENERIC_STATEMENTS: Final = (
    "The {a} of {e} is {v}.",
    "{e} has the {a} {v}.",
    "For {e}, the {a} is {v}.",
    "{e}: {a} {v}.",
    "The {a} given for {e} is {v}.",
    "{e} has {v} as its {a}.",
)
GENERIC_QUESTIONS: Final = (
    "What is the {a} of {e}?",
    "Which {a} does {e} have?",
    "{e}: {a}?",
    "Tell me the {a} of {e}.",
    "What {a} is given for {e}?",
    "I need the {a} of {e}.",
    "Do you know the {a} of {e}?",
)
RULES: Final = (  # {s} who, {p} does what ("collect badges"), {v} the value
    ("place", "{s} {p} at {v}.", "Where do {s} {p}?"),
    ("hours", "{s} can {p} {v}.", "When can {s} {p}?"),
    ("date", "{s} {p} on {v}.", "On what day do {s} {p}?"),
    ("money", "To {p}, {s} pay {v}.", "How much do {s} pay to {p}?"),
    ("name", "{v} helps {s} who {p}.", "Who helps {s} who {p}?"),
    ("duration", "{s} wait {v} to {p}.", "How long do {s} wait to {p}?"),
    ("phone", "{s} who want to {p} call {v}.", "Which number do {s} call to {p}?"),
    ("thing", "{s} need {v} to {p}.", "What do {s} need to {p}?"),
    ("time", "{s} must {p} before {v}.", "By when must {s} {p}?"),
    ("email", "{s} who {p} write to {v}.", "Where do {s} who {p} write to?"),
    ("duration", "{s} may {p} for {v}.", "For how long may {s} {p}?"),
)
PRONOUN_SHARE: Final = 0.3
PLAIN_SYSTEMS: Final = (
    "Answer from the passages.",
    "Use the passages to answer.",
    "You are {n}. Answer the question.",
    "Give the value asked for.",
    "Answer briefly.",
    "You are the guide of the {o} club.",
    "",
)
SENTENCE_SYSTEMS: Final = (
    "Answer in a full sentence.",
    "Use the passages and answer in a sentence.",
    "You are {n}. Reply with a whole sentence.",
    "Give the sentence that answers.",
)
NUMBER_SYSTEMS: Final = ("Give only the passage number.", "Name the passage that answers.", "Only cite.")
CITE_SUFFIXES: Final = (
    " Cite the passage.",
    " Cite your source.",
    " End with the passage number like [1].",
    " Cite passages as [n].",
    " Always cite.",
)


@dataclass(frozen=True)
class Fact:
    """A stated fact: `key` tells facts about the same entity apart, `statement` names the entity in full."""

    entity: str
    key: str
    value: str
    statement: str
    question: str


def opened(sentence: str) -> str:
    """The sentence with its first letter raised; the rest stays as it is."""
    return sentence[:1].upper() + sentence[1:]


class FactMaker:
    """Draws groups of facts that resemble one another, so that only reading them with care finds the right one."""

    def __init__(self, maker: Maker, new_world: bool = False) -> None:
        self.maker, self.rng, self.new_world = maker, maker.rng, new_world

    def draw(self, entities: int, each: int) -> list[Fact]:
        """Facts about `entities` things, up to `each` of each; the same kinds recur across the things."""
        style = self.rng.random()
        if self.new_world or style < 0.35:
            return self._world_facts(entities, each)
        return self._generic_facts(entities, each) if style < 0.75 else self._rule_facts(entities * each)

    def _entities(self, count: int) -> list[str]:
        found = [self.maker.entity() for _ in range(count)]
        if count > 1 and self.rng.random() < 0.3:  # near twins: the same noun, another adjective or name
            noun = self.rng.choice(NOUNS)
            found = [f"the {self.maker.invented().capitalize()} {noun}" for _ in range(count)]
        return list(dict.fromkeys(found))

    def _world_facts(self, entities: int, each: int) -> list[Fact]:
        world = HELDOUT_WORLD if self.new_world else self.rng.choice(TRAIN_WORLDS)
        templates = self.rng.sample(WORLDS[world], min(each, len(WORLDS[world])))
        facts = []
        for entity in self._entities(entities):
            for template in templates:
                value = self.maker.value(template.kind)
                statement = self.rng.choice(template.statements).format(e=entity, v=value)
                question = self.rng.choice(template.questions).format(e=entity)
                facts.append(Fact(entity, template.questions[0], value, opened(statement), opened(question)))
        return facts

    def _generic_facts(self, entities: int, each: int) -> list[Fact]:
        rng = self.rng
        names = [self.maker.invented() if rng.random() < 0.1 else rng.choice(ATTRIBUTES) for _ in range(each)]
        facts = []
        for entity in self._entities(entities):
            for name in dict.fromkeys(names):
                value = self.maker.value()
                statement = rng.choice(GENERIC_STATEMENTS).format(e=entity, a=name, v=value)
                question = rng.choice(GENERIC_QUESTIONS).format(e=entity, a=name)
                facts.append(Fact(entity, name, value, opened(statement), opened(question)))
        return facts

    def _rule_facts(self, count: int) -> list[Fact]:
        rng, facts = self.rng, {}
        whos = [rng.choice(PEOPLE) for _ in range(2)]
        objects = [f"{rng.choice(VERBS)} {self.maker.phrase()}s" for _ in range(2)]
        objects += [f"{rng.choice(VERBS)} {rng.choice(NOUNS)}s"]
        for _ in range(count):
            kind, statement, question = rng.choice(RULES)
            who, what, value = rng.choice(whos), rng.choice(objects), self.maker.value(kind)
            fact = Fact(
                f"{who} who {what}",
                statement,
                value,
                opened(statement.format(s=who, p=what, v=value)),
                question.format(s=who, p=what),
            )
            facts.setdefault((fact.entity, fact.key), fact)
        return list(facts.values())


def pronoun_form(statement: str, entity: str) -> str:
    """The statement with a leading entity said as 'It'; unchanged where the entity stands elsewhere."""
    head = opened(entity)
    for verb in (" is ", " was ", " has ", " can ", " weighs ", " leaves ", " stops ", " carries ", " runs "):
        if statement.startswith(head + verb):
            return "It" + statement[len(head) :]
    return statement


def passages_of(facts: list[Fact], rng: random.Random, most: int) -> tuple[list[str], list[int]]:
    """Deals facts out over at most `most` passages; returns the passages and, per fact, its passage's number (from 1).

    Facts about one entity stay together half of the time, and the later ones may then say 'It'.
    """
    together = rng.random() < 0.5
    order = sorted(range(len(facts)), key=lambda at: facts[at].entity) if together else rng.sample(range(len(facts)), len(facts))
    count = min(most, len(facts))
    cuts = sorted(rng.sample(range(1, len(facts)), count - 1)) if count > 1 else []
    dealt = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    rng.shuffle(dealt)
    passages, numbers = [], [0] * len(facts)
    for number, members in enumerate(dealt, start=1):
        sentences: list[str] = []
        for place, at in enumerate(members):
            fact = facts[at]
            numbers[at] = number
            after_same = place > 0 and facts[members[place - 1]].entity == fact.entity
            use_pronoun = after_same and rng.random() < PRONOUN_SHARE
            sentences.append(pronoun_form(fact.statement, fact.entity) if use_pronoun else fact.statement)
        if rng.random() < 0.15:
            sentences.insert(rng.randint(0, 1) and len(sentences), rng.choice(FILLERS))
        passages.append(" ".join(sentences))
    return passages, numbers


def with_passages(passages: list[str], question: str) -> str:
    """The user message of the project's prompt contract: numbered passages, a blank line, the question."""
    listed = "\n".join(f"[{number}] {text}" for number, text in enumerate(passages, start=1))
    return f"Passages:\n{listed}\n\nQuestion: {question}"


def lookup_messages(
    rng: random.Random,
    split: Split,
    style: str,
    cite: bool,
    turns: int,
    *,
    entities: int = 0,
    new_world: bool = False,
    absent_share: float = 0.12,
) -> list[dict[str, str]]:
    """One conversation over one set of passages. `style` is value, sentence or number (of the passage)."""
    maker = Maker(rng, split)
    things = entities or rng.choice((1, 1, 2, 2, 3, 3, 4))
    each = rng.choice((2, 3, 4)) if things == 1 else rng.choice((1, 1, 2, 2, 3))
    facts = FactMaker(maker, new_world).draw(things, each)[:8]
    missing = [facts.pop() for _ in range(2) if len(facts) > 2 and rng.random() < 0.5]
    most = rng.choice((2, 3, 3, 4)) if entities != 1 else 1
    if rng.random() < 0.4:  # one fact a passage, as short documents give
        facts = rng.sample(facts, min(len(facts), most))
    passages, numbers = passages_of(facts, rng, most)
    systems = {"value": PLAIN_SYSTEMS, "sentence": SENTENCE_SYSTEMS, "number": NUMBER_SYSTEMS}[style]
    system = rng.choice(systems).format(n=maker.name(), o=rng.choice(NOUNS))
    if cite and style != "number":
        system = (system + rng.choice(CITE_SUFFIXES)).strip()
    messages = [{"role": "system", "content": system}] if system else []
    asked = rng.sample(range(len(facts)), min(turns, len(facts)))
    for turn, at in enumerate(asked):
        fact, ending = facts[at], f" [{numbers[at]}]"
        answer = {"value": fact.value, "sentence": fact.statement, "number": ending.strip()}[style]
        answer += ending if cite and style != "number" else ""
        if missing and rng.random() < absent_share * 2:
            fact, answer = rng.choice(missing), ABSENT
        asked_for = fact.question if rng.random() < 0.85 else fact.question.rstrip("?.").lower()
        follow_up = asked_for if rng.random() < 0.5 else f"Question: {asked_for}"
        messages.append({"role": "user", "content": follow_up if turn else with_passages(passages, asked_for)})
        messages.append({"role": "assistant", "content": answer})
    return messages
