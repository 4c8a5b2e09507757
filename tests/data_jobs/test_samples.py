"""The samples of the demo: what is committed is what the generator writes, and no question leaks into what is trained on."""

import ast
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.domain.agents import Agent
from cluster.domain.datasets import RouterRow
from cluster.domain.documents import Document, Kept, Passage
from cluster.domain.questions import QuestionSet, passes
from cluster.domain.validation import check
from data_jobs.chunk import chunk
from data_jobs.duplicates import Fingerprint, find_duplicates, signature
from data_jobs.extract import FORMATS
from data_jobs.extract.part import Unreadable
from data_jobs.samples import FOLDER, Samples
from data_jobs.samples_documents import PDF_HEADING
from data_jobs.samples_property import ABSENT, KNOWN_BUILDINGS, TRAIN_BUILDINGS, UNKNOWN
from data_jobs.wash import wash

AGENTS = ("linux", "property", "python")
BINARY = {".docx", ".pdf"}
KB = FOLDER / "documents" / "property"
CHUNK = 100


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Samples()


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def conversations(agent: str, good: bool = True) -> list[dict[str, Any]]:
    return [row for row in lines(f"conversations/{agent}.jsonl") if (row["quality"] >= 0.5) == good]


def question_set(name: str) -> QuestionSet:
    return QuestionSet.model_validate(yaml.load((FOLDER / "questions" / f"{name}.yaml").read_text(), yaml.CSafeLoader))


def card(agent: str) -> Agent:
    return Agent.model_validate(yaml.load((FOLDER / "agents" / f"{agent}.yaml").read_text(), yaml.CSafeLoader))


def said(row: dict[str, Any], role: str) -> str:
    return next(message["content"] for message in row["messages"] if message["role"] == role)


def taught_texts(agent: str) -> list[str]:
    """Everything about an agent that anything is trained on."""
    texts = [said(row, role) for row in lines(f"conversations/{agent}.jsonl") for role in ("user", "assistant")]
    texts += [row["text"] for row in lines("router.jsonl") if row["agent"] == agent] + list(card(agent).examples)
    if agent == "property":
        texts += [text for row in lines("judgements.jsonl") for text in (row["question"], row["ideal"])]
        texts += [passage for row in lines("conversations/property.jsonl") for passage in row.get("passages", ())]
    return texts


def tokens(text: str) -> set[str]:
    return {token.strip("./-:,") for token in re.findall(r"[\w./:,-]+", text)}


def extracted(path: Path) -> str:
    return "\n".join(f"{part.title}\n{part.text}" for part in FORMATS[path.suffix][1](path.read_bytes()))


def test_committed_files_are_what_the_generator_writes(samples: Samples, tmp_path: Path) -> None:
    samples.write(tmp_path)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(FOLDER) for path in FOLDER.rglob("*") if path.is_file()}
    assert made <= kept
    assert {path for path in kept - made if path.parts[0] in ("conversations", "questions", "documents")} == set()
    for path in sorted(made):
        if path.suffix in BINARY and "torn" not in path.name:
            assert extracted(tmp_path / path) == extracted(FOLDER / path), path
        elif path.suffix not in BINARY:
            assert (tmp_path / path).read_bytes() == (FOLDER / path).read_bytes(), path
    assert sum((FOLDER / path).stat().st_size for path in made) < 3_000_000


def test_all_text_is_ascii() -> None:
    for path in FOLDER.rglob("*"):
        if path.is_file() and path.suffix not in BINARY:
            assert path.read_bytes().isascii(), path


@pytest.mark.parametrize("agent", ["linux", "python"])
def test_every_skill_question_names_something_never_trained_on(agent: str) -> None:
    known = set().union(*(tokens(text) for text in taught_texts(agent)))
    for question in question_set(agent).questions:
        assert tokens(question.text) - known, question.text


