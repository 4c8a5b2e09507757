"""The guard in traffic: who asked, what was found, what becomes of it.

Judging texts is ``cluster.guarding``'s; here verdicts become refusals, left-out passages, events and alerts, and a user who trips it
again and again is held to a stricter policy for a while. Counts are of this process: with several Router replicas each counts its own.
"""

import asyncio
import time
from collections import OrderedDict, deque
from typing import Callable, Literal, Sequence

from cluster.domain.conversations import Citation
from cluster.domain.guard_events import GuardEvent
from cluster.errors import GuardBlocked
from cluster.guarding.checks import Guard
from cluster.guarding.classifier import Classifier
from cluster.guarding.policies import Verdict

LONG = 8000
"""Characters from which a text is checked off the event loop."""
REMEMBERED = 4096
"""Passages whose verdicts are kept: the same ones are retrieved again and again."""
MOST_USERS = 10_000
Note = Callable[[GuardEvent], None]


class Anomalies:
    """How often each user was blocked or flagged of late, and who is held to a stricter policy until when."""

    def __init__(self, guard: Guard, clock: Callable[[], float] = time.monotonic) -> None:
        self._guard, self._clock = guard, clock
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()
        self._held: dict[str, tuple[str, float]] = {}

    def policy(self, user: str, own: str | None = None) -> str:
        """The policy that holds for the user now: a stricter one for a while, ``own`` (the asked agent's), or the guard's."""
        name, until = self._held.get(user, ("", 0.0))
        if self._clock() < until:
            return name
        self._held.pop(user, None)
        return own or self._guard.policy

    def count(self, user: str) -> str | None:
        """Note a blocked or flagged request; the stricter policy when this one was too many."""
        present = self.policy(user)
        rule = self._guard.named(present).anomaly
        if rule is None:
            return None
        moment = self._clock()
        times = self._seen.setdefault(user, deque())
        self._seen.move_to_end(user)
        times.append(moment)
        while times and times[0] <= moment - rule.window_seconds:
            times.popleft()
        if len(self._seen) > MOST_USERS:
            self._seen.popitem(last=False)
        if len(times) < rule.events:
            return None
        times.clear()
        self._held[user] = (rule.then, moment + rule.window_seconds)
        return rule.then


class GuardPost:
    """A guard with its counters. ``note`` takes events, and never waits."""

    def __init__(self, guard: Guard, note: Note, clock: Callable[[], float] = time.monotonic) -> None:
        self._guard, self._note = guard, note
        self._anomalies = Anomalies(guard, clock)
        self._passages: OrderedDict[tuple[str, str], Verdict] = OrderedDict()

    @property
    def classified(self) -> bool:
        """Whether a trained classifier is in use."""
        return self._guard.classifier is not None

    def adopt(self, classifier: Classifier | None) -> None:
        """Take another classifier into use; None: patterns alone."""
        self._guard = self._guard.taught(classifier)
        self._passages.clear()

    def known(self, policy: str) -> None:
        """Raises SettingsError when there is no policy of that name."""
        self._guard.named(policy)

    async def question(self, user: str, texts: Sequence[str], own: str | None = None) -> tuple[str, ...]:
        """The kinds that the texts of one request were flagged for; ``own``: the policy of who is asked. Raises GuardBlocked at the
        first text that is refused."""
        policy = self._anomalies.policy(user, own)
        flags: list[str] = []
        for text in texts:
            if len(text) > LONG:
                verdict = await asyncio.to_thread(self._guard.check, text, "input", policy)
            else:
                verdict = self._guard.check(text, "input", policy)
            self._tell(user, verdict)
            if verdict.action == "block":
                raise GuardBlocked(self._guard.message(verdict))
            if verdict.action == "flag":
                flags += verdict.kinds
        return tuple(dict.fromkeys(flags))

    def passages(self, user: str, found: Sequence[Citation]) -> tuple[tuple[Citation, ...], tuple[str, ...]]:
        """The passages that stay, numbered anew, and flags that say what was found in the others."""
        policy = self._anomalies.policy(user)
        kept: list[Citation] = []
        flags: list[str] = []
        for one in found:
            verdict = self._passage(one.text, policy)
            if verdict.action in ("block", "flag"):
                flags += [f"passage:{kind}" for kind in verdict.kinds]
            if verdict.action == "block":
                self._tell(user, verdict, about=one.passage_id, counts=False)  # the document's doing, not the user's
                continue
            kept.append(one.model_copy(update={"number": len(kept) + 1}))
        return tuple(kept), tuple(dict.fromkeys(flags))

    def answer(
        self, user: str, answer: str, prompt: str, sources: Sequence[str], agent: str, sent: bool
    ) -> tuple[str, tuple[str, ...]]:
        """The answer as it may be shown, and its flags. One that is ``sent`` already (a stream) can only be flagged."""
        verdict, shown = self._guard.check_answer(answer, prompt, sources, self._anomalies.policy(user))
        self._tell(user, verdict, agent, counts=False)
        flags = verdict.kinds if verdict.action in ("block", "flag") else ()
        return (answer if sent else shown), tuple(f"answer:{kind}" for kind in flags)

    def _passage(self, text: str, policy: str) -> Verdict:
        known = self._passages.get((policy, text))
        if known is None:
            known = self._passages[policy, text] = self._guard.check(text, "passages", policy)
            if len(self._passages) > REMEMBERED:
                self._passages.popitem(last=False)
        return known

    def _tell(self, user: str, verdict: Verdict, agent: str | None = None, about: str = "", counts: bool = True) -> None:
        if verdict.action == "pass":
            return
        self._note(_event(user, verdict, verdict.action, agent, about))
        if not counts or verdict.action == "log":
            return
        stricter = self._anomalies.count(user)
        if stricter is not None:
            self._note(_event(user, verdict.model_copy(update={"policy": stricter}), "anomaly", agent, about))


def _event(
    user: str, verdict: Verdict, action: Literal["log", "flag", "block", "anomaly"], agent: str | None, about: str
) -> GuardEvent:
    return GuardEvent(
        user=user,
        place=verdict.place,
        policy=verdict.policy,
        action=action,
        kinds=verdict.kinds,
        patterns=tuple(hit.pattern for hit in verdict.hits),
        score=None if verdict.score is None else round(verdict.score, 3),
        agent=agent,
        about=about,
    )
