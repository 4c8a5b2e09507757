"""The guard put together: a text and its place in, a verdict out.

Knows nothing of users and conversations: each text is judged alone.
"""

import logging
from pathlib import Path
from typing import Sequence

from cluster.domain.parsing import parse
from cluster.errors import SettingsError, near
from cluster.guarding import leaks
from cluster.guarding.bank import Bank, Hit, Place
from cluster.guarding.classifier import Classifier
from cluster.guarding.plain import readings
from cluster.guarding.policies import BROKEN, CLASSIFIER, Action, GuardTable, Policy, Verdict, worst
from cluster.settings import read_yaml

log = logging.getLogger(__name__)


class Guard:
    """The bank, a policy and perhaps a classifier. ``policy`` names the one that holds where a check names no other."""

    def __init__(self, table: GuardTable, policy: str, classifier: Classifier | None = None) -> None:
        self.table, self.policy, self.classifier = table, policy, classifier
        self.bank = Bank(kinds=table.kinds)
        self.named(policy)

    @classmethod
    def read(cls, path: Path, policy: str = "standard") -> "Guard":
        """The guard of a file. Raises SettingsError with the file, the key and the reason."""
        table: GuardTable = parse(GuardTable, read_yaml(path), str(path), SettingsError)
        return cls(table, policy)

    def taught(self, classifier: Classifier | None) -> "Guard":
        """The same guard with another classifier."""
        made = Guard.__new__(Guard)
        made.table, made.policy, made.bank, made.classifier = self.table, self.policy, self.bank, classifier
        return made

    def named(self, name: str) -> Policy:
        """A policy. Raises SettingsError with the nearest name."""
        if name not in self.table.policies:
            close = near(name, self.table.policies, most=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(self.table.policies)}."
            raise SettingsError(f"There is no guard policy '{name}'; {hint}")
        return self.table.policies[name]

    def check(self, text: str, place: Place, policy: str | None = None) -> Verdict:
        """What is found in a question or a passage, and what the policy does about it. Never raises: a check that breaks lets the text
        pass or blocks it, as the policy says."""
        name = policy or self.policy
        rules = self.named(name).of(place)
        try:
            return self._checked(text, place, name)
        except Exception:  # whatever it is, the policy says what becomes of the text
            log.exception("the guard's check of %s broke", place)
            action: Action = "block" if rules.fail == "closed" else "log"
            return Verdict(place=place, policy=name, action=action, hits=(Hit(kind=BROKEN, pattern=BROKEN, severity="high"),))

    def check_answer(
        self, answer: str, prompt: str = "", sources: Sequence[str] = (), policy: str | None = None
    ) -> tuple[Verdict, str]:
        """The verdict on an answer, and the answer as it may be shown. ``prompt`` is the agent's; ``sources`` are the texts that links
        may come from."""
        name = policy or self.policy
        rules = self.named(name).of("output")
        links = leaks.foreign_links(answer, sources)
        hits = (
            *self.bank.hits(readings(answer)[:1], "output"),
            *leaks.prompt_leaks(answer, prompt),
            *(link.hit for link in links),
        )
        actions = [rules.action(hit.severity) for hit in hits]
        kept = tuple(hit for hit, action in zip(hits, actions, strict=True) if action != "pass")
        verdict = Verdict(place="output", policy=name, action=worst(actions), hits=kept)
        if verdict.action != "block":
            return verdict, answer
        if all(hit.kind == leaks.FOREIGN_LINK for hit in hits if rules.action(hit.severity) == "block"):
            return verdict, leaks.without_links(answer, [link for link in links if rules.action(link.hit.severity) == "block"])
        return verdict, leaks.WITHHELD

    def message(self, verdict: Verdict) -> str:
        """Why a question was refused, in a sentence that names policy and patterns."""
        rules = self.named(verdict.policy).of(verdict.place)
        blocking = [hit for hit in verdict.hits if hit.kind in self.table.kinds and rules.action(hit.severity) == "block"]
        said = self.table.kinds[blocking[0].kind].message if blocking else _UNSURE.get(_last(verdict), _UNSURE[CLASSIFIER])
        names = ", ".join(hit.pattern for hit in blocking[:3]) or _last(verdict)
        return f"{said} (guard policy '{verdict.policy}': {names})"

    def _checked(self, text: str, place: Place, name: str) -> Verdict:
        rules = self.named(name).of(place)
        told = readings(text)
        found = self.bank.hits(told, place)
        actions = {hit: rules.action(hit.severity) for hit in found}
        kept = [hit for hit, action in actions.items() if action != "pass"]
        score, action = self._classified(told, place, found, name)
        if action != "pass":
            kept.append(Hit(kind=CLASSIFIER, pattern=CLASSIFIER, severity="high" if action == "block" else "medium"))
        return Verdict(place=place, policy=name, action=worst([*actions.values(), action]), hits=tuple(kept), score=score)

    def _classified(self, told: Sequence[str], place: Place, hits: Sequence[Hit], name: str) -> tuple[float | None, Action]:
        rates = self.named(name).of(place).classifier
        if self.classifier is None or place not in self.classifier.heads or (rates.block is None and rates.flag is None):
            return None, "pass"
        score = self.classifier.score(place, told[0], hits)
        head = self.classifier.heads[place]
        if rates.block is not None and score > head.threshold(rates.block):
            return score, "block"
        return score, "flag" if rates.flag is not None and score > head.threshold(rates.flag) else "pass"


_UNSURE = {
    CLASSIFIER: "The question reads like an attack on the agent and is not answered; word it differently.",
    BROKEN: "The question could not be checked and is not answered; ask again.",
}


def _last(verdict: Verdict) -> str:
    return verdict.hits[-1].kind if verdict.hits else CLASSIFIER