def test_property_questions_share_no_place_with_training() -> None:
    names = "|".join(KNOWN_BUILDINGS + TRAIN_BUILDINGS)
    place = re.compile(rf"({names}).*?flat (\d+[A-F])|flat (\d+[A-F])\b.*?({names})")

    def places(texts: list[str]) -> set[tuple[str, str]]:
        found = (place.search(text) for text in texts)
        return {(one[1] or one[4], one[2] or one[3]) for one in found if one}

    taught = places(taught_texts("property"))
    for name in ("property-requests", "property-rules"):
        texts = [question.text for question in question_set(name).questions]
        assert len(places(texts)) > 100
        assert not places(texts) & taught
        assert all(places([text]) for text in texts)


def test_no_building_of_the_knowledge_base_is_trained_on() -> None:
    assert not set(KNOWN_BUILDINGS) & set(TRAIN_BUILDINGS)
    for text in taught_texts("property"):
        assert not any(building in text for building in KNOWN_BUILDINGS), text


def test_no_text_is_both_taught_and_asked() -> None:
    taught = {said(row, "user") for agent in AGENTS for row in lines(f"conversations/{agent}.jsonl")}
    taught |= {row["text"] for row in lines("router.jsonl")} | {row["question"] for row in lines("judgements.jsonl")}
    taught |= {example for agent in AGENTS for example in card(agent).examples}
    for path in (FOLDER / "questions").glob("*.yaml"):
        asked = [question.text for question in question_set(path.stem).questions]
        assert len(set(asked)) == len(asked), path.stem
        assert not taught & set(asked), path.stem


def test_question_sets_are_large_enough_and_balanced() -> None:
    counts = {path.stem: len(question_set(path.stem).questions) for path in (FOLDER / "questions").glob("*.yaml")}
    skills = dict.fromkeys(("linux", "python", "property-requests", "property-facts", "property-rules"), 120)
    assert counts == {**skills, "routing": 252}
    rules = [question.slices[0] for question in question_set("property-rules").questions]
    assert rules.count("urgent") == rules.count("everyday") == 60
    routes = [question.expected for question in question_set("routing").questions]
    assert {name: routes.count(name) for name in (*AGENTS, None)} == {**dict.fromkeys(AGENTS, 60), None: 72}
    ids = [question.id for path in counts for question in question_set(path).questions]
    assert len(set(ids)) == len(ids)


def test_requests_are_short_and_have_one_answer() -> None:
    for agent in AGENTS:
        answers: dict[str, str] = {}
        for row in conversations(agent):
            assert len(said(row, "user").split()) <= 20
            if not row.get("passages") and not row["category"].startswith("fact"):
                assert answers.setdefault(said(row, "user"), said(row, "assistant")) == said(row, "assistant")


def test_python_answers_are_one_line_of_python() -> None:
    for row in conversations("python"):
        ast.parse(said(row, "assistant"))
    for question in question_set("python").questions:
        ast.parse(question.expected or "")
        assert "\n" not in (question.expected or "")


def test_linux_answers_are_shell() -> None:
    script = "\n".join(question.expected or "" for question in question_set("linux").questions)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_history_keeps_the_rules_except_for_everyday_timelines(samples: Samples) -> None:
    rules = card("property").rules
    urgent = {kind for question in question_set("property-requests").questions for kind in question.slices}
    for row in conversations("property"):
        verdict = check(rules, said(row, "assistant"), len(row.get("passages", ())))
        wanted = () if row["category"] in urgent or row["category"].startswith("fact") else ("timeline",)
        assert verdict.failures == wanted, row
    for row in lines("judgements.jsonl"):
        assert check(rules, row["ideal"]).passed
    for question in question_set("property-requests").questions:
        assert check(rules, question.expected or "").passed
    assert not check(rules, "Not sure.").passed


