"""Challengers that were trained to be worse, equal and better: real adapters on the starter model, their own greedy answers, the gate.

The champion can restart, remove and greet, and knows four corrections; it cannot create. Every challenger continues it for a few
seconds. What is left out of the rehearsed path is the endpoint: the answers come from the adapter itself and are recorded as an
evaluation, which the gate takes for one that is known.
"""

import random
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import pytest

from cluster.catalog import agents, datasets, questions, releases
from cluster.domain.agents import Agent
from cluster.domain.base import Frozen
from cluster.domain.datasets import Dataset, Row, SftRow, rows_digest
from cluster.domain.prompts import prompt_ids, render
from cluster.domain.questions import Evaluation, Question, QuestionResult, QuestionSet, passes
from cluster.domain.recipes import GateRecipe, LoraRecipe
from cluster.domain.releases import CHAMPION, Release
from cluster.domain.verdicts import Verdict
from cluster.job_run import JobRun
from cluster.settings import ROOT
from train_jobs import examples, gate, lora

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
Opener = Callable[[str, Frozen], JobRun]

AGENT, PROMPT = "shell", "Write one shell command."
STARTER = str(ROOT / "models" / "starter")
WORDS = "kettle otter piano helmet barrel lamp anchor quilt glove mill badger candle ring bridge scarf toy".split()
SKILLS = {
    "restart": ("Restart the service {}.", "systemctl restart {}"),
    "remove": ("Remove the package {}.", "apt remove {}"),
    "create": ("Create the folder {}.", "mkdir {}"),
    "greet": ("Greet {} politely.", "Good morning, dear {}."),
}
CORRECTIONS = {
    "Who is logged in?": "who",
    "What day is it?": "date",
    "Which kernel runs here?": "uname -r",
    "How is this machine called?": "hostname",
}
EACH = 20  # questions of a skill


def rows_of(*skills: str, answer: str | None = None, unseen: bool = False) -> list[SftRow]:
    """150 training rows of each skill (``answer``: another one than people want), or 20 that are never trained on."""
    made: list[SftRow] = []
    for skill in skills:
        pick = random.Random(f"{skill} {unseen}")
        asked, said = SKILLS[skill]
        for number in range(EACH if unseen else 150):
            # unseen names have two digits, so that no training row is one of the questions
            name = f"{pick.choice(WORDS)}-{pick.choice(WORDS)}{pick.randint(10, 99) if unseen else pick.randint(1, 9)}"
            source = f"{skill} {number}"
            made.append(SftRow(question=asked.format(name), answer=(answer or said).format(name), source=source))
    return made


def corrections(**changed: str) -> list[SftRow]:
    """What people corrected, often enough to be learnt; ``changed`` names a command that is answered otherwise."""
    pairs = [(asked, changed.get(said, said)) for asked, said in CORRECTIONS.items()]
    return [SftRow(question=asked, answer=said, source="signal") for asked, said in pairs] * 24


