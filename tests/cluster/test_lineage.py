"""What is known of an agent in a real catalog, and what the wheel decides from it; and the lineage of a release, as a graph."""

from datetime import timedelta

import pytest

from cluster.catalog import agents, conversations, corpora, datasets, forgotten, questions, releases, runs, signals
from cluster.domain.agents import Agent
from cluster.domain.base import now
from cluster.domain.conversations import Route, Turn
from cluster.domain.datasets import Dataset, DpoRow, SftRow, rows_digest
from cluster.domain.documents import CorpusVersion
from cluster.domain.questions import Evaluation, Question, QuestionResult
from cluster.domain.recipes import DpoRecipe, RouterRecipe, SftRecipe
from cluster.domain.releases import CHALLENGER
from cluster.domain.runs import Run
from cluster.domain.signals import Signal
from cluster.domain.validation import Validation
from cluster.errors import InvalidInput
from cluster.flywheel import AgentPlan, Plan, Wheel
from cluster.job_submission import Submitter
from cluster.lineage_graph import lineage_graph
from cluster.lineage_picture import draw
from cluster.registry import Registry
from cluster.settings import rooted

SFT = SftRecipe(agent="linux", datasets=("talks",), max_steps=5)
DPO = DpoRecipe(agent="linux", datasets=("linux-signals-dpo",), max_steps=5)


class House:
    """An agent's catalog, and a plan that teaches it."""

    def __init__(self, settings, catalog, artifacts, tmp_path):
        self.settings, self.catalog, self.artifacts, self.tmp_path = settings, catalog, artifacts, tmp_path
        self.registry = Registry(settings, catalog, artifacts)
        self.registry._silent_until = float("inf")  # MLflow has no part in this
        self.wheel = Wheel(settings, catalog, self.registry, Submitter(settings, catalog))
        self.plan = Plan(agents={"linux": AgentPlan(card="-", sft=SFT, dpo=DPO, question_sets=("linux",))})
        self.card(Agent(name="linux", prompt="Write one shell command."))

    def card(self, card):
        with self.catalog.transaction() as work:
            agents.save(work, card)

    def talks(self, count, first=0):
        rows = [SftRow(question=f"q{n}", answer=f"a{n}", source="talks.jsonl") for n in range(first, count)]
        return self.dataset("talks", rows)

    def pairs(self, count, said="x"):
        return self.dataset(
            "linux-signals-dpo", [DpoRow(question=f"{said}{n}", chosen="a", rejected="b", source="turn:t") for n in range(count)]
        )

    def dataset(self, name, rows):
        bundle, kind = self.artifacts.write_rows(rows), rows[0].kind
        sources = {"talks.jsonl": len(rows)} if kind == "sft" else {}
        made = Dataset(
            digest=rows_digest(rows), name=name, kind=kind, agent="linux", rows=len(rows), uri=bundle.uri, sources=sources
        )
        with self.catalog.transaction() as work:
            datasets.add(work, made)
        return made

    def train(self, recipe, inputs, promote=True, **changes):
        from cluster.base_model import base_digest, base_role

        folder = self.tmp_path / f"adapter{len(list(self.tmp_path.glob('adapter*')))}"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_text(folder.name)
        role = base_role(self.settings, None)
        with self.catalog.reading() as work:
            card = agents.get(work, "linux")
        made = self.registry.register(
            card, folder, base_model=role.name, base_digest=base_digest(role), inputs=[one.digest for one in inputs],
            recipe=rooted(recipe).model_dump(mode="json"), **changes,
        )  # fmt: skip
        if promote:
            self.registry.promote(made.ref)
        return made

    def judged(self, ref, verdict="keep", **more):
        result = {"challenger": ref, "champion": "linux@0.1.0", "verdict": verdict, "promoted": False, **more}
        with self.catalog.transaction() as work:
            runs.save(work, Run(job="train_jobs.gate", state="succeeded", result=result))

    @property
    def taught(self):
        return self.wheel.whether_to_teach(self.plan)[0]

    @property
    def improved(self):
        return self.wheel.whether_to_improve(self.plan)[0]


@pytest.fixture
def house(settings, catalog, artifacts, tmp_path):
    return House(settings, catalog, artifacts, tmp_path)


def test_from_the_first_training_to_the_next(house):
    assert house.taught.train
    assert house.taught.why == ("'linux' has no release yet",)
    first = house.train(SFT, [house.talks(200)])
    assert house.taught.does == "nothing"
    assert "no row of 200 is new" in house.taught.why
    house.talks(201)
    assert house.taught.does == "nothing"
    assert "1 new and 0 gone rows (0.5% of 201): fewer than 8 or than 1.0%" in house.taught.why
    more = house.talks(230)
    assert house.taught.why == ("30 new and 0 gone rows (13.0% of 230)",)
    second = house.train(SFT, [more], promote=False)
    assert house.taught.does == "wait"
    assert house.wheel.teach(house.plan) == [second.ref]
    house.judged(second.ref)
    assert house.taught.why == (
        f"{second.ref} has learnt just this and has not been taken: not again until something else is new",
    )
    house.talks(233)
    assert "only 3 rows are new since: waits for more, or for 7 days" in house.taught.why[0]
    house.talks(300)
    assert house.taught.train
    assert first.ref != second.ref


