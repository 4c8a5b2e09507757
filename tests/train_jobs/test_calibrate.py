"""The judge beside people: real signals in a catalog, a judge behind a real HTTP server."""

import json
from collections.abc import Iterator

import pytest

from cluster.catalog import conversations, signals
from cluster.domain.conversations import Route, Turn
from cluster.domain.recipes import CalibrateRecipe, JudgeRecipe
from cluster.domain.signals import Signal
from cluster.domain.validation import Validation
from cluster.errors import InvalidInput, Unavailable
from cluster.job_run import JobRun
from train_jobs import calibrate
from train_jobs.calibrate import JudgedTurn, meaning, spearman


def _judged(agent: str, thumbs: list[list[str]], job: JobRun) -> None:
    """One turn for each list of thumbs, one thumb by each person; the answer says its number."""
    with job.catalog.transaction() as work:
        for number, said in enumerate(thumbs):
            turn = Turn(
                conversation_id=f"conv-{agent}-{number}",
                user="u",
                question="Well?",
                answer=f"answer {number}",
                agent=agent,
                release=f"{agent}@0.1.0",
                route=Route(agent=agent),
                validation=Validation(passed=True),
            )
            conversations.record(work, [turn])
            signals.record(
                work, [Signal(turn_id=turn.id, kind="thumb", value=one, user=f"p{who}") for who, one in enumerate(said)]
            )


@pytest.fixture
def job(open_job) -> Iterator[JobRun]:
    made = open_job("train_jobs.calibrate", CalibrateRecipe())
    yield made
    made.catalog.close()


def _number(request) -> int:
    data = request["messages"][1]["content"].rpartition("\n\n")[0]
    return int(json.loads(data)["answer"].split()[1])


def test_a_judge_is_ranked_against_peoples_thumbs(job, chat_server):
    _judged("kind", [["up"]] * 10 + [["down"]] * 10, job)
    chat_server.answer = lambda request: json.dumps({"grade": 5 if _number(request) < 9 else 2, "reason": "so"})
    judge = JudgeRecipe(endpoint=chat_server.endpoint, model="j")
    result = calibrate.run(job, CalibrateRecipe(agent="kind", judge=judge))
    assert result["n"] == result["turns"] == len(chat_server.requests) == 20
    assert result["rho"] == pytest.approx(0.9045, abs=1e-3)  # by hand: mean ranks of a 9/1/0/10 table
    assert result["meaning"].startswith("The judge ranks answers much as people do (Spearman +0.90, p = ")
    assert result["judge"] == f"j at {chat_server.endpoint}"
    assert {one["grade"] for one in result["graded"]} == {2, 5}


def test_a_persons_newest_thumb_counts_and_people_are_averaged(job):
    _judged("many", [["up", "down"], ["up", "up"]], job)
    turns = {turn.answer: (turn, thumb) for turn, thumb in calibrate.thumbs(job, "many", 10)}
    assert {name: thumb for name, (_, thumb) in turns.items()} == {"answer 0": 0.5, "answer 1": 1.0}
    with job.catalog.transaction() as work:
        signals.record(work, [Signal(turn_id=turns["answer 1"][0].id, kind="thumb", value="down", user="p0")])
    assert {turn.answer: thumb for turn, thumb in calibrate.thumbs(job, "many", 10)} == {"answer 0": 0.5, "answer 1": 0.5}
    assert len(calibrate.thumbs(job, "many", 1)) == 1


def test_too_few_thumbs_are_said_and_the_judge_is_not_paid(job, chat_server):
    _judged("few", [["up"], ["down"], ["up"]], job)
    judge = JudgeRecipe(endpoint=chat_server.endpoint, model="j")
    result = calibrate.run(job, CalibrateRecipe(agent="few", judge=judge))
    assert (result["rho"], result["n"], result["turns"]) == (None, 0, 3)
    assert result["meaning"] == (
        "Too few turns to say how far the judge agrees with people: 3 turns have thumbs, and 10 are the least."
    )
    assert chat_server.requests == []


def test_a_judge_that_cannot_be_had_is_one_sentence(job, chat_server):
    with pytest.raises(InvalidInput, match="A judge is asked for and there is none; give 'judge' an endpoint"):
        calibrate.run(job, CalibrateRecipe(agent="nobody"))
    with pytest.raises(Unavailable, match="The judge is to be the served endpoint, and it does not run"):
        calibrate.run(job, CalibrateRecipe(agent="nobody", judge=JudgeRecipe(endpoint="served")))
    _judged("ill", [["up"]] * 10, job)
    chat_server.answer = lambda request: (500, {"error": {"message": "ill"}})
    judge = JudgeRecipe(endpoint=chat_server.endpoint, model="j", retries=0)
    with pytest.raises(Unavailable, match=r"The judge graded none of 10 turns: .*answered 500: ill"):
        calibrate.run(job, CalibrateRecipe(agent="ill", judge=judge))


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([(1.0, 5), (0.0, 1)] * 8, "much as people do (Spearman +1.00"),
        ([(1.0, 1), (0.0, 5)] * 8, "against people (Spearman -1.00"),
        ([(1.0, 5), (0.0, 1), (1.0, 1), (0.0, 5)] * 4, "by chance alone (Spearman +0.00"),
        ([(1.0, 5), (0.0, 1), (1.0, 5), (0.0, 5)] * 4, "much as people do (Spearman +0.58"),
        ([(1.0, 5), (0.0, 1)] * 14 + [(1.0, 1), (0.0, 5)] * 7, "leans the way people do"),
        ([(1.0, 5), (0.0, 1)] * 36 + [(1.0, 1), (0.0, 5)] * 22, "agrees with people only a little"),
        ([(1.0, 5), (1.0, 1)] * 8, "people gave the same thumb to all"),
        ([(1.0, 5), (0.0, 5)] * 8, "the judge graded all alike"),
        ([(1.0, 5), (0.0, 1)] * 2, "the judge could grade 4 of 12"),
    ],
)
def test_what_a_correlation_means_is_said(pairs, says):
    judged = [JudgedTurn(turn_id=str(number), thumb=thumb, grade=grade) for number, (thumb, grade) in enumerate(pairs)]
    assert says in meaning(judged, max(12, len(pairs)))["meaning"]


def test_the_correlation_is_that_of_mean_ranks():
    # Ranks 1.5 1.5 4 4 4 and 1 2.5 2.5 4 5 about their mean of 3: products sum to 6.25, squares to 7.5 and 9.5.
    found = spearman([0.0, 0.0, 1.0, 1.0, 1.0], [1.0, 2.0, 2.0, 3.0, 4.0])
    assert found is not None
    assert found[0] == pytest.approx(6.25 / (7.5 * 9.5) ** 0.5, abs=1e-9)