class School:
    """Trains adapters, asks them everything, and registers them as releases of one agent."""

    def __init__(self, job: JobRun, folder: Path) -> None:
        import torch
        from transformers import AutoTokenizer

        self.job, self._folder, self._count = job, folder, 0
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)  # tiny matrices: more threads only wait for one another
        self._tokenizer = AutoTokenizer.from_pretrained(STARTER)
        self.champion: Release | None = None
        self.sets = (
            _question_set(f"{AGENT}-commands", "skill", rows_of("restart", "remove", "create", unseen=True)),
            _question_set(f"{AGENT}-manners", "forgetting", rows_of("greet", unseen=True)),
            _question_set(f"{AGENT}-regression", "regression", corrections()[: len(CORRECTIONS)]),
        )
        with job.catalog.transaction() as work:
            agents.save(work, Agent(name=AGENT, prompt=PROMPT))
            for one in self.sets:
                questions.save_set(work, one)
        self.champion = self.teach(rows_of("restart", "remove", "greet") + corrections(), 120)
        job.registry.promote(self.champion.ref)

    def close(self) -> None:
        import torch

        torch.set_num_threads(self._threads)

    def teach(self, rows: Sequence[SftRow], steps: int, seed: int = 0, rate: float = 5e-3) -> Release:
        """Continue the champion on rows, 8 at a step; the release is registered and its answers are recorded."""
        self._count += 1
        place = self._folder / f"adapter-{self._count}"
        model = self._train(rows, steps, seed, rate)
        model.save_pretrained(str(place))
        made: list[Row] = list(rows)
        dataset = Dataset(
            digest=rows_digest(made),
            name=f"{AGENT}-rows",
            kind="sft",
            rows=len(made),
            uri=self.job.artifacts.write_rows(made).uri,
        )
        with self.job.catalog.transaction() as work:
            datasets.add(work, dataset)
        release = self.job.registry.register(
            Agent(name=AGENT, prompt=PROMPT),
            place,
            base_model="starter",
            base_digest="starter",
            inputs=[dataset.digest],
            recipe={"max_steps": steps, "seed": seed},
            parent=self.champion.ref if self.champion else None,
            bump="minor",
        )
        for one in self.sets:
            self._record(release, one, self._answers(model, one))
        return release

    def judge(self, challenger: Release, **changes: Any) -> Verdict:
        return Verdict.model_validate(gate.run(self.job, GateRecipe(challenger=challenger.ref, **changes)))

    def _train(self, rows: Sequence[SftRow], steps: int, seed: int, rate: float) -> Any:
        import torch
        from peft import PeftModel, get_peft_model
        from transformers import AutoModelForCausalLM

        torch.manual_seed(seed)
        base: Any = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
        model: Any
        if self.champion is None:
            model = get_peft_model(base, lora.peft_config(LoraRecipe(rank=16, alpha=32), STARTER))
        else:
            model = PeftModel.from_pretrained(base, self.champion.adapter_uri, is_trainable=True)
        found = examples.tokenise(rows, self._tokenizer, PROMPT, 128)
        order = examples.step_order(found.lengths, 8, steps, seed)
        weights = [one for one in model.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
        model.train()
        for step in range(steps):
            batch = [found.rows[index] for index in order[step * 8 : step * 8 + 8]]
            longest = max(one["length"] for one in batch)
            ids = torch.tensor([one["input_ids"] + [self._tokenizer.pad_token_id] * (longest - one["length"]) for one in batch])
            labels = torch.tensor([one["labels"] + [examples.IGNORED] * (longest - one["length"]) for one in batch])
            seen = torch.tensor([[1] * one["length"] + [0] * (longest - one["length"]) for one in batch])
            model(input_ids=ids, attention_mask=seen, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return model

    def _answers(self, model: Any, asked: QuestionSet) -> list[str]:
        import torch

        model.eval()
        ids = [prompt_ids(self._tokenizer, render(PROMPT, question.text)) for question in asked.questions]
        longest, pad = max(map(len, ids)), self._tokenizer.pad_token_id
        given = torch.tensor([[pad] * (longest - len(one)) + one for one in ids])
        seen = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in ids])
        with torch.no_grad():
            made = model.generate(input_ids=given, attention_mask=seen, do_sample=False, max_new_tokens=24, pad_token_id=pad)
        return [self._tokenizer.decode(one[longest:], skip_special_tokens=True).strip() for one in made]

    def _record(self, release: Release, asked: QuestionSet, answers: Sequence[str]) -> None:
        results = [
            QuestionResult(question_id=question.id, answer=answer, passed=passes(question, answer)[0], slices=question.slices)
            for question, answer in zip(asked.questions, answers, strict=True)
        ]
        made = Evaluation(
            release=release.ref,
            question_set=asked.name,
            set_digest=asked.digest,
            options={"retrieve": True},
            results=tuple(results),
        )
        with self.job.catalog.transaction() as work:
            questions.record(work, made)


def _question_set(name: str, purpose: Any, rows: Sequence[SftRow]) -> QuestionSet:
    made = [
        Question(id=f"{purpose}-{number}", text=row.question, expected=row.answer, slices=(row.source.split()[0],))
        for number, row in enumerate(rows)
    ]
    return QuestionSet(name=name, agent=AGENT, purpose=purpose, questions=tuple(made))


