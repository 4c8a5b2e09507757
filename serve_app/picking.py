"""Who answers ``auto``: whom the person asks for, who answered last, whom the router's head picks, or the default agent.

A conversation stays with its agent unless the head is sure of another one: most of what follows an answer ("and how do I undo that?") is
for nobody by itself. What the person may not use is never picked, offered or named.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cluster.domain.agents import Agent
from cluster.domain.conversations import Message, Route
from cluster.errors import Unavailable
from serve_app.ask import Ask
from serve_app.asking_back import choice_of, offered_in, question_back
from serve_app.handover import NOT_HANDED_OVER, wanted
from serve_app.releases import LiveReleases, Speaker
from serve_app.router import RouterHead, default_route

SURE = 0.7
"""How much likelier than the last agent another one must be to take a conversation over (calibrated probabilities)."""

CLOSE = 0.2
"""Two agents whose probabilities differ by less are nearly as likely."""

Vector = NDArray[np.float32]
Embed = Callable[[list[str]], Awaitable[Vector]]


@dataclass(frozen=True, slots=True)
class Pick:
    """Who answers what, and why. ``vector`` is the question's where it was needed; ``sentence`` is said in place of an answer; ``handed``
    says that an agent has handed the question over already."""

    ask: Ask
    speaker: Speaker
    route: Route
    vector: Vector | None = None
    sentence: str | None = None
    handed: bool = False


class Picker:
    """Picks for one question. Make one for each: it holds nothing but the parts."""

    def __init__(self, ask: Ask, live: LiveReleases, head: RouterHead | None, embed: Embed) -> None:
        self._ask, self._live, self._head, self._embed = ask, live, head, embed

    @cached_property
    def _open(self) -> set[str]:
        return self._live.routable(self._ask)

    async def pick(self) -> Pick:
        """Raises Unavailable when there is no agent, and NotFound for a handover to one that is not there for this person."""
        ask, live = self._ask, self._live
        default = live.default(ask)
        if default is None:
            raise Unavailable("There is no agent yet to answer 'auto'; create one with: treadle agents create")
        if ask.handover is not None:
            if ask.handover not in live.agents or not live.may(ask.handover, ask):
                raise await live.unknown(ask.handover, ask)
            return self._handed(ask.handover, ask)
        wish = wanted(ask.question, self._cards)
        if wish is not None:
            return self._wished(*wish)
        asked = self._asked_back()
        if asked is None and ask.last is None and self._head is None:
            return Pick(ask, live.champion(default.name), default_route(default.name))
        if asked is not None:
            chosen = choice_of(ask.question, [live.shown(name) for name in asked[0]])
            if chosen is not None:
                ask = asked_before(ask, asked[1])
                return Pick(ask, live.champion(chosen), Route(agent=chosen, chosen_by="reply"))
        held = self._held(asked is not None)
        if self._head is None:
            route = default_route(default.name) if held is None else Route(agent=held, chosen_by="conversation")
            return Pick(ask, live.champion(route.agent), route)
        return await self._routed(self._head, default.name, held, asked)

    def _cards(self) -> list[Agent]:
        return [self._live.shown(name) for name in sorted(self._open)]

    def _handed(self, name: str, ask: Ask) -> Pick:
        return Pick(ask, self._live.champion(name), Route(agent=name, chosen_by="handover", handed_from=self._held(asked=False)))

    def _wished(self, name: str, question: str) -> Pick:
        if question:
            return self._handed(name, asked_before(self._ask, question, 0))
        pick = self._handed(name, self._ask)
        card = pick.speaker.card
        route = pick.route.model_copy(update={"sentence": "handed_over"})
        return replace(
            pick, route=route, sentence=f"{card.display_name or card.name} answers from here on; what is your question?"
        )

    def _asked_back(self) -> tuple[list[str], str] | None:
        """The agents that the last turn offered to the person, as far as they still may, and the question that it was about."""
        ask, last = self._ask, self._ask.last
        if ask.thread:
            return None
        if last is not None:
            offered = [name for name in last.route.offered if name in self._open]
            return (offered, last.question) if offered else None
        if len(ask.history) < 2 or [one.role for one in ask.history[-2:]] != ["user", "assistant"]:
            return None
        offered = offered_in(ask.history[-1].content, self._cards)
        return (offered, ask.history[-2].content) if offered else None

    def _held(self, asked: bool) -> str | None:
        """Who answered last and may go on."""
        last = self._ask.last
        if asked or last is None or last.route.sentence == "asked_back":
            return None
        return last.agent if last.agent in self._live.agents and self._live.may(last.agent, self._ask) else None

    async def _routed(self, head: RouterHead, default: str, held: str | None, asked: tuple[list[str], str] | None) -> Pick:
        ask, live = self._ask, self._live
        vector = (await self._embed([ask.question]))[0]
        route = head.route(vector, ask.question, self._open, default)
        if held is not None:
            route = staying(route, held)
        elif route.out_of_scope:
            before = asked[1] if asked else _question_before(ask)
            whole = f"{before}\n{ask.question}" if before else ""
            if whole:
                joined = head.route((await self._embed([whole]))[0], whole, self._open, default)
                route = joined if not joined.out_of_scope else route
                if asked and not joined.out_of_scope:
                    ask, vector = asked_before(ask, whole), None
        if not ask.tools and ask.extra is None and not asked:
            back = self._question_back(route)
            if back is not None:
                return Pick(ask, live.champion(route.agent), back[1], vector, back[0])
        return Pick(ask, live.champion(route.agent), route, vector)

    def _question_back(self, route: Route) -> tuple[str, Route] | None:
        """What the person is asked where the settings say so, and the route that says it. Never twice in a row, and never of one."""
        settings, by_score = self._live.service, sorted(self._open, key=lambda name: -route.scores.get(name, 0.0))
        if len(by_score) < 2:
            return None
        if route.out_of_scope and settings.out_of_scope == "ask":
            cards = [self._live.shown(name) for name in by_score]
        elif route.chosen_by == "router" and settings.close_call == "ask" and _close(route, by_score):
            cards = [self._live.shown(name) for name in by_score[:2]]
        else:
            return None
        text, offered = question_back(cards, unsure=not route.out_of_scope)
        return text, route.model_copy(update={"sentence": "asked_back", "offered": offered})


def _close(route: Route, by_score: list[str]) -> bool:
    first, second = (route.scores.get(name, 0.0) for name in by_score[:2])
    return first - second < CLOSE


def staying(route: Route, held: str) -> Route:
    """The route of a conversation that ``held`` answers: another agent's only where the head is sure of it."""
    lead = route.scores.get(route.agent, 0.0) - route.scores.get(held, 0.0)
    if route.chosen_by == "router" and (route.agent == held or lead >= SURE):
        return route
    return route.model_copy(update={"agent": held, "chosen_by": "conversation", "out_of_scope": False})