def test_fact_rows_cite_the_passage_that_answers() -> None:
    styles = {"fact": 0, "fact-absent": 0, "fact-unknown": 0}
    for row in conversations("property"):
        answer, given = said(row, "assistant"), row.get("passages", [])
        if row["category"] == "fact":
            text, number = re.fullmatch(r"(.*) \[(\d)\]", answer).groups()  # type: ignore[union-attr]
            assert given[int(number) - 1].removeprefix(f"{PDF_HEADING} ") == text
        elif row["category"] in styles:
            assert answer == (ABSENT if given else UNKNOWN)
        if row["category"] in styles:
            styles[row["category"]] += 1
        assert all(len(passage) <= 160 for passage in given)
    assert styles["fact"] > 3 * (styles["fact-absent"] + styles["fact-unknown"])
    assert min(styles.values()) > 50


def test_sloppy_history_is_marked_by_its_quality() -> None:
    for agent in AGENTS:
        bad, good = conversations(agent, good=False), conversations(agent)
        assert 0.02 < len(bad) / (len(bad) + len(good)) < 0.08
        assert not {said(row, "assistant") for row in bad} & {said(row, "assistant") for row in good}


def documents() -> tuple[list[Document], dict[str, str]]:
    """The knowledge base's documents, and the reason for each file or document that ingest sets aside."""
    found: dict[str, Document] = {}
    set_aside: dict[str, str] = {}
    for path in sorted(KB.rglob("*")):
        if path.is_dir():
            continue
        media_type, extract = FORMATS[path.suffix]
        name = str(path.relative_to(KB))
        if not path.stat().st_size:
            set_aside[name] = "empty"
            continue
        try:
            parts = extract(path.read_bytes())
        except Unreadable as error:
            set_aside[name] = error.reason
            continue
        for part in parts:
            source = f"{name}#{part.name}" if part.name else name
            raw = Document(
                id="d", corpus="property-kb", source=source, media_type=media_type, title=part.title, text=part.text, digest=""
            )
            kept = wash(raw, 20)
            assert isinstance(kept, Kept)
            found[source] = kept.document
    prints = [Fingerprint(source, one.digest, signature(one.text)) for source, one in found.items()]
    for dropped in find_duplicates(prints, 0.85):
        set_aside[dropped.source] = dropped.reason
    return [one for source, one in found.items() if source not in set_aside], set_aside


def test_knowledge_base_has_each_fact_once_in_a_passage_of_its_own(samples: Samples) -> None:
    kept, set_aside = documents()
    assert sorted(set_aside.values()) == ["corrupt", "empty", "exact_duplicate", "near_duplicate"]
    assert all(name.startswith("old/") for name in set_aside)
    passages: list[Passage] = [passage for document in kept for passage in chunk(document, CHUNK, 0)]
    texts = [passage.text.removeprefix(f"{PDF_HEADING}\n") for passage in passages]
    assert len(samples.facts) >= 130
    assert sorted(texts) == sorted(fact.statement for fact in samples.facts)


def test_facts_are_told_apart_by_value(samples: Samples) -> None:
    for attribute in {fact.attribute for fact in samples.facts}:
        values = [fact.value for fact in samples.facts if fact.attribute == attribute]
        assert len(set(values)) >= len(values) - 1
    by_text = {fact.statement: fact for fact in samples.facts}
    for question in question_set("property-facts").questions:
        answering = [text for text in by_text if passes(question, text)[0] and by_text[text].building in question.text]
        assert len(answering) == 1


def test_cards_and_router_rows_are_of_the_domain() -> None:
    cards = {agent: card(agent) for agent in AGENTS}
    assert [name for name, one in cards.items() if one.default] == ["property"]
    assert cards["property"].corpora == ("property-kb",)
    assert all(len(one.examples) == 40 and one.generation.temperature == 0 for one in cards.values())
    rows = [RouterRow.model_validate(row) for row in lines("router.jsonl")]
    assert {agent: sum(row.agent == agent for row in rows) for agent in (*AGENTS, None)} == {
        **dict.fromkeys(AGENTS, 110),
        None: 170,
    }
    assert len({row.text for row in rows}) == len(rows)
