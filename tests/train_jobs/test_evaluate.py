"""Evaluation over HTTP, against a scripted server: scores, retries, and what is never recorded."""

import asyncio
import json
from typing import Any, Callable

import httpx
import pytest

from cluster.domain.questions import Question, QuestionResult
from cluster.errors import NotFound, Unavailable
from train_jobs import evaluate

Answer = Callable[[dict[str, Any]], httpx.Response]


class ScriptedServer:
    """Answers as the gateway would, from a function of the request's body; keeps the bodies."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append(body)
        return self._answer(body)


def said(text: str, **treadle: Any) -> httpx.Response:
    message = {"role": "assistant", "content": text}
    return httpx.Response(200, json={"choices": [{"index": 0, "message": message}], "treadle": treadle})


def ask(server: ScriptedServer, *asked: Question, model: str = "a@0.1.0", retrieve: bool = True) -> tuple[QuestionResult, ...]:
    async def go() -> tuple[QuestionResult, ...]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(server), base_url="http://gateway") as client:
            return await evaluate.ask_all(client, model, asked, retrieve, 4, lambda count: None)

    return asyncio.run(go())


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_BACKOFF_SECONDS", 0.001)


def test_each_kind_is_scored_by_its_own_measure() -> None:
    answers = {
        "exact": said("The  door is open. [1]"),
        "contains": said("Surely in River Bend, yes."),
        "regex": said("find /tmp -size +5M"),
        "rules": said("Hm.", validation={"passed": False, "failures": ["has_action"]}),
        "route": said("x", agent="linux", route={"out_of_scope": False}),
        "route none": said("x", agent="linux", route={"out_of_scope": True}),
    }
    asked = [
        Question(id="1", text="exact", kind="exact", expected="The door is open."),
        Question(id="2", text="contains", kind="contains", expected="river bend", slices=("facts",)),
        Question(id="3", text="regex", kind="regex", expected=r"-size \+\d+M"),
        Question(id="4", text="rules", kind="rules"),
        Question(id="5", text="route", kind="route", expected="python"),
        Question(id="6", text="route none", kind="route", expected=None),
    ]
    server = ScriptedServer(lambda body: answers[body["messages"][0]["content"]])
    results = ask(server, *asked)
    assert [result.passed for result in results] == [True, True, True, False, False, True]
    assert [result.question_id for result in results] == ["1", "2", "3", "4", "5", "6"]
    assert results[3].detail == "has_action"
    assert (results[4].answer, results[5].answer) == ("linux", "")
    assert results[1].slices == ("facts",)


def test_questions_are_never_recorded_and_retrieval_is_as_asked() -> None:
    server = ScriptedServer(lambda body: said("e"))
    ask(server, Question(id="1", text="q", expected="e"), retrieve=False)
    assert server.asked[0]["treadle"] == {"retrieve": False, "record": False}
    assert server.asked[0]["model"] == "a@0.1.0"


def test_a_busy_server_is_asked_again() -> None:
    tries: list[int] = []

    def answer(body: dict[str, Any]) -> httpx.Response:
        tries.append(1)
        return httpx.Response(503, json={"error": {"message": "starting"}}) if len(tries) < 3 else said("e")

    assert ask(ScriptedServer(answer), Question(id="1", text="q", expected="e"))[0].passed


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        (404, NotFound, "'a@0.1.0' cannot be evaluated: There is no such model."),
        (401, Unavailable, "Question '1' to 'a@0.1.0' was not answered: There is no such model."),
        (500, Unavailable, "Question '1' to 'a@0.1.0' was not answered: There is no such model."),
    ],
)
def test_an_error_ends_it_with_the_servers_words(status: int, error: type[Exception], sentence: str) -> None:
    server = ScriptedServer(lambda body: httpx.Response(status, json={"error": {"message": "There is no such model."}}))
    with pytest.raises(error) as raised:
        ask(server, Question(id="1", text="q", expected="e"))
    assert str(raised.value) == sentence
    assert len(server.asked) == (4 if status == 500 else 1)