def _question_before(ask: Ask) -> str:
    """What a client that names no conversation sent as the person's last question."""
    return next((one.content for one in reversed(ask.history) if one.role == "user"), "")


def asked_before(ask: Ask, question: str, gone: int = 2) -> Ask:
    """The same with another question: that of before, which with the question back to it is no history then."""
    rest = list(ask.messages[:-1])
    if gone and [one.role for one in rest[-gone:]] == ["user", "assistant"] and rest[-gone].content in question:
        rest = rest[:-gone]
    return replace(ask, messages=(*rest, Message(role="user", content=question)))


def handed_on(pick: Pick, to: str, ask: Ask, live: LiveReleases) -> Pick | None:
    """Who answers in the place of an agent whose whole answer was a marker; None where it is to be shown: a pinned release answers as it
    was evaluated. Once a turn, to whom its card names, and only to whom the person may use; else a sentence takes the marker's place."""
    card = pick.speaker.card
    route = pick.route.model_copy(update={"chosen_by": "handover", "handed_from": card.name, "agent": to})
    may = to in card.hands_over_to and to in live.agents and live.may(to, ask)
    if not may or pick.handed:
        return replace(pick, route=pick.route.model_copy(update={"sentence": "not_handed_over"}), sentence=NOT_HANDED_OVER)
    return None if "@" in ask.model else replace(pick, speaker=live.champion(to), route=route, handed=True)
