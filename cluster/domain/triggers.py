"""Whether an agent is to be trained now, and why: one pure decision over what is known, each input's part in it explained.

What makes a training worth its time is that something was not learnt yet: rows, a base, a prompt, a recipe, or thirty days of age. Answers
that got worse make small amounts of new rows count; with nothing new at all, training again would give the same adapter, and the
decision says so instead. It promises nothing about the result: that is the gate's to say.
"""

import math
from datetime import datetime, timedelta
from typing import Literal, Sequence

from pydantic import Field

from cluster.domain.base import Frozen
from cluster.domain.releases import STALE_AFTER
from cluster.domain.versions import Bump

Does = Literal["train", "renew", "wait", "nothing"]


class TriggerRecipe(Frozen):
    """The thresholds. Shares and rates are 0 to 1."""

    min_new_rows: int = Field(default=8, ge=1, description="rows that are new or gone, below which data alone is no reason")
    min_new_share: float = Field(default=0.01, ge=0.0, le=1.0, description="the same, as a share of the rows there are now")
    min_pairs: int = Field(default=8, ge=1, description="rows from judgements that wait, below which they alone are no reason")
    alpha: float = Field(default=0.001, gt=0.0, lt=0.5, description="chance of calling an unchanged rate worse, at one look")
    min_answers: int = Field(default=30, ge=1, description="answers (or thumbs) on each side, below which rates are not compared")
    min_rise: float = Field(default=0.05, ge=0.0, le=1.0, description="a smaller rise of a rate is no reason, however sure")
    window_days: int = Field(default=14, ge=1, description="what counts as now, when the release is older")
    min_regressions: int = Field(default=1, ge=1, description="regression questions that newly fail")
    stale_days: float = Field(default=STALE_AFTER / timedelta(days=1), gt=0)
    min_hours: float = Field(default=0.0, ge=0.0, description="between two trainings; a new base or prompt does not wait")
    backoff_days: float = Field(default=7.0, ge=0.0, description="after a challenger the gate kept, doubled with each in a row")

    def enough(self, changed: int, rows: int) -> bool:
        """Whether so many rows that changed, of so many, are a reason."""
        return changed >= self.min_new_rows and changed >= self.min_new_share * rows


class Rates(Frozen):
    """How often something bad happened before the release (or the window) and since: ``bad`` of ``n``."""

    bad_before: int = 0
    n_before: int = 0
    bad_since: int = 0
    n_since: int = 0


class Known(Frozen):
    """What is known of an agent and one way of training it. ``new_rows`` and ``gone_rows`` are those of the recipe's datasets now against
    what the champion learnt; ``pairs`` are rows made of judgements that it has not learnt."""

    agent: str
    moment: datetime
    champion: str | None = None
    champion_at: datetime | None = None
    waiting: str | None = Field(default=None, description="a challenger that no gate has judged and that learnt just this")
    kept: str | None = Field(default=None, description="the newest release that was tried since the champion and not taken")
    kept_in_a_row: int = 0
    untried: int = Field(default=0, description="new or gone rows against what this one learnt")
    untried_pairs: int = 0
    trained_at: datetime | None = Field(default=None, description="when the newest release was made, promoted or not")
    rows: int = 0
    new_rows: int = 0
    gone_rows: int = 0
    pairs: int = 0
    forgets: str | None = Field(default=None, description="why the champion holds what is to be forgotten")
    base_changed: bool = False
    contract_changed: bool = False
    prompt_changed: bool = False
    recipe_changed: bool = False
    agents_changed: tuple[str, ...] = Field(default=(), description="for the router: whose cards are newer than the head")
    card_changed: bool = False
    indexes_changed: tuple[str, ...] = ()
    failures: Rates = Rates()
    thumbs_down: Rates = Rates()
    regressions: int = 0


class Ground(Frozen):
    """One input's part in the decision. ``says``: for training, against it, or nothing either way."""

    name: str
    says: Literal["for", "against", "nothing"]
    why: str


