"""From an answer to a result: every kind of expectation, those that need a model included."""

import asyncio
from functools import cached_property, lru_cache
from typing import Any

from cluster.domain.base import Frozen
from cluster.domain.expectations import printable, uncited
from cluster.domain.questions import Question, QuestionResult, QuestionSet, passes
from cluster.domain.recipes import JudgeRecipe
from cluster.embedding import Embedder, Vectors
from cluster.errors import InvalidInput, Unavailable
from cluster.job_run import JobRun
from train_jobs.judging import NO_JUDGE, Graded, Judge, judge_name, open_judge


class Said(Frozen):
    """What a chat completion of the gateway says, as far as it is judged: ``agent`` is who answered, "" for out of scope; ``valid`` and
    ``broken`` what the agent's rules said of it."""

    text: str
    agent: str = ""
    valid: bool = False
    broken: tuple[str, ...] = ()

    @classmethod
    def of(cls, body: Any) -> "Said":
        """From a response's body. Raises ValueError for what is no chat completion."""
        try:
            text, about = str(body["choices"][0]["message"]["content"] or ""), body.get("treadle") or {}
            verdict, route = about.get("validation") or {}, about.get("route") or {}
            return cls(
                text=printable(text),
                agent="" if route.get("out_of_scope") else str(about.get("agent") or ""),
                valid=bool(verdict.get("passed")),
                broken=tuple(str(name) for name in verdict.get("failures") or ()),
            )
        except (KeyError, IndexError, TypeError, AttributeError):
            raise ValueError("the answer is no chat completion") from None


class Scorer:
    """Judges answers. Opens an embedder or a judge when a question first needs one; ``served`` is the address of the served endpoint,
    for a judge that is it. Belongs to one event loop; close it."""

    def __init__(self, job: JobRun, judge: JudgeRecipe, served: str) -> None:
        self._job, self._recipe, self._served = job, judge, served
        self._opened: Judge | None = None
        self._embed = lru_cache(maxsize=4096)(self._embedded)
        self._embedding = asyncio.Lock()

    async def result(self, question: Question, said: "Said", latency: float) -> QuestionResult:
        """The result of one answer. Rules are judged as they were when it was served; a route by the agent that answered ("" for none)."""
        text = said.agent if question.kind == "route" else said.text
        made = QuestionResult(
            question_id=question.id, answer=text, passed=False, latency_s=round(latency, 4), slices=question.slices
        )
        match question.kind:
            case "rules":
                passed, detail = said.valid, ", ".join(said.broken)
            case "similarity":
                return made.model_copy(update=await self._similar(question, text))
            case "judge":
                return made.model_copy(update=await self._graded(question, text))
            case _:
                passed, detail = passes(question, text)
        return made.model_copy(update={"passed": passed, "score": float(passed), "detail": detail})

    async def _similar(self, question: Question, answer: str) -> dict[str, Any]:
        said = uncited(answer, " ".join(question.references))
        if not said:
            return {"detail": "the answer is empty"}
        async with self._embedding:
            vector = await asyncio.to_thread(self._embed, (said,))
            known = await asyncio.to_thread(self._embed, question.references)
        cosine = min(1.0, float((known @ vector[0]).max()))
        passed = cosine >= question.passes_from
        detail = f"cosine {cosine:.3f} to the nearest reference, {'at least' if passed else 'below'} {question.passes_from:g}"
        return {"passed": passed, "score": max(0.0, cosine), "detail": detail}

    async def _graded(self, question: Question, answer: str) -> dict[str, Any]:
        graded = Graded(question=question.text, answer=answer, references=question.references, criteria=question.criteria)
        try:
            grade = await self._judge.grade(graded)
        except (Unavailable, InvalidInput) as error:
            return {"answered": False, "detail": f"not graded: {error.message}"}
        if grade is None:
            return {"answered": False, "detail": "not graded: the judge's answer could not be read"}
        detail = f"grade {grade.value} of 5: {grade.reason}".removesuffix(": ")
        return {"passed": grade.value >= question.passes_from, "score": grade.score, "detail": detail}

    @property
    def _judge(self) -> Judge:
        if self._opened is None:
            self._opened = open_judge(self._job, self._recipe, self._served)
        return self._opened

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self._job.settings.models.embedder.location)

    def _embedded(self, texts: tuple[str, ...]) -> Vectors:
        return self._embedder.embed(texts)

    async def close(self) -> None:
        """Closes the judge."""
        if self._opened is not None:
            await self._opened.close()


def graders(job: JobRun, asked: QuestionSet, judge: JudgeRecipe) -> dict[str, str]:
    """The models that a set's answers are judged by, as an evaluation's options name them. Raises InvalidInput where the set asks for a
    judge and there is none: better before the first question than at its answer."""
    kinds = {question.kind for question in asked.questions}
    named: dict[str, str] = {}
    if "similarity" in kinds:
        named["embedder"] = job.settings.models.embedder.name
    if "judge" in kinds:
        name = judge_name(job, judge)
        if name is None:
            raise InvalidInput(f"Question set '{asked.name}' asks for a judge and there is none; {NO_JUDGE}.")
        named["judge"] = name
    return named