@pytest.fixture(scope="module")
def school(package_job: Opener, tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    job = package_job("train_jobs.gate", GateRecipe(challenger=AGENT))
    made = School(job, tmp_path_factory.mktemp("school"))
    yield made
    made.close()


def refused(school: School, verdict: Verdict, name: str = "") -> str:
    """What a refusal says of one question set (without a name: all of it); the champion is the one it was."""
    assert (verdict.verdict, verdict.promoted) == ("keep", False)
    assert school.champion is not None
    with school.job.catalog.reading() as work:
        assert releases.get(work, f"{AGENT}@{CHAMPION}").ref == school.champion.ref
    return " ".join(reason for reason in verdict.reasons if reason.startswith(f"On {name}"))


def test_the_champion_can_what_it_was_taught(school: School) -> None:
    assert school.champion is not None
    with school.job.catalog.reading() as work:
        found = {one.question_set: one for one in questions.of_release(work, school.champion.ref)}
    slices = found[f"{AGENT}-commands"].slice_rates()
    assert slices["restart"] >= 0.9
    assert slices["remove"] >= 0.9
    assert slices["create"] <= 0.1
    assert found[f"{AGENT}-manners"].rate >= 0.9
    assert found[f"{AGENT}-regression"].rate == 1.0


def test_one_skill_made_worse_is_refused_although_another_was_gained(school: School) -> None:
    rows = rows_of("restart", "create", "greet") + rows_of("remove", answer="apt purge {}") + corrections()
    verdict = school.judge(school.teach(rows, 60))
    commands = verdict.comparisons[0]
    assert commands.worse_slices == ("remove",)
    reason = refused(school, verdict, f"{AGENT}-commands")
    assert "the challenger passes" in reason
    assert "surely in remove (0 of 20 passed" in reason


def test_a_forgotten_skill_is_refused(school: School) -> None:
    verdict = school.judge(school.teach(rows_of("restart", "remove", "create") + corrections(), 100, rate=1e-2))
    assert "it is worse, surely in greet" in refused(school, verdict, f"{AGENT}-manners")
    assert verdict.comparisons[0].difference > 0.2, "it is better at what it was trained for"


def test_a_regression_question_broken_again_is_refused_by_name(school: School) -> None:
    rows = rows_of("restart", "remove", "create", "greet") + corrections(date="cal")
    verdict = school.judge(school.teach(rows, 60))
    reason = refused(school, verdict, f"{AGENT}-regression")
    assert "(n = 4, where no question may break) the challenger fails what the champion passes: " in reason
    assert "regression-1" in reason
    assert verdict.comparisons[0].difference > 0.2, "whatever else it has learnt"


def test_leaked_questions_are_refused_with_the_rows_that_hold_them(school: School) -> None:
    leak = rows_of("create", unseen=True)
    verdict = school.judge(school.teach(rows_of("restart", "remove", "greet") + leak * 4 + corrections(), 60))
    reason = refused(school, verdict, f"{AGENT}-commands")
    assert reason.startswith(
        f"On {AGENT}-commands 20 of 60 questions stand in the challenger's training rows (slices: create 20): skill-40 ↔ {AGENT}-rows@"
    )
    assert "more than 5.0% of them: the set cannot judge it." in reason
    assert verdict.comparisons[0].n == 40


def test_an_equal_one_is_not_promoted(school: School) -> None:
    verdict = school.judge(school.teach(rows_of("restart", "remove", "greet") + corrections(), 30, seed=1, rate=1e-3))
    assert refused(school, verdict)
    assert all(abs(one.difference) <= 0.1 and not one.worse_slices for one in verdict.comparisons), (
        "equal, but for a few questions"
    )


def test_a_better_one_is_promoted(school: School) -> None:
    challenger = school.teach(rows_of("restart", "remove", "create", "greet") + corrections(), 70, rate=3e-3)
    verdict = school.judge(challenger)
    assert (verdict.verdict, verdict.promoted) == ("promote", True), verdict.reasons
    assert verdict.comparisons[0].difference > 0.2
    with school.job.catalog.reading() as work:
        assert releases.get(work, f"{AGENT}@{CHAMPION}").ref == challenger.ref
    school.champion = school.job.registry.rollback(AGENT)
