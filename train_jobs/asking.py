"""Questions to the served endpoint, or to an engine of the job's own, which speaks the same: many at a time, each failing for itself."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from cluster.domain.questions import Question, QuestionResult
from cluster.errors import NotFound, Unavailable
from train_jobs.scoring import Said, Scorer

ATTEMPTS = 4
BACKOFF_SECONDS = 0.5
MOST_IN_A_ROW = 20
TIMEOUT_SECONDS = 180.0
_ENDS_ALL = (401, 403)
Heard = Callable[[QuestionResult], None]


class Asker:
    """Asks one release. ``scorer`` judges what it says."""

    def __init__(self, client: httpx.AsyncClient, model: str, retrieve: bool, scorer: Scorer) -> None:
        self._client, self._model, self._retrieve, self._scorer = client, model, retrieve, scorer
        self._answered, self._failed_in_a_row = 0, 0

    async def ask_all(self, asked: Sequence[Question], concurrency: int, heard: Heard) -> list[QuestionResult]:
        """All questions, ``concurrency`` at a time, results in their order; ``heard`` gets each as it comes.

        A question that gets no answer is a result of its own and loses no other. Raises NotFound when the release is not there, and
        Unavailable when the key is refused, when no question at all is answered, and when so many in a row fail (20, or twice those
        under way) that the rest would too.
        """
        places = asyncio.Semaphore(concurrency)
        most = max(MOST_IN_A_ROW, 2 * concurrency)

        async def one(question: Question) -> QuestionResult:
            async with places:
                result = await self.ask(question)
            self._count(result, most)
            heard(result)
            return result

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(question)) for question in asked]
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        results = [task.result() for task in tasks]
        if results and not self._answered:
            raise Unavailable(self._sentence(results[0]))
        return results

    def _count(self, result: QuestionResult, most: int) -> None:
        self._answered += result.answered
        self._failed_in_a_row = 0 if result.answered else self._failed_in_a_row + 1
        if self._failed_in_a_row >= most:
            raise Unavailable(
                f"{self._sentence(result).rstrip('.')}; {most} questions in a row had this fate, so the rest was not asked. "
                "What a release has answered is kept: run it again to go on."
            )

    def _sentence(self, result: QuestionResult) -> str:
        return f"Question '{result.question_id}' to '{self._model}' was not answered: {result.detail.partition(': ')[2]}"

    async def ask(self, question: Question) -> QuestionResult:
        """Ask one question; busy or restarting servers are asked again. Raises NotFound or Unavailable, with the server's own words, for
        what every other question would meet too."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": question.text}],
            "treadle": {
                "retrieve": self._retrieve,
                "record": False,
                "open_only": True,
            },  # answers are shown to whoever may see results
        }
        if question.kind == "route":
            body["max_tokens"] = 1  # only who answers is looked at
        said = "no answer"
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(BACKOFF_SECONDS * 2**attempt)
            start = time.perf_counter()
            try:
                answer = await self._client.post("/v1/chat/completions", json=body)
                latency = time.perf_counter() - start
                heard = Said.of(answer.json()) if answer.status_code == 200 else None
            except httpx.HTTPError as error:
                said = f"{type(error).__name__}: {error}"
                continue
            except ValueError:
                said = "the answer is no chat completion"
                continue
            if heard is not None:
                return await self._scorer.result(question, heard, latency)
            said = _words(answer)
            if answer.status_code == 404:
                raise NotFound(f"'{self._model}' cannot be evaluated: {said}")
            if answer.status_code in _ENDS_ALL:
                raise Unavailable(f"Question '{question.id}' to '{self._model}' was not answered: {said}")
            if answer.status_code < 500 and answer.status_code != 429:
                return _failed(question, f"refused: {said}", answered=True)
        return _failed(question, f"not answered: {said}", answered=False)


def _failed(question: Question, detail: str, answered: bool) -> QuestionResult:
    return QuestionResult(
        question_id=question.id, answer="", passed=False, slices=question.slices, detail=detail, answered=answered
    )


def _words(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code} {answer.text[:120]}"
