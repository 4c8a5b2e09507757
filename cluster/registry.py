"""Releases: registered, promoted, rolled back, retired and compared.

The catalog's record of a release is the truth that serving follows; MLflow holds the same release for people to browse
(``cluster.mlflow_releases``). Every change writes the catalog first, in one transaction, then MLflow; ``reconcile`` brings MLflow up to
date when it was unreachable in between.
"""

from enum import Enum
from pathlib import Path
from typing import Any, Literal, Sequence

from cluster.catalog import Work, agents, corpora, datasets, questions, releases
from cluster.domain.agents import BASE_VERSION, Agent
from cluster.domain.base import Frozen
from cluster.domain.questions import Question
from cluster.domain.releases import CHALLENGER, CHAMPION, Release, ReleaseDiff, diff, next_version
from cluster.domain.versions import Bump, Version, split_ref
from cluster.errors import Conflict, IntegrityError, NotFound
from cluster.mlflow_record import MODEL_PREFIX, WAITING
from cluster.mlflow_releases import MlflowReleases

__all__ = ["MODEL_PREFIX", "UNSET", "Registry", "Unset"]


class Unset(Enum):
    """Tells "not given" from None."""

    UNSET = "unset"


UNSET = Unset.UNSET


class Reconciled(Frozen):
    """What was told: of how many runs something waited, how many releases were looked at, and which were registered late."""

    runs: int
    releases: int
    registered: tuple[str, ...] = ()