class Decision(Frozen):
    """``does`` is train, renew (release the same adapter with the card and indexes of now), wait (for the gate) or nothing."""

    agent: str
    does: Does
    bump: Bump | None = None
    grounds: tuple[Ground, ...] = Field(min_length=1)

    @property
    def train(self) -> bool:
        return self.does == "train"

    @property
    def why(self) -> tuple[str, ...]:
        """The sentences that carried the decision: what speaks for it, or what speaks against, or that nothing does."""
        if self.does in ("train", "renew"):
            return tuple(one.why for one in self.grounds if one.says == "for")
        return tuple(one.why for one in self.grounds if one.says == "against") or tuple(one.why for one in self.grounds)


def more_often(rates: Rates) -> float:
    """The chance of at least ``bad_since`` by luck when both rates are one: Fisher's exact test, one-sided (R. A. Fisher, Statistical
    Methods for Research Workers, 5th ed. 1934, section 21.02), the upper tail of the hypergeometric distribution. 1.0 without answers."""
    bad, n = rates.bad_before + rates.bad_since, rates.n_before + rates.n_since
    if not rates.n_since or not rates.n_before:
        return 1.0

    def log_choose(of: int, some: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)

    most = min(bad, rates.n_since)
    ways = log_choose(n, rates.n_since)
    tail = (
        math.exp(log_choose(bad, k) + log_choose(n - bad, rates.n_since - k) - ways)
        for k in range(rates.bad_since, most + 1)
        if rates.n_since - k <= n - bad
    )
    return min(1.0, math.fsum(tail))


def decide(known: Known, recipe: TriggerRecipe | None = None) -> Decision:
    """Whether to train ``known.agent`` now. Every input leaves a ground, in the order in which they are weighed."""
    rules = recipe or TriggerRecipe()
    if known.waiting is not None:
        why = f"{known.waiting} has learnt just this and waits for the gate"
        return Decision(agent=known.agent, does="wait", grounds=(Ground(name="gate", says="against", why=why),))
    if known.champion is None and known.kept is None:
        ground = Ground(name="first", says="for", why=f"'{known.agent}' has no release yet")
        return Decision(agent=known.agent, does="train", bump="patch", grounds=(ground,))
    grounds = [*_made_of(known), *_data(known, rules), _age(known, rules), *_performance(known, rules)]
    wanted = any(one.says == "for" for one in grounds)
    held = _held_back(known, rules, grounds) if wanted else None
    if wanted and held is None:
        return Decision(agent=known.agent, does="train", bump=_bump(known), grounds=tuple(grounds))
    if held is not None:  # what spoke for it is said, and does not carry it
        grounds = [one.model_copy(update={"says": "nothing"}) if one.says == "for" else one for one in grounds]
    grounds += [_renewal(known), *([held] if held else [])]
    does: Does = "renew" if _renewal(known).says == "for" else "nothing"
    return Decision(agent=known.agent, does=does, bump="patch" if does == "renew" else None, grounds=tuple(grounds))


def _ground(name: str, counts: bool, yes: str, no: str) -> Ground:
    return Ground(name=name, says="for" if counts else "nothing", why=yes if counts else no)


def _made_of(known: Known) -> list[Ground]:
    """What makes the champion wrong as it is: it does not wait for an interval."""
    contract = known.contract_changed or known.prompt_changed
    return [
        _ground("base", known.base_changed, "the base model is another one", "the base model is the same"),
        _ground("prompt", contract, "the prompt or its form is new", "the prompt is the same"),
        _ground("recipe", known.recipe_changed, "the recipe is new", "the recipe is the same"),
        _ground("agents", bool(known.agents_changed), f"new to the head: {', '.join(known.agents_changed)}", "no card is newer"),
        _ground("forgetting", known.forgets is not None, f"it {known.forgets}", "it holds nothing that is to be forgotten"),
    ]


def _data(known: Known, rules: TriggerRecipe) -> list[Ground]:
    changed, total = known.new_rows + known.gone_rows, max(1, known.rows)
    share = changed / total
    words = f"{known.new_rows} new and {known.gone_rows} gone rows ({share:.1%} of {known.rows})"
    enough = rules.enough(changed, known.rows)
    bound = f"fewer than {rules.min_new_rows} or than {rules.min_new_share:.1%}"
    no = f"{words}: {bound}" if changed else f"no row of {known.rows} is new"
    pairs = known.pairs >= rules.min_pairs
    few = f"{known.pairs} rows from judgements wait: fewer than {rules.min_pairs}" if known.pairs else "no judgements wait"
    return [
        _ground("data", enough, words, no),
        _ground("judgements", pairs, f"{known.pairs} rows from judgements are not learnt yet", few),
    ]