def test_a_verdict_that_nobody_acted_on_is_taken_up_again(house):
    house.train(SFT, [house.talks(200)])
    second = house.train(SFT, [house.talks(300)], promote=False)
    house.judged(second.ref, "promote")
    assert house.taught.does == "wait"
    assert house.wheel.teach(house.plan) == [second.ref]


def test_recipe_prompt_and_settings(house):
    house.train(SFT, [house.talks(200)])
    quicker = SFT.model_copy(update={"workers": 2, "threads": 1, "checkpoint_every": 7})
    house.plan = Plan(agents={"linux": AgentPlan(card="-", sft=quicker, question_sets=("linux",))})
    assert house.taught.does == "nothing", "how the work is spread is no reason"
    longer = SFT.model_copy(update={"max_steps": 50})
    house.plan = Plan(agents={"linux": AgentPlan(card="-", sft=longer, question_sets=("linux",))})
    assert house.taught.why == ("the recipe is new",)
    house.plan = Plan(agents={"linux": AgentPlan(card="-", sft=SFT, question_sets=("linux",))})
    house.card(Agent(name="linux", prompt="Answer with a command."))
    assert (house.taught.bump, house.taught.why) == ("major", ("the prompt or its form is new",))


def test_a_new_index_or_setting_is_released_without_training(house):
    house.card(Agent(name="linux", prompt="p", corpora=("kb",)))
    for version in (1, 2):
        with house.catalog.transaction() as work:
            made = CorpusVersion(
                corpus="kb", version=version, digest=f"d{version}", index_uri="u", documents=3, passages=9, embedder="e"
            )
            corpora.add(work, made)
        if version == 1:
            first = house.train(SFT, [house.talks(200)])
            assert house.taught.does == "nothing"
    assert house.taught.why == ("the index of kb changed: the same adapter is released with it",)
    (renewed,) = house.wheel.teach(house.plan)
    with house.catalog.reading() as work:
        made = releases.get(work, renewed)
        assert releases.alias(work, "linux", CHALLENGER) == made.version
    assert (made.version, made.indexes, made.adapter_digest) == ("0.1.1", {"kb": 2}, first.adapter_digest)
    assert house.taught.does == "wait", "not once more while it waits for the gate"
    assert house.wheel.teach(house.plan) == [renewed]


def test_judgements_wait_until_there_are_enough(house):
    assert house.improved.why == ("'linux' has no champion whose answers could be judged",)
    first = house.train(SFT, [house.talks(200)])
    few = house.pairs(5)
    assert house.improved.does == "nothing"
    assert "5 rows from judgements wait: fewer than 8" in house.improved.why
    more = house.pairs(6, "y")
    assert house.improved.why == ("11 rows from judgements are not learnt yet",)
    second = house.train(DPO, [few, more], promote=False, parent=first.ref)
    assert house.improved.does == "wait"
    assert house.wheel.improve(house.plan) == [second.ref]
    house.judged(second.ref)
    assert house.improved.does == "nothing"
    assert house.wheel.improve(house.plan) == []
    house.pairs(9, "z")
    assert house.improved.train


def test_what_is_to_be_forgotten_is_trained_without(house):
    first = house.train(SFT, [house.talks(200)])
    with house.catalog.transaction() as work:
        forgotten.mark(work, "release", first.ref, "holds user 'ann', which is to be forgotten")
    assert house.taught.why == ("it holds user 'ann', which is to be forgotten",)


def test_answers_that_got_worse_make_few_rows_count(house):
    first = house.train(SFT, [house.talks(200)])
    house.talks(202)
    moment = now()

    def answered(count, failed, when):
        for number in range(count):
            good = number >= failed
            turn = Turn(
                conversation_id="conv_1", user="u", question="q", answer="a", agent="linux", release=first.ref, created_at=when,
                route=Route(agent="linux"), validation=Validation(passed=good),
            )  # fmt: skip
            with house.catalog.transaction() as work:
                conversations.record(work, [turn])
                if not good:
                    signals.record(work, [Signal(turn_id=turn.id, kind="failed_validation", value=["x"], user="u")])

    answered(60, 1, moment - timedelta(days=3))
    answered(40, 1, moment)
    assert house.taught.does == "nothing"
    answered(30, 20, moment)
    assert house.taught.train
    assert "failed validations 1.7% of 60 before, 30.0% of 70 since" in house.taught.why[0]


