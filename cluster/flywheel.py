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
from typing import Any, Callable, Iterator, Sequence

from pydantic import Field

from cluster.base_model import base_digest, base_role
from cluster.catalog import Catalog, agents, datasets, questions, releases, runs
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
from cluster.errors import InvalidInput
from cluster.job_submission import Submitter, Watcher
from cluster.registry import Registry
from cluster.settings import ROOT, Settings, read_yaml

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

    def jobs(self) -> Iterator[Job]:
        """Everything a turn may launch, in order; what has nothing new to do is left out when it runs."""
        yield from (("data_jobs.ingest", recipe) for recipe in self.corpora)
        yield from (("data_jobs.conversations", one.conversations) for one in self.agents.values() if one.conversations)
        yield from (("train_jobs.sft", one.sft) for one in self.agents.values())
        if self.router:
            yield "train_jobs.router_head", self.router
        yield "data_jobs.signals", SignalsRecipe()
        yield from (("train_jobs.dpo", one.dpo) for one in self.agents.values() if one.dpo)


class Wheel:
    """The steps, each usable alone. ``watch`` gives a watcher for a run: a progress bar, or nothing."""

    def __init__(
        self, settings: Settings, catalog: Catalog, registry: Registry, submitter: Submitter, watch: Watch | None = None
    ) -> None:
        self._settings, self._catalog, self._registry, self._submitter = settings, catalog, registry, submitter
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

    def gather(self, plan: Plan) -> list[dict[str, Any]]:
        """Cards and question sets into the catalog; documents into corpora, conversations into datasets."""
        with self._catalog.transaction() as work:
            for one in plan.agents.values():
                agents.save(work, load_card(one.card))
            for file in plan.questions:
                questions.save_set(work, load_questions(file))
        jobs: list[Job] = [("data_jobs.ingest", recipe) for recipe in plan.corpora]
        jobs += [("data_jobs.conversations", one.conversations) for one in plan.agents.values() if one.conversations]
        return self._launch(jobs, plan.at_once)

    def teach(self, plan: Plan) -> list[str]:
        """SFT for every agent whose data is new to its champion, and the router head. Returns the releases that wait for the gate:
        the new ones, and those of a turn that was cut short."""
        jobs: list[Job] = [("train_jobs.sft", one.sft) for one in plan.agents.values() if not self._taught(one.sft)]
        if plan.router and (jobs or not self._knows(f"{ROUTER}@{CHAMPION}", plan.router.datasets)):
            jobs.append(("train_jobs.router_head", plan.router))
        made = [str(result["release"]) for result in self._launch(jobs, plan.at_once)]
        for ref in made:
            if ref.startswith(f"{ROUTER}@"):  # measured on its own held-out part while it was trained
                self._registry.promote(ref, "newest router head")
        new = [ref for ref in made if not ref.startswith(f"{ROUTER}@")]
        left = [one for name in plan.agents if (one := self._unjudged(name)) is not None]
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
            pairs, liked = self._unlearnt(name, "dpo"), self._unlearnt(name, "sft")
            if one.dpo is None or not pairs:
                continue
            if (challenger := self._improved(name, (*pairs, *liked))) is not None:
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

    def _launch(self, jobs: Sequence[Job], at_once: int) -> list[dict[str, Any]]:
        """Run jobs, ``at_once`` at a time; results in the order of the jobs. The first failure is raised after all have ended."""
        if not jobs:
            return []
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            waiting = [pool.submit(self._submitter.run, job, rooted(recipe), self._watch()) for job, recipe in jobs]
        return [one.result() for one in waiting]

    def _taught(self, recipe: SftRecipe) -> bool:
        """Whether some release of the agent came from this recipe, this base and these datasets as they are now."""
        wanted = rooted(recipe).model_dump(mode="json")
        base = base_digest(base_role(self._settings, recipe.base))
        with self._catalog.reading() as work:
            digests = {datasets.get(work, ref).digest for ref in recipe.datasets}
            family = releases.of_agent(work, recipe.agent)
        return any(one.recipe == wanted and one.base_digest == base and digests <= set(one.datasets) for one in family)

    def _knows(self, ref: str, refs: Sequence[str]) -> bool:
        """Whether a release (given as agent@alias) is there and holds all of these datasets as they are now."""
        with self._catalog.reading() as work:
            name, _, alias = ref.partition("@")
            if releases.alias(work, name, alias) is None:
                return False
            return {datasets.get(work, one).digest for one in refs} <= set(releases.get(work, ref).datasets)

    def _unlearnt(self, name: str, kind: str) -> tuple[str, ...]:
        """The datasets of signals to an agent that its champion does not hold, oldest first."""
        with self._catalog.reading() as work:
            held = releases.get(work, name).datasets if releases.alias(work, name, CHAMPION) else ()
            found = [one for one in datasets.everything(work) if one.name == f"{name}-signals-{kind}"]
        return tuple(one.ref for one in reversed(found) if one.digest not in held)

    def _improved(self, name: str, refs: Sequence[str]) -> str | None:
        """The challenger, when it is the champion continued on just these datasets."""
        if not self._knows(f"{name}@{CHALLENGER}", refs):
            return None
        with self._catalog.reading() as work:
            champion, challenger = (releases.get(work, f"{name}@{alias}") for alias in (CHAMPION, CHALLENGER))
        return challenger.ref if challenger.parent == champion.ref else None

    def _unjudged(self, name: str) -> str | None:
        """The challenger, when no gate has judged it: a turn that was cut short left it."""
        with self._catalog.reading() as work:
            version = releases.alias(work, name, CHALLENGER)
            judged = {run.recipe["challenger"] for run in runs.of_job(work, "train_jobs.gate") if run.state == "succeeded"}
        return f"{name}@{version}" if version and f"{name}@{version}" not in judged else None

    def _regression(self, agent: str) -> list[str]:
        with self._catalog.reading() as work:
            return [one.name for one in questions.sets(work, agent) if one.purpose == "regression"]


def rooted(recipe: Frozen) -> Frozen:
    """The recipe with its relative file paths made absolute in this project, since a job runs in a directory of its own."""
    changes: dict[str, Any] = {}
    for key in ("paths", "rows"):
        value = getattr(recipe, key, None)
        if isinstance(value, str):
            changes[key] = _rooted_path(value)
        elif value:
            changes[key] = tuple(_rooted_path(path) for path in value)
    return recipe.model_copy(update=changes)


def _rooted_path(path: str) -> str:
    return path if "://" in path else str(ROOT / path)


def load_card(path: str) -> Agent:
    """An agent's card from a YAML file. Raises InvalidInput naming the file, the key and the nearest valid key."""
    card: Agent = parse(Agent, read_yaml(ROOT / path), path, InvalidInput)
    return card


def load_questions(path: str) -> QuestionSet:
    """A question set from a YAML (or JSON) file. Raises InvalidInput naming the file, the key and the nearest valid key."""
    made: QuestionSet = parse(QuestionSet, read_yaml(ROOT / path), path, InvalidInput)
    return made