def _age(known: Known, rules: TriggerRecipe) -> Ground:
    since = max((one for one in (known.champion_at, known.trained_at) if one is not None), default=known.moment)
    days = (known.moment - since) / timedelta(days=1)
    bound = f"{rules.stale_days:g} days"
    yes = f"the newest training is {days:.0f} days old: more than {bound}"
    return _ground("age", days > rules.stale_days, yes, f"trained {days:.0f} days ago: within {bound}")


def _performance(known: Known, rules: TriggerRecipe) -> list[Ground]:
    """Answers that got worse speak for training only where there is something to learn from."""
    something = bool(known.new_rows + known.gone_rows + known.pairs)
    grounds = [
        _worse("failures", "failed validations", known.failures, rules, something),
        _worse("thumbs", "thumbs down", known.thumbs_down, rules, something),
    ]
    failing = known.regressions >= rules.min_regressions
    words = f"{known.regressions} regression questions newly fail"
    no = f"{words}: fewer than {rules.min_regressions}" if known.regressions else "no regression question newly fails"
    return [*grounds, _for_or_idle("regression", failing, words, no, something)]


def _worse(name: str, what: str, rates: Rates, rules: TriggerRecipe, something: bool) -> Ground:
    if min(rates.n_before, rates.n_since) < rules.min_answers:
        few = f"{what}: {rates.n_before} judged before and {rates.n_since} since, fewer than {rules.min_answers}"
        return Ground(name=name, says="nothing", why=few)
    before, since = rates.bad_before / rates.n_before, rates.bad_since / rates.n_since
    chance = more_often(rates)
    words = f"{what} {before:.1%} of {rates.n_before} before, {since:.1%} of {rates.n_since} since (p = {chance:.2g})"
    counts = chance < rules.alpha and since - before >= rules.min_rise
    return _for_or_idle(name, counts, f"{words}: worse", f"{words}: not surely worse", something)


def _for_or_idle(name: str, counts: bool, yes: str, no: str, something: bool) -> Ground:
    if counts and not something:
        idle = f"{yes}; but nothing is new to learn from: correct answers, add rows, or look at prompt and documents"
        return Ground(name=name, says="against", why=idle)
    return _ground(name, counts, yes, no)


def _held_back(known: Known, rules: TriggerRecipe, grounds: Sequence[Ground]) -> Ground | None:
    """What a reason has to wait for: the interval, and the pause after a challenger that was not taken."""
    fresh = {one.name for one in grounds if one.says == "for"} & {"base", "prompt", "recipe", "agents", "forgetting", "age"}
    if known.kept is not None and not fresh:
        if not known.untried + known.untried_pairs:
            why = f"{known.kept} has learnt just this and has not been taken: not again until something else is new"
            return Ground(name="kept", says="against", why=why)
        days = rules.backoff_days * 2 ** max(0, known.kept_in_a_row - 1)
        enough = known.untried_pairs >= rules.min_pairs or rules.enough(known.untried, known.rows)
        if not enough and known.trained_at is not None and known.moment - known.trained_at < timedelta(days=days):
            few = known.untried + known.untried_pairs
            why = f"{known.kept} has not been taken and only {few} rows are new since: waits for more, or for {days:g} days"
            return Ground(name="kept", says="against", why=why)
    soon = known.trained_at is not None and known.moment - known.trained_at < timedelta(hours=rules.min_hours)
    if soon and not fresh:
        return Ground(name="interval", says="against", why=f"the newest training is less than {rules.min_hours:g} hours old")
    return None


def _renewal(known: Known) -> Ground:
    what = [*(["its card"] if known.card_changed else []), *(f"the index of {name}" for name in known.indexes_changed)]
    yes = f"{' and '.join(what)} changed: the same adapter is released with it"
    return _ground("renewal", bool(what), yes, "card and indexes are the same")


def _bump(known: Known) -> Bump:
    """The weight of the step that a training makes by the rules of versions (``cluster.domain.releases.next_version``). Never minor:
    better is measured afterwards."""
    return "major" if known.base_changed or known.contract_changed or known.prompt_changed else "patch"
