"""One turn of the wheel, on one page.

    gather   documents → corpora, conversations → datasets            data_jobs
    teach    datasets → challengers, examples → a router head          train_jobs
    admit    challengers against champions → promoted, or kept         train_jobs.gate
    listen   signals → rows and regression questions                   data_jobs.signals
    improve  pairs of better and worse answers → challengers → gate    train_jobs.dpo

Every step is a job, launched by name and followed; the steps meet in the catalog, so a turn that was cut short is taken up by the next
one. Whether an agent is trained is one decision with its reasons (``cluster.domain.triggers``), the same in a turn and in its outlook.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Sequence

from pydantic import Field

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, agents, questions
from cluster.domain.agents import ROUTER, Agent
from cluster.domain.base import Frozen, Name, now
from cluster.domain.data_recipes import ConversationsRecipe, IngestRecipe, SignalsRecipe
from cluster.domain.parsing import parse
from cluster.domain.questions import QuestionSet
from cluster.domain.recipes import DpoRecipe, GateRecipe, RouterRecipe, SftRecipe
from cluster.domain.runs import Run
from cluster.domain.triggers import Decision, Ground, Known, TriggerRecipe, decide
from cluster.errors import InvalidInput, NotFound
from cluster.job_submission import Submitter, Watcher
from cluster.lineage import Lineage
from cluster.registry import Registry
from cluster.settings import ROOT, Settings, read_yaml, rooted

Job = tuple[str, Frozen]
Watch = Callable[[], Watcher]


class AgentPlan(Frozen):
    """How one agent learns: its card, its history, its recipes, and what its releases are judged on."""

    card: str
    conversations: ConversationsRecipe | None = None
    sft: SftRecipe
    dpo: DpoRecipe | None = None
    question_sets: tuple[Name, ...] = Field(min_length=1)


class Plan(Frozen):
    """One turn of the wheel. Relative paths are taken from the project."""

    corpora: tuple[IngestRecipe, ...] = ()
    questions: tuple[str, ...] = ()
    agents: dict[Name, AgentPlan] = Field(min_length=1)
    router: RouterRecipe | None = None
    triggers: TriggerRecipe = TriggerRecipe()
    tolerance: float = 0.02
    at_once: int = Field(default=2, ge=1, description="jobs that run at the same time")


class Step(Frozen):
    """What a turn would do with one job of its plan, as things are now."""

    step: str
    job: str
    title: str
    runs: bool
    because: str
    recipe: dict[str, Any]


class Wheel:
    """The steps, each usable alone. ``watch`` gives a watcher for a run: a progress bar, or nothing."""

    def __init__(
        self, settings: Settings, catalog: Catalog, registry: Registry, submitter: Submitter, watch: Watch | None = None
    ) -> None:
        self._settings, self._catalog, self._registry, self._submitter = settings, catalog, registry, submitter
        self._learnt = Lineage(settings, catalog, Artifacts(settings.artifacts_url, settings.home / "cache"))
        self._watch: Watch = watch or (lambda: lambda run: None)

    def turn(self, plan: Plan) -> dict[str, Any]:
        """The whole turn. Returns what each step did."""
        done: dict[str, Any] = {"gathered": self.gather(plan)}
        decided = self.whether_to_teach(plan)
        done["taught"] = self.teach(plan, decided)
        done["admitted"] = self.admit(plan, done["taught"])
        done["heard"] = self.listen()
        better = self.whether_to_improve(plan)
        done["improved"] = self.improve(plan, better)
        done["decided"] = [
            {"step": step, **_told(one)} for step, all_ in (("teach", decided), ("improve", better)) for one in all_
        ]
        done["admitted_after"] = self.admit(plan, done["improved"])
        return done

    def outlook(self, plan: Plan) -> list[Step]:
        """What ``turn`` would launch as things are now, and why; it launches nothing. What comes out of the first steps may change the
        later ones: new rows are only seen when the files are read."""
        steps: list[Step] = []

        def add(step: str, job: str, recipe: Frozen, runs: bool, because: str) -> None:
            values = recipe.model_dump(mode="json")
            title = Run(job=job, recipe=values).title
            steps.append(Step(step=step, job=job, title=title, runs=runs, because=because, recipe=values))

        for job, recipe in self._gathering(plan):
            add("gather", job, recipe, True, "reads the files, keeps what is new")
        recipes: dict[str, tuple[str, Frozen]] = {name: ("train_jobs.sft", one.sft) for name, one in plan.agents.items()}
        if plan.router:
            recipes[ROUTER] = ("train_jobs.router_head", plan.router)
        for made in self.whether_to_teach(plan):
            add("teach", *recipes[made.agent], made.train, _because(made))
        add("listen", "data_jobs.signals", SignalsRecipe(), True, "looks for signals that wait")
        for made in self.whether_to_improve(plan):
            dpo = plan.agents[made.agent].dpo
            if dpo is not None:
                add("improve", "train_jobs.dpo", dpo, made.train, f"{_because(made)} (before listening)")
        return steps

    def gather(self, plan: Plan) -> list[dict[str, Any]]:
        """Cards and question sets into the catalog; documents into corpora, conversations into datasets."""
        with self._catalog.transaction() as work:
            for one in plan.agents.values():
                agents.save(work, load_card(one.card))
            for file in plan.questions:
                questions.save_set(work, load_questions(file))
        return self._launch(self._gathering(plan), plan.at_once)

    def whether_to_teach(self, plan: Plan) -> list[Decision]:
        """For each agent, and for the router head: whether to train it now, and why."""
        made = []
        for name, one in plan.agents.items():
            try:
                known = self._learnt.teaching(one.sft, plan.triggers.window_days)
            except NotFound:  # its dataset comes out of this turn
                known = Known(agent=name, moment=now())
            made.append(decide(known, plan.triggers))
        if plan.router:
            # A head is made in seconds: one new row is enough.
            quick = plan.triggers.model_copy(update={"min_new_rows": 1, "min_new_share": 0.0, "min_hours": 0.0})
            made.append(decide(self._learnt.routing(plan.router), quick))
        return made

    def teach(self, plan: Plan, decided: Sequence[Decision] | None = None) -> list[str]:
        """SFT and the router head for those who need it; the same adapter again for those of whom only card or index changed. Returns the
        releases that wait for the gate: the new ones, and those of a turn that was cut short."""
        does = {one.agent: one.does for one in (self.whether_to_teach(plan) if decided is None else decided)}
        jobs: list[Job] = [("train_jobs.sft", one.sft) for name, one in plan.agents.items() if does[name] == "train"]
        if plan.router and does[ROUTER] == "train":
            jobs.append(("train_jobs.router_head", plan.router))
        done = self._launch(jobs, plan.at_once)
        new = [str(result["release"]) for (job, _), result in zip(jobs, done, strict=True) if job != "train_jobs.router_head"]
        for (job, _), result in zip(jobs, done, strict=True):
            if job == "train_jobs.router_head" and result["verdict"] == "promote":  # judged against the champion by its own job
                self._registry.promote(str(result["release"]), " ".join(result["reasons"]))
        renewed = [self._registry.renew(name).ref for name in plan.agents if does[name] == "renew"]
        left = [one for name in plan.agents if (one := self._learnt.unjudged(name)) is not None]
        return list(dict.fromkeys([*new, *renewed, *left]))

    def admit(self, plan: Plan, made: Sequence[str], promote: bool = True) -> list[dict[str, Any]]:
        """Each challenger through the gate, on its agent's sets; the gate adds the regression, forgetting and guard sets."""
        jobs: list[Job] = []
        for ref in made:
            sets = plan.agents[ref.partition("@")[0]].question_sets
            recipe = GateRecipe(challenger=ref, question_sets=sets, tolerance=plan.tolerance, promote=promote)
            jobs.append(("train_jobs.gate", recipe))
        return self._launch(jobs, plan.at_once)

    def listen(self) -> dict[str, Any]:
        """Signals that wait become rows and regression questions."""
        return self._launch([("data_jobs.signals", SignalsRecipe())], 1)[0]

    def whether_to_improve(self, plan: Plan) -> list[Decision]:
        """For each agent that learns from judgements: whether to train it on them now, and why."""
        recipes = [one.dpo for one in plan.agents.values() if one.dpo is not None]
        known = [self._learnt.improving(one, plan.triggers.window_days) for one in recipes]
        return [decide(one, plan.triggers) if one.champion else _no_champion(one.agent) for one in known]

    def improve(self, plan: Plan, decided: Sequence[Decision] | None = None) -> list[str]:
        """DPO for every agent with judgements that its champion has not learnt, with the answers people liked as replay. Returns the new
        releases, and the challenger that has learnt just these rows already and waits for the gate."""
        ready: list[str] = []
        jobs: list[Job] = []
        for made in self.whether_to_improve(plan) if decided is None else decided:
            recipe = plan.agents[made.agent].dpo
            if made.does == "wait":
                ready += [one for one in [self._learnt.unjudged(made.agent)] if one]
            pairs, liked = self._learnt.waiting(made.agent, "dpo"), self._learnt.waiting(made.agent, "sft")
            if recipe is None or not made.train or not pairs:
                continue
            changes = {"datasets": pairs, "rows": None, "replay": (*recipe.replay, *liked)}
            jobs.append(("train_jobs.dpo", recipe.model_copy(update=changes)))
        return [*ready, *(str(result["release"]) for result in self._launch(jobs, plan.at_once))]

    def promote(self, ref: str, reason: str) -> None:
        """Move the champion's alias to a release."""
        self._registry.promote(ref, reason)

    def difference(self, before: str, after: str) -> dict[str, Any]:
        """What changed between two releases."""
        return self._registry.compare(before, after).model_dump(mode="json")

    def _gathering(self, plan: Plan) -> list[Job]:
        conversations = [one.conversations for one in plan.agents.values() if one.conversations]
        documents: list[Job] = [("data_jobs.ingest", recipe) for recipe in plan.corpora]
        return documents + [("data_jobs.conversations", recipe) for recipe in conversations]

    def _launch(self, jobs: Sequence[Job], at_once: int) -> list[dict[str, Any]]:
        """Run jobs, ``at_once`` at a time; results in the order of the jobs. The first failure is raised after all have ended."""
        if not jobs:
            return []
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            waiting = [pool.submit(self._submitter.run, job, rooted(recipe), self._watch()) for job, recipe in jobs]
        return [one.result() for one in waiting]


def _because(decision: Decision) -> str:
    return f"{'releases its adapter again: ' if decision.does == 'renew' else ''}{'; '.join(decision.why)}"


def _told(decision: Decision) -> dict[str, Any]:
    return {"agent": decision.agent, "does": decision.does, "bump": decision.bump, "why": list(decision.why)}


def _no_champion(agent: str) -> Decision:
    why = f"'{agent}' has no champion whose answers could be judged"
    return Decision(agent=agent, does="nothing", grounds=(Ground(name="first", says="against", why=why),))


def load_card(path: str) -> Agent:
    """An agent's card from a YAML file. Raises InvalidInput naming the file, the key and the nearest valid key."""
    card: Agent = parse(Agent, read_yaml(ROOT / path), path, InvalidInput)
    return card


def load_questions(path: str) -> QuestionSet:
    """A question set from a YAML (or JSON) file. Raises InvalidInput naming the file, the key and the nearest valid key."""
    made: QuestionSet = parse(QuestionSet, read_yaml(ROOT / path), path, InvalidInput)
    return made
