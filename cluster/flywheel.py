"""One turn of the wheel, on one page.

    gather   documents → corpora, conversations → datasets            data_jobs
    teach    datasets → challengers, examples → a router head          train_jobs
    admit    challengers against champions → promoted, or kept         train_jobs.gate
    listen   signals → rows and regression questions                   data_jobs.signals
    improve  pairs of better and worse answers → challengers → gate    train_jobs.dpo

Every step is a job, launched by name and followed; the steps meet in the catalog, so a turn that was cut short is taken up by the next
one. Nothing is trained when neither data, recipe nor base changed.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Sequence

from pydantic import Field

from cluster.catalog import Catalog, agents, questions
from cluster.domain.agents import ROUTER, Agent
from cluster.domain.base import Frozen, Name
from cluster.domain.parsing import parse
from cluster.domain.questions import QuestionSet
from cluster.domain.recipes import (
    ConversationsRecipe,
    DpoRecipe,
    GateRecipe,
    IngestRecipe,
    RouterRecipe,
    SftRecipe,
    SignalsRecipe,
)
from cluster.domain.releases import CHALLENGER, CHAMPION
from cluster.domain.runs import Run
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
        self._learnt = Lineage(settings, catalog)
        self._watch: Watch = watch or (lambda: lambda run: None)

    def turn(self, plan: Plan) -> dict[str, Any]:
        """The whole turn. Returns what each step did."""
        done: dict[str, Any] = {"gathered": self.gather(plan)}
        done["taught"] = self.teach(plan)
        done["admitted"] = self.admit(plan, done["taught"])
        done["heard"] = self.listen()
        done["improved"] = self.improve(plan)
        done["admitted_after"] = self.admit(plan, done["improved"])
        return done

    def outlook(self, plan: Plan) -> list[Step]:
        """What ``turn`` would launch as things are now; it launches nothing. What comes out of the first steps may change the later
        ones: new rows are only seen when the files are read."""
        steps: list[Step] = []

        def add(step: str, job: str, recipe: Frozen, runs: bool, because: str) -> None:
            values = recipe.model_dump(mode="json")
            title = Run(job=job, recipe=values).title
            steps.append(Step(step=step, job=job, title=title, runs=runs, because=because, recipe=values))

        for job, recipe in self._gathering(plan):
            add("gather", job, recipe, True, "reads the files, keeps what is new")
        training = False
        for one in plan.agents.values():
            try:
                known = self._learnt.taught(one.sft)
            except NotFound:  # its dataset comes out of this turn
                known = False
            training |= not known
            because = "a release came from this recipe, base and data" if known else "recipe, base or data are new"
            add("teach", "train_jobs.sft", one.sft, not known, because)
        if plan.router:
            needed = training or not self._routed(plan.router)
            add(
                "teach",
                "train_jobs.router_head",
                plan.router,
                needed,
                "agents or examples are new" if needed else "nothing is new",
            )
        add("listen", "data_jobs.signals", SignalsRecipe(), True, "looks for signals that wait")
        for name, one in plan.agents.items():
            if one.dpo:
                pairs = self._learnt.waiting(name, "dpo")
                because = f"{len(pairs)} datasets of pairs wait" if pairs else "no pairs wait (before listening)"
                add("improve", "train_jobs.dpo", one.dpo, bool(pairs), because)
        return steps

    def gather(self, plan: Plan) -> list[dict[str, Any]]:
        """Cards and question sets into the catalog; documents into corpora, conversations into datasets."""
        with self._catalog.transaction() as work:
            for one in plan.agents.values():
                agents.save(work, load_card(one.card))
            for file in plan.questions:
                questions.save_set(work, load_questions(file))
        return self._launch(self._gathering(plan), plan.at_once)

    def teach(self, plan: Plan) -> list[str]:
        """SFT for every agent whose data is new to its champion, and the router head. Returns the releases that wait for the gate:
        the new ones, and those of a turn that was cut short."""
        jobs: list[Job] = [("train_jobs.sft", one.sft) for one in plan.agents.values() if not self._learnt.taught(one.sft)]
        if plan.router and (jobs or not self._routed(plan.router)):
            jobs.append(("train_jobs.router_head", plan.router))
        done = self._launch(jobs, plan.at_once)
        new = [str(result["release"]) for (job, _), result in zip(jobs, done, strict=True) if job != "train_jobs.router_head"]
        for (job, _), result in zip(jobs, done, strict=True):
            if job == "train_jobs.router_head" and result["verdict"] == "promote":  # judged against the champion by its own job
                self._registry.promote(str(result["release"]), " ".join(result["reasons"]))
        left = [one for name in plan.agents if (one := self._learnt.unjudged(name)) is not None]
        return list(dict.fromkeys([*new, *left]))

    def admit(self, plan: Plan, made: Sequence[str], promote: bool = True) -> list[dict[str, Any]]:
        """Each challenger through the gate, on its agent's sets and regression set."""
        jobs: list[Job] = []
        for ref in made:
            name = ref.partition("@")[0]
            sets = [*plan.agents[name].question_sets, *self._regression(name)]
            jobs.append(
                (
                    "train_jobs.gate",
                    GateRecipe(challenger=ref, question_sets=tuple(sets), tolerance=plan.tolerance, promote=promote),
                )
            )
        return self._launch(jobs, plan.at_once)

    def listen(self) -> dict[str, Any]:
        """Signals that wait become rows and regression questions."""
        return self._launch([("data_jobs.signals", SignalsRecipe())], 1)[0]

    def improve(self, plan: Plan) -> list[str]:
        """DPO for every agent with pairs that its champion has not learnt, with the answers people liked as replay. Returns the new
        releases, and the challenger that has learnt just these rows already."""
        ready: list[str] = []
        jobs: list[Job] = []
        for name, one in plan.agents.items():
            pairs, liked = self._learnt.waiting(name, "dpo"), self._learnt.waiting(name, "sft")
            if one.dpo is None or not pairs:
                continue
            if (challenger := self._learnt.improved(name, (*pairs, *liked))) is not None:
                ready.append(challenger)
                continue
            changes = {"datasets": pairs, "rows": None, "replay": (*one.dpo.replay, *liked)}
            jobs.append(("train_jobs.dpo", one.dpo.model_copy(update=changes)))
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

    def _routed(self, recipe: RouterRecipe) -> bool:
        """Whether the router's champion has learnt these rows, or a challenger has that was judged and kept."""
        refs = recipe.datasets
        kept = self._learnt.kept(ROUTER, "train_jobs.router_head") and self._learnt.holds(ROUTER, CHALLENGER, refs)
        return self._learnt.holds(ROUTER, CHAMPION, () if kept else refs)

    def _regression(self, agent: str) -> list[str]:
        with self._catalog.reading() as work:
            return [one.name for one in questions.sets(work, agent) if one.purpose == "regression"]


def load_card(path: str) -> Agent:
    """An agent's card from a YAML file. Raises InvalidInput naming the file, the key and the nearest valid key."""
    card: Agent = parse(Agent, read_yaml(ROOT / path), path, InvalidInput)
    return card


def load_questions(path: str) -> QuestionSet:
    """A question set from a YAML (or JSON) file. Raises InvalidInput naming the file, the key and the nearest valid key."""
    made: QuestionSet = parse(QuestionSet, read_yaml(ROOT / path), path, InvalidInput)
    return made