class Registry(MlflowReleases):
    """Releases, aliases and diffs, and what MLflow is told of them and of trainings."""

    def register(
        self,
        card: Agent,
        adapter: Path,
        *,
        base_model: str,
        base_digest: str,
        inputs: Sequence[str] = (),
        indexes: dict[str, int] | None = None,
        recipe: dict[str, Any] | None = None,
        parent: str | None = None,
        run_id: str | None = None,
        mlflow_run_id: str | None = None,
        metrics: dict[str, float] | None = None,
        bump: Bump | None = None,
    ) -> Release:
        """Make a release of the files in ``adapter`` and record it, in the catalog and in MLflow.

        ``inputs`` are dataset digests, added to the parent's. ``indexes`` defaults to the newest version of each of the card's corpora.
        ``bump`` sets the weight of the version step; without it the rules of
        ``cluster.domain.releases.next_version`` do. Raises Conflict when nothing changed since the parent.
        """
        bundle = self._artifacts.publish("adapter", adapter, {"agent": card.name, "base": base_digest})
        with self._catalog.transaction() as work:
            releases.serialise(work)
            before = releases.get(work, parent) if parent else None
            family = releases.of_agent(work, card.name)
            taken = [release.version for release in family]
            pinned = indexes if indexes is not None else _newest_indexes(work, card)
            held = tuple(dict.fromkeys([*(before.datasets if before else ()), *inputs]))
            earned = next_version(
                before or (family[0] if family else None),
                taken,
                base_digest=base_digest,
                adapter_digest=bundle.digest,
                datasets=held,
                card=card,
                indexes=pinned,
            )
            if earned.version is None:
                raise Conflict(f"No release of '{card.name}' was made: {earned.reason}.")
            version, reason = earned.version, earned.reason
            if bump is not None and taken:
                start = Version.parse(before.version if before else max(taken, key=Version.parse)).bump(bump)
                while str(start) in taken:
                    start = start.bump(bump)
                version, reason = str(start), f"{reason}; {bump} as the recipe says, whether it is better is for the gate"
            release = Release(
                agent=card.name,
                version=version,
                card=card,
                adapter_uri=bundle.uri,
                adapter_digest=bundle.digest,
                base_model=base_model,
                base_digest=base_digest,
                indexes=pinned,
                datasets=held,
                recipe=recipe or {},
                parent=before.ref if before else None,
                run_id=run_id,
                mlflow_run_id=None if mlflow_run_id is None or mlflow_run_id.startswith(WAITING) else mlflow_run_id,
                metrics=metrics or {},
                reason=reason,
            )
            releases.add(work, release)
            releases.move_alias(work, release.agent, CHALLENGER, release.version, f"registered: {reason}")
        if mlflow_run_id is not None and mlflow_run_id.startswith(WAITING):
            self._mirror(self.tell_again)  # MLflow may be back by now
        self._mirror(lambda: self._mirror_release(release))
        return release

    def renew(self, agent: str) -> Release:
        """A release of the champion's adapter with the agent's card and indexes as they are now: what needs no training. Raises
        Conflict when nothing changed."""
        with self._catalog.reading() as work:
            champion = releases.get(work, agent)
            card = agents.get(work, agent)
        return self.register(
            card,
            self._checked(champion, "renewed"),
            base_model=champion.base_model,
            base_digest=champion.base_digest,
            recipe=champion.recipe,
            parent=champion.ref,
            metrics=champion.metrics,
        )

    def promote(self, ref: str, reason: str = "promoted by hand", expected: str | Unset | None = UNSET) -> Release:
        """Make a release its agent's champion; the gateway follows within a second.

        ``expected`` is the champion that the decision was made against (``agent@version``, a version, or None and ``agent@base`` for
        none): promotions are made one after another, and Conflict is raised when another one came in between. Raises IntegrityError or
        NotFound when the release's files are not those that were evaluated, Conflict when it is retired.
        """
        with self._catalog.reading() as work:
            release = releases.get(work, ref)
        self._checked(release, "promoted")
        with self._catalog.transaction() as work:
            releases.serialise(work)
            gone = releases.retired(work)
            if release.ref in gone:
                raise Conflict(f"Release '{release.ref}' is retired ({gone[release.ref]}) and is not promoted; train a new one.")
            if expected is not UNSET:
                _still(release.agent, _version(expected), releases.alias(work, release.agent, CHAMPION), release.ref)
            self._crown(work, release, reason, "move")
        self._mirror(lambda: self._mirror_aliases(release))
        return release

    def rollback(self, agent: str, reason: str = "rolled back by hand") -> Release:
        """Give the agent back the champion it had before; done twice it goes two back. Raises Conflict when there was none, and
        IntegrityError when that one's files are not whole any more (then promote another by its name)."""
        with self._catalog.reading() as work:
            found = releases.get(work, f"{agent}@{releases.previous(work, agent)}")
        self._checked(found, "taken back")
        with self._catalog.transaction() as work:
            releases.serialise(work)
            before = releases.previous(work, agent)
            if before != found.version:
                raise Conflict(f"The champion of '{agent}' was moved meanwhile; look at it and roll back again.")
            self._crown(work, found, reason, "rollback")
        self._mirror(lambda: self._mirror_aliases(found))
        return found

    def retire(self, ref: str, reason: str) -> Release:
        """Take a release out of use for good: it is not promoted any more, not gone back to, and not listed by default. Its record and
        its files stay, and it still answers to who names it. Raises Conflict while it is champion or challenger."""
        with self._catalog.transaction() as work:
            release = releases.get(work, ref)
            releases.retire(work, release, reason)
        self._mirror(lambda: self._mirror_retired(release, reason))
        return release

    def _crown(self, work: Work, release: Release, reason: str, kind: Literal["move", "rollback"]) -> None:
        releases.move_alias(work, release.agent, CHAMPION, release.version, reason, kind)
        if releases.alias(work, release.agent, CHALLENGER) == release.version:
            releases.move_alias(work, release.agent, CHALLENGER, None, reason)

    def _checked(self, release: Release, done: str) -> Path:
        """The directory with the release's files, every digest compared."""
        try:
            return self._artifacts.fetch(release.adapter_uri, release.adapter_digest)
        except (IntegrityError, NotFound) as error:
            raise type(error)(
                f"Release '{release.ref}' is not {done}, its files are not those of digest {release.adapter_digest[:12]}: {error.message}"
            ) from None

    def compare(self, before: str, after: str, examples: int = 5) -> ReleaseDiff:
        """What changed between two releases: card, recipe, metrics, rows (with up to ``examples`` of them each way), and answers
        question by question."""
        with self._catalog.reading() as work:
            one, two = releases.get(work, before), releases.get(work, after)
            pairs = questions.pairs(work, one.ref, two.ref)
            asked = {
                question.id: question.text for name in {pair[0].question_set for pair in pairs} for question in _asked(work, name)
            }
        added, removed = self.row_changes(one.datasets, two.datasets)
        return diff(one, two, rows=(added, removed), examples=examples, evaluations=pairs, asked=asked)

    def row_changes(self, before: Sequence[str], after: Sequence[str]) -> tuple[list[str], list[str]]:
        """The rows (as JSON) that the datasets ``after`` hold and ``before`` do not, and the other way round. A row that stands in two
        datasets is one row."""
        held = [self._row_texts(one) for one in (set(before) - set(after), set(after) - set(before))]
        common = self._row_texts(set(before) & set(after)) if any(held) else set()
        return sorted(held[1] - held[0] - common), sorted(held[0] - held[1] - common)

    def _row_texts(self, digests: set[str]) -> set[str]:
        with self._catalog.reading() as work:
            uris = [datasets.get(work, digest).uri for digest in digests]
        return {row.model_dump_json() for uri in uris for row in self._artifacts.read_rows(uri)}

    def reconcile(self) -> Reconciled:
        """Tell MLflow everything it does not know: what waits of runs, and every release."""
        told = self.tell_again()
        with self._catalog.reading() as work:
            known = releases.everything(work)
        for release in reversed(known):
            self._mirror_release(release)
        return Reconciled(runs=told, releases=len(known))


def _still(agent: str, expected: str | None, present: str | None, ref: str) -> None:
    if expected != present:
        raise Conflict(
            f"{ref} was judged against {_named(agent, expected)}, and by now the champion of '{agent}' is {_named(agent, present)}; "
            "judge it again (treadle eval compare), or promote it by hand."
        )


def _named(agent: str, version: str | None) -> str:
    return f"{agent}@{version}" if version else "no release"


def _version(expected: str | None) -> str | None:
    """The version in ``agent@version`` or ``version``; None for ``agent@base``."""
    if expected is None:
        return None
    version = split_ref(expected)[1] or expected
    return None if version == BASE_VERSION else version


def _asked(work: Work, name: str) -> Sequence[Question]:
    try:
        return questions.get_set(work, name).questions
    except NotFound:  # deleted since it was asked
        return ()


def _newest_indexes(work: Work, card: Agent) -> dict[str, int]:
    return {corpus: corpora.newest(work, corpus).version for corpus in card.corpora}
