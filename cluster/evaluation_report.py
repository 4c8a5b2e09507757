"""What evaluations say, put together for people and files: rates with intervals, slices, failures, changes, suggestions."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from pydantic import Field

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, datasets, questions, releases, runs
from cluster.domain.agents import BASE_VERSION
from cluster.domain.base import Frozen, now
from cluster.domain.datasets import GuardRow, RouterRow
from cluster.domain.intervals import Rate, either_side, rate_of
from cluster.domain.questions import Evaluation, Question, QuestionResult
from cluster.domain.versions import split_ref
from cluster.errors import NotFound, TreadleError
from cluster.suggestions import Suggestion, failure_kind, suggest


class Line(Frozen):
    """One question of a report. ``why`` says in short how it failed; ``before`` is the other release's answer."""

    question_set: str
    release: str
    evaluation: str
    question_id: str
    slices: tuple[str, ...] = ()
    question: str = ""
    expected: str = ""
    answer: str
    passed: bool
    score: float
    answered: bool
    latency_s: float
    why: str = ""
    detail: str = ""
    before: str | None = None
    passed_before: bool | None = None


class SliceReport(Frozen):
    name: str
    rate: Rate
    against: Rate | None = None


class Against(Frozen):
    """The other release on the same questions. ``p`` is the sign test's, over questions that went from one side to the other."""

    release: str
    evaluation: str
    rate: Rate
    newly_right: int
    newly_wrong: int
    p: float


class SetReport(Frozen):
    """One evaluation. ``changed`` says that the catalog's set is another by now: texts are then shown where the id is still there."""

    question_set: str
    purpose: str
    release: str
    evaluation: str
    created_at: datetime
    options: dict[str, str | int | float | bool]
    rate: Rate
    score: float
    unanswered: int
    changed: bool
    latency: dict[str, float]
    slices: tuple[SliceReport, ...]
    suggestions: tuple[Suggestion, ...]
    against: Against | None = None
    judge: str | None = Field(default=None, description="how far the judge agrees with people, where that was measured")
    lines: tuple[Line, ...]

    @property
    def failures(self) -> list[Line]:
        return [line for line in self.lines if not line.passed]

    @property
    def moved(self) -> list[Line]:
        """Questions that pass on one side alone, those newly wrong first."""
        found = [line for line in self.lines if line.passed_before is not None and line.passed_before != line.passed]
        return sorted(found, key=lambda line: line.passed)


