"""What the releases of an agent have learnt: the questions that decide whether anything is left to do.

They are asked of the catalog, never of a step's result, so a turn of the wheel that was cut short is taken up by the next one.
"""

from typing import Sequence

from cluster.base_model import base_digest, base_role
from cluster.catalog import Catalog, datasets, releases, runs
from cluster.domain.recipes import SftRecipe
from cluster.domain.releases import CHALLENGER, CHAMPION
from cluster.settings import Settings, rooted


class Lineage:
    """Dataset references are names (their newest) or ``name@digest``; NotFound is raised where there is none."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._settings, self._catalog = settings, catalog

    def taught(self, recipe: SftRecipe) -> bool:
        """Whether some release of the agent came from this recipe, this base and these datasets as they are now."""
        wanted = rooted(recipe).model_dump(mode="json")
        base = base_digest(base_role(self._settings, recipe.base))
        with self._catalog.reading() as work:
            digests = {datasets.get(work, ref).digest for ref in recipe.datasets}
            family = releases.of_agent(work, recipe.agent)
        return any(one.recipe == wanted and one.base_digest == base and digests <= set(one.datasets) for one in family)

    def holds(self, agent: str, alias: str, refs: Sequence[str]) -> bool:
        """Whether the agent has a release under this alias, and it holds all of these datasets."""
        with self._catalog.reading() as work:
            if releases.alias(work, agent, alias) is None:
                return False
            return {datasets.get(work, one).digest for one in refs} <= set(releases.get(work, f"{agent}@{alias}").datasets)

    def waiting(self, agent: str, kind: str) -> tuple[str, ...]:
        """The datasets that signals to an agent became (kind: sft or dpo) and that its champion does not hold, oldest first."""
        with self._catalog.reading() as work:
            held = releases.get(work, agent).datasets if releases.alias(work, agent, CHAMPION) else ()
            found = [one for one in datasets.everything(work) if one.name == f"{agent}-signals-{kind}"]
        return tuple(one.ref for one in reversed(found) if one.digest not in held)

    def improved(self, agent: str, refs: Sequence[str]) -> str | None:
        """The challenger, when it is the champion continued on just these datasets."""
        if not (self.holds(agent, CHALLENGER, refs) and self.holds(agent, CHAMPION, ())):
            return None
        with self._catalog.reading() as work:
            champion, challenger = (releases.get(work, f"{agent}@{alias}") for alias in (CHAMPION, CHALLENGER))
        return challenger.ref if challenger.parent == champion.ref else None

    def unjudged(self, agent: str) -> str | None:
        """The challenger, when no gate has judged it."""
        with self._catalog.reading() as work:
            version = releases.alias(work, agent, CHALLENGER)
            judged = {run.result["challenger"] for run in runs.of_job(work, "train_jobs.gate") if run.result}
        ref = f"{agent}@{version}"
        return ref if version and ref not in judged else None

    def kept(self, agent: str, job: str) -> bool:
        """Whether the job that made the agent's challenger judged it too, and said that the champion stays."""
        with self._catalog.reading() as work:
            version = releases.alias(work, agent, CHALLENGER)
            results = [run.result for run in runs.of_job(work, job) if run.result]
        return any(one.get("release") == f"{agent}@{version}" and one.get("verdict") == "keep" for one in results)