def test_a_newly_failing_regression_question_makes_few_rows_count(house):
    first = house.train(SFT, [house.talks(200)])
    house.talks(202)
    asked = [Question(id=str(n), text=f"q{n}", expected="a") for n in range(3)]

    def evaluated(passed):
        results = tuple(QuestionResult(question_id=str(n), answer="a", passed=good) for n, good in enumerate(passed))
        with house.catalog.transaction() as work:
            kept = questions.add_regression(work, "linux", asked[: len(passed)])
            questions.record(
                work, Evaluation(release=first.ref, question_set="linux-regression", set_digest=kept.digest, results=results)
            )

    evaluated([True, False])
    assert house.taught.does == "nothing"
    evaluated([True, False, False])
    assert house.taught.why == ("1 regression questions newly fail",)


def test_the_head_follows_cards_and_rows(house, tmp_path):
    file = tmp_path / "router.jsonl"
    file.write_text('{"kind": "router", "text": "free memory", "agent": "linux", "source": "t"}\n')
    recipe = RouterRecipe(rows=str(file))
    house.plan = house.plan.model_copy(update={"router": recipe})

    def whether():
        return house.wheel.whether_to_teach(house.plan)[-1]

    assert whether().train
    rows = house.artifacts.write_rows([])
    head = tmp_path / "head"
    head.mkdir()
    (head / "head.json").write_text("{}")
    from cluster.artifacts import read_rows_file

    digest = rows_digest(read_rows_file(file))
    with house.catalog.transaction() as work:
        datasets.add(work, Dataset(digest=digest, name="router-rows", kind="router", rows=1, uri=rows.uri))
    made = house.registry.register(
        Agent(name="router"), head, base_model="e", base_digest="e", inputs=[digest], recipe=recipe.model_dump(mode="json")
    )
    house.registry.promote(made.ref)
    assert whether().does == "nothing"
    house.card(Agent(name="linux", prompt="Write one shell command."))
    assert whether().does == "nothing", "saved again as it was"
    house.card(Agent(name="linux", prompt="Write one shell command.", examples=("free memory",)))
    assert whether().why == ("new to the head: linux",)
    file.write_text(file.read_text() * 2)
    assert any("new and 0 gone rows" in why for why in whether().why)


def test_the_outlook_says_what_the_turn_would_do_and_why(house):
    house.train(SFT, [house.talks(200)])
    house.talks(300)
    steps = {one.step: one for one in house.wheel.outlook(house.plan)}
    assert steps["teach"].runs
    assert steps["teach"].because == "; ".join(house.taught.why)
    assert not steps["improve"].runs
    assert "no judgements wait" in steps["improve"].because


def test_the_graph_goes_from_signals_and_documents_to_the_alias(house, tmp_path):
    talks, pairs = house.talks(200), house.pairs(8)
    turn = Turn(
        conversation_id="conv_1", user="u", question="q", answer="a", agent="linux", release=None, route=Route(agent="linux"),
        validation=Validation(passed=True),
    )  # fmt: skip
    said = [
        Signal(turn_id=turn.id, kind=kind, value=value, user="u") for kind, value in (("thumb", "down"), ("ideal_answer", "x"))
    ]
    with house.catalog.transaction() as work:
        conversations.record(work, [turn])
        signals.record(work, said)
        for one in said:
            signals.link(work, one.id, "dataset", pairs.ref)
    first = house.train(SFT, [talks])
    second = house.train(DPO, [pairs], parent=first.ref, promote=False)
    results = (QuestionResult(question_id="1", answer="a", passed=True),)
    with house.catalog.transaction() as work:
        questions.record(work, Evaluation(release=second.ref, question_set="linux", set_digest="d", results=results))
    house.judged(second.ref, "promote", promoted=True, comparisons=[{"question_set": "linux"}], reasons=["It is better."])
    house.registry.promote(second.ref, "passed the gate")
    with house.catalog.reading() as work:
        graph = lineage_graph(work, second)
    tree = "\n".join(graph.tree())
    lines = [line.strip("├└│─ ") for line in graph.tree()]
    assert lines[0].startswith(f"{second.ref}: new data")
    for words in (
        "→ evaluation linux: 100.0% of 1",
        "→ gate promote against linux@0.1.0: It is better.",
        "→ alias champion: since ",
        f"← {first.ref}: first release",
        f"← dataset {talks.ref}: 200 sft rows",
        "← documents 1: talks.jsonl (200 rows)",
        f"← dataset {pairs.ref}: 8 dpo rows",
        "← signals 2: 1 ideal answer, 1 thumb",
        "← base starter",
        "← recipe dpo: max_steps 5",
    ):
        assert any(line.startswith(words) for line in lines), tree
    assert {start for start, _ in graph.edges} | {end for _, end in graph.edges} == {node.id for node in graph.nodes}
    for name, head in (("lineage.png", b"\x89PNG"), ("lineage.svg", b"<?xml")):
        draw(graph, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(head)
    with pytest.raises(InvalidInput, match=r"end its name in \.svg or \.png"):
        draw(graph, tmp_path / "lineage.jpg")