class EvaluationReport(Frozen):
    title: str
    against: str | None = None
    made_at: datetime = Field(default_factory=now)
    sets: tuple[SetReport, ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[Line]:
        """Every question of every set."""
        for one in self.sets:
            yield from one.lines


class Reporter:
    """Makes reports from what the catalog and the artifact store hold."""

    def __init__(self, catalog: Catalog, artifacts: Artifacts) -> None:
        self._catalog, self._artifacts = catalog, artifacts

    def named(self, name: str, against: str | None = None) -> EvaluationReport:
        """The report of an evaluation by its id, or of a release: its newest evaluation of each set and way of asking. ``against`` is a
        release whose answers to the same questions stand beside. Raises NotFound where there is nothing to report."""
        with self._catalog.reading() as work:
            one = questions.find(work, name)
            found = [one] if one is not None else _newest(questions.of_release(work, self._ref(name)))
        if not found:
            raise NotFound(f"There is no evaluation '{name}', nor one of a release of that name; treadle eval run makes one.")
        return self.of(found, against)

    def of(self, evaluations: Sequence[Evaluation], against: str | None = None) -> EvaluationReport:
        """The report of these evaluations."""
        notes: list[str] = []
        other: list[Evaluation] = []
        if against is not None:
            with self._catalog.reading() as work:
                other = questions.of_release(work, self._ref(against))
            if not other:
                raise NotFound(f"There is no evaluation of '{against}' to compare with; treadle eval run makes one.")
        rows = {release: self._rows(release, notes) for release in dict.fromkeys(one.release for one in evaluations)}
        sets = tuple(self._set(one, _partner(one, other, notes, against), rows[one.release]) for one in evaluations)
        title = ", ".join(rows)
        return EvaluationReport(title=title, against=against, sets=sets, notes=tuple(dict.fromkeys(notes)))

    def _ref(self, name: str) -> str:
        """``agent`` means its champion; names without a version that no agent has stay as they are (auto)."""
        agent, version = split_ref(name)
        if version is not None:
            return name
        with self._catalog.reading() as work:
            try:
                return releases.get(work, agent).ref
            except TreadleError:
                return name

    def _rows(self, release: str, notes: list[str]) -> list[str] | None:
        """The questions of the release's training rows; None where it has none."""
        version = split_ref(release)[1]
        if version in (None, BASE_VERSION):
            return None
        try:
            with self._catalog.reading() as work:
                found = releases.get(work, release)
                held = [datasets.get(work, digest) for digest in found.datasets]
            if found.card.corpora:
                notes.append(
                    f"{release} answers from documents too ({', '.join(found.card.corpora)}): where a failing question's answer stands in "
                    "one, see first whether treadle data search finds it."
                )
            rows = [row for one in held for row in self._artifacts.read_rows(one.uri)]
        except TreadleError as error:
            notes.append(f"The training rows of {release} cannot be read, so nothing is said of them: {error.message}")
            return None
        return [row.text if isinstance(row, RouterRow | GuardRow) else row.question for row in rows] or None

    def _set(self, one: Evaluation, other: Evaluation | None, rows: Sequence[str] | None) -> SetReport:
        asked, purpose, changed = self._questions(one)
        was = {result.question_id: result for result in other.results} if other else {}
        calibrated = self._calibration(one)
        return SetReport(
            question_set=one.question_set,
            purpose=purpose,
            release=one.release,
            evaluation=one.id,
            created_at=one.created_at,
            options=one.options,
            rate=_rate(one.results),
            score=one.score,
            unanswered=one.unanswered,
            changed=changed,
            latency={
                name: one.latency(quantile) for name, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
            },
            slices=tuple(_slices(one.results, was)),
            suggestions=suggest(one, asked, rows),
            against=beside(one, other) if other else None,
            judge=calibrated,
            lines=tuple(_line(one, result, asked.get(result.question_id), was.get(result.question_id)) for result in one.results),
        )

    def _questions(self, one: Evaluation) -> tuple[dict[str, Question], str, bool]:
        """The questions by id, the set's purpose, and whether the set has changed since."""
        with self._catalog.reading() as work:
            try:
                present = questions.get_set(work, one.question_set)
            except NotFound:
                return {}, "", True
        first = present.model_copy(update={"questions": present.questions[: one.n]})  # as a recipe's limit cuts it
        return (
            {question.id: question for question in present.questions},
            present.purpose,
            one.set_digest not in (present.digest, first.digest),
        )

    def _calibration(self, one: Evaluation) -> str | None:
        judge = one.options.get("judge")
        if judge is None:
            return None
        with self._catalog.reading() as work:
            known = runs.of_job(work, "train_jobs.calibrate")
        said = next((run.result["meaning"] for run in known if run.result and run.result.get("judge") == judge), None)
        return str(said) if said else "How far this judge agrees with people was not measured; treadle eval calibrate does."


def _newest(found: Sequence[Evaluation]) -> list[Evaluation]:
    kept: dict[str, Evaluation] = {}
    for one in found:  # newest first
        kept.setdefault(f"{one.question_set} {sorted(one.options.items())}", one)
    return sorted(kept.values(), key=lambda one: (one.question_set, str(sorted(one.options.items()))))


def _partner(one: Evaluation, other: Sequence[Evaluation], notes: list[str], against: str | None) -> Evaluation | None:
    same = (
        two for two in other if (two.question_set, two.set_digest, two.options) == (one.question_set, one.set_digest, one.options)
    )
    found = next(same, None)
    if found is None and against is not None:
        notes.append(
            f"{against} was not asked the same questions of '{one.question_set}' in the same way, so they are not compared."
        )
    return found


def _rate(results: Sequence[QuestionResult]) -> Rate:
    return rate_of(sum(result.passed for result in results), len(results))


def _slices(results: Sequence[QuestionResult], was: Mapping[str, QuestionResult]) -> Iterator[SliceReport]:
    for name in sorted({name for result in results for name in result.slices}):
        inside = [result for result in results if name in result.slices]
        before = [was[result.question_id] for result in inside if result.question_id in was]
        yield SliceReport(name=name, rate=_rate(inside), against=_rate(before) if before else None)


def beside(one: Evaluation, other: Evaluation) -> Against:
    """An evaluation's partner: another release on the same questions, pair by pair."""
    was = {result.question_id: result.passed for result in other.results}
    better = sum(result.passed and not was[result.question_id] for result in one.results)
    worse = sum(not result.passed and was[result.question_id] for result in one.results)
    return Against(
        release=other.release,
        evaluation=other.id,
        rate=_rate(other.results),
        newly_right=better,
        newly_wrong=worse,
        p=either_side(better, worse),
    )


def _line(one: Evaluation, result: QuestionResult, asked: Question | None, was: QuestionResult | None) -> Line:
    return Line(
        question_set=one.question_set,
        release=one.release,
        evaluation=one.id,
        question_id=result.question_id,
        slices=result.slices,
        question=asked.text if asked else "",
        expected=_expected(asked) if asked else "",
        answer=result.answer,
        passed=result.passed,
        score=result.score,
        answered=result.answered,
        latency_s=result.latency_s,
        why="" if result.passed else failure_kind(asked, result) if result.answered else "no answer",
        detail=result.detail,
        before=was.answer if was else None,
        passed_before=was.passed if was else None,
    )


def _expected(asked: Question) -> str:
    if asked.kind == "route" and not asked.references:
        return "out of scope"
    return " | ".join([*asked.references, *asked.criteria]) or asked.kind
