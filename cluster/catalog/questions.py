"""Question sets and evaluations."""

from typing import Sequence

from sqlalchemy import delete, select

from cluster.catalog.tables import evaluations, question_sets
from cluster.catalog.transaction import Work
from cluster.domain.questions import Evaluation, Question, QuestionSet
from cluster.errors import NotFound, near


def save_set(work: Work, questions: QuestionSet) -> None:
    """Create or replace a question set."""
    row = {"name": questions.name, "agent": questions.agent, "purpose": questions.purpose}
    work.put(question_sets, {**row, "body": questions.model_dump(mode="json")})


def delete_set(work: Work, name: str) -> None:
    """Remove a question set; one that is not there is no error."""
    work.run(delete(question_sets).where(question_sets.c.name == name))


def get_set(work: Work, name: str) -> QuestionSet:
    """Raises NotFound with near names."""
    found = work.body(QuestionSet, select(question_sets.c.body).where(question_sets.c.name == name))
    if found is None:
        close = near(name, [one.name for one in sets(work)])
        hint = f"did you mean {' or '.join(close)}?" if close else "treadle eval sets shows what there is."
        raise NotFound(f"There is no question set '{name}'; {hint}")
    return found


def sets(work: Work, agent: str | None = None) -> list[QuestionSet]:
    """All question sets, or an agent's."""
    statement = select(question_sets.c.body).order_by(question_sets.c.name)
    if agent is not None:
        statement = statement.where(question_sets.c.agent == agent)
    return work.bodies(QuestionSet, statement)


def add_regression(work: Work, agent: str, added: Sequence[Question]) -> QuestionSet:
    """Put questions into the agent's regression set ``<agent>-regression``; a question asked again replaces the old one."""
    name = f"{agent}-regression"
    present = work.body(QuestionSet, select(question_sets.c.body).where(question_sets.c.name == name))
    by_id = {question.id: question for question in (present.questions if present else ())}
    by_id.update({question.id: question for question in added})
    questions = QuestionSet(name=name, agent=agent, purpose="regression", questions=tuple(by_id.values()))
    save_set(work, questions)
    return questions


def record(work: Work, evaluation: Evaluation) -> None:
    """Keep an evaluation with every question's result."""
    row = {
        "id": evaluation.id,
        "release": evaluation.release,
        "question_set": evaluation.question_set,
        "set_digest": evaluation.set_digest,
        "created_at": evaluation.created_at,
        "body": evaluation.model_dump(mode="json"),
    }
    work.put(evaluations, row)


def find(work: Work, evaluation_id: str) -> Evaluation | None:
    """An evaluation by its id."""
    return work.body(Evaluation, select(evaluations.c.body).where(evaluations.c.id == evaluation_id))


def latest(work: Work, release: str, question_set: str, set_digest: str | None = None) -> Evaluation | None:
    """The newest evaluation of a release on a set (of exactly these questions, when ``set_digest`` is given)."""
    statement = (
        select(evaluations.c.body)
        .where(evaluations.c.release == release, evaluations.c.question_set == question_set)
        .order_by(evaluations.c.created_at.desc())
    )
    if set_digest is not None:
        statement = statement.where(evaluations.c.set_digest == set_digest)
    return work.body(Evaluation, statement)


def of_release(work: Work, release: str) -> list[Evaluation]:
    """All evaluations of a release, newest first."""
    statement = select(evaluations.c.body).where(evaluations.c.release == release)
    return work.bodies(Evaluation, statement.order_by(evaluations.c.created_at.desc()))


def pairs(work: Work, one: str, two: str) -> list[tuple[Evaluation, Evaluation]]:
    """The newest evaluations of two releases on the same questions with the same options."""
    newest: dict[tuple[str, str, str], Evaluation] = {}
    for evaluation in reversed(of_release(work, one)):
        newest[(evaluation.question_set, evaluation.set_digest, str(sorted(evaluation.options.items())))] = evaluation
    found: dict[str, tuple[Evaluation, Evaluation]] = {}
    for evaluation in reversed(of_release(work, two)):
        key = (evaluation.question_set, evaluation.set_digest, str(sorted(evaluation.options.items())))
        if key in newest:
            found[str(key)] = (newest[key], evaluation)
    return list(found.values())
