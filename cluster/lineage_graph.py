"""The lineage graph of a release, read from the catalog: ``cluster.domain.lineage`` says what it is.

It knows what the catalog knows: a dataset that was deleted is shown by its digest alone, and evaluations are the newest of each question
set. Who wrote a document, and what a person meant, it does not know.
"""

from cluster.catalog import Work, corpora, datasets, forgotten, questions, releases, runs, signals
from cluster.domain.lineage import Lineage, Node, NodeKind
from cluster.domain.releases import CHAMPION, Release
from cluster.errors import NotFound

_GENERATIONS = 20  # parents of parents


def lineage_graph(work: Work, release: Release) -> Lineage:
    """What the release and its parents came from, and what came of it."""
    drawn = _Drawn(work)
    line = [release]
    while line[-1].parent and len(line) < _GENERATIONS:
        line.append(releases.get(work, line[-1].parent))
    for number, one in enumerate(line):
        before = line[number + 1] if number + 1 < len(line) else None
        drawn.release(one, before)
    drawn.outcome(release)
    return Lineage(root=release.ref, nodes=tuple(drawn.nodes.values()), edges=tuple(drawn.edges))


class _Drawn:
    def __init__(self, work: Work) -> None:
        self._work = work
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], None] = {}

    def _add(self, kind: NodeKind, id_: str, name: str, detail: str = "") -> str:
        self.nodes.setdefault(id_, Node(id=id_, kind=kind, name=name, detail=detail))
        return id_

    def _flows(self, start: str, end: str) -> None:
        self.edges.setdefault((start, end))

    def release(self, one: Release, before: Release | None) -> None:
        """A release with what went into it; what its parent held already hangs on the parent."""
        words = [one.reason, f"made {one.created_at:%Y-%m-%d %H:%M}", f"digest {one.digest[:12]}"]
        gone = releases.retired(self._work).get(one.ref)
        self._add("release", one.ref, one.ref, ", ".join([*filter(None, words), *([f"retired: {gone}"] if gone else [])]))
        if before is not None:
            self._add("release", before.ref, before.ref)
            self.nodes.pop(before.ref)  # its own turn says more of it
            self._flows(before.ref, one.ref)
        for digest in one.datasets:
            if before is None or digest not in before.datasets:
                self._flows(self._dataset(digest), one.ref)
        base = self._add("base", f"base:{one.base_digest}", one.base_model, f"digest {one.base_digest[:12]}")
        if before is None or before.base_digest != one.base_digest:
            self._flows(base, one.ref)
        if one.recipe:
            job = "dpo" if "beta" in one.recipe else "sft" if "lora" in one.recipe else "router"
            shown = ("max_steps", "learning_rate", "batch_size", "beta")
            figures = ", ".join(f"{key} {one.recipe[key]}" for key in shown if key in one.recipe)
            self._flows(self._add("recipe", f"recipe:{one.ref}", job, figures), one.ref)
        for corpus, version in one.indexes.items():
            if before is None or before.indexes.get(corpus) != version:
                self._flows(self._index(corpus, version), one.ref)

    def _dataset(self, digest: str) -> str:
        marked = forgotten.marks(self._work, "dataset").get(digest)
        try:
            found = datasets.get(self._work, digest)
        except NotFound:
            return self._add("dataset", f"dataset:{digest}", digest[:12], "deleted")
        detail = f"{found.rows} {found.kind} rows" + (f", {marked}" if marked else "")
        id_ = self._add("dataset", f"dataset:{digest}", found.ref, detail)
        said = signals.became(self._work, "dataset", found.ref)
        if said:
            words = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in said.items())
            self._flows(self._add("signals", f"signals:{digest}", str(sum(said.values())), words), id_)
        elif found.sources:
            words = ", ".join(f"{name} ({count} rows)" for name, count in sorted(found.sources.items())[:3])
            more = f" and {len(found.sources) - 3} more" if len(found.sources) > 3 else ""
            self._flows(self._add("documents", f"documents:{digest}", str(len(found.sources)), words + more), id_)
        return id_

    def _index(self, corpus: str, version: int) -> str:
        known = [one for one in corpora.versions(self._work, corpus) if one.version == version]
        detail = f"{known[0].documents} documents, {known[0].passages} passages" if known else "deleted"
        return self._add("index", f"index:{corpus}:{version}", f"{corpus} version {version}", detail)

    def outcome(self, release: Release) -> None:
        """How the release did, and what it is called."""
        newest = {one.question_set: one for one in reversed(questions.of_release(self._work, release.ref))}
        for name, one in sorted(newest.items()):
            self._flows(release.ref, self._add("evaluation", f"evaluation:{one.id}", name, f"{one.rate:.1%} of {one.n}"))
        crowned = release.ref
        for run in reversed(runs.of_job(self._work, "train_jobs.gate")):
            result = run.result or {}
            if result.get("challenger") != release.ref:
                continue
            against, verdict = str(result.get("champion")), str(result.get("verdict"))
            gate = self._add(
                "gate", f"gate:{run.id}", f"{verdict} against {against}", " ".join(result.get("reasons") or ())[:200]
            )
            compared = [newest[name] for one in result.get("comparisons") or () if (name := one.get("question_set")) in newest]
            for start in [f"evaluation:{one.id}" for one in compared] or [release.ref]:
                self._flows(start, gate)
            crowned = gate if result.get("promoted") else crowned
        for (agent, alias), version in sorted(releases.all_aliases(self._work).items()):
            if f"{agent}@{version}" == release.ref:
                moved = [one for one in releases.moves(self._work, agent, alias) if one.after == version]
                why = f"since {moved[-1].moved_at:%Y-%m-%d %H:%M}: {moved[-1].reason}" if moved else ""
                start = crowned if alias == CHAMPION else release.ref
                self._flows(start, self._add("alias", f"alias:{alias}", alias, why[:200]))
