"""Experiments in the catalog and under `treadle experiments`: begun, judged, promoted, rolled back, once each."""

import json
import threading
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from cluster import experiments as trying
from cluster.accounts import COMMAND_LINE
from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, agents, audit, conversations, experiments, forgotten, releases, signals
from cluster.cli import experiments as commands
from cluster.cli.app import app
from cluster.cli.console import Home
from cluster.domain.agents import Agent
from cluster.domain.base import new_id, now
from cluster.domain.conversations import Route, Turn
from cluster.domain.experiment_results import results
from cluster.domain.experiments import Experiment, InExperiment, Trial
from cluster.domain.releases import CHAMPION, Release
from cluster.domain.signals import Signal
from cluster.domain.validation import Validation
from cluster.errors import Conflict, InvalidInput, NotFound, Unavailable
from cluster.registry import Registry


@pytest.fixture(params=["sqlite", "postgresql"])
def shelf(request, settings):
    """A catalog with the agent 'linux', its champion 0.1.0 and a release 0.2.0, on both databases."""
    opened = Catalog(settings.catalog_url if request.param == "sqlite" else request.getfixturevalue("postgresql")).prepare()
    with opened.transaction() as work:
        fill(work, opened)
    yield opened
    with opened.transaction() as work:
        for table in (
            "trials",
            "experiments",
            "signals",
            "turns",
            "conversations",
            "aliases",
            "alias_moves",
            "retirements",
            "releases",
        ):
            work.connection.exec_driver_sql(f"DELETE FROM {table}")
    opened.close()


def fill(work, catalog, uris=("u", "u"), digests=("1", "2")):
    agents.save(work, Agent(name="linux"))
    for version, uri, digest in zip(("0.1.0", "0.2.0"), uris, digests, strict=True):
        given = {"agent": "linux", "version": version, "card": Agent(name="linux"), "base_model": "b", "base_digest": "b"}
        made = Release(**given, adapter_uri=uri, adapter_digest=digest)
        releases.add(work, made)
    releases.move_alias(work, "linux", CHAMPION, "0.1.0", "test")


def begun(catalog, kind="split", challenger="linux@0.2.0", share=None, **settings):
    with catalog.transaction() as work:
        return trying.start(work, COMMAND_LINE, challenger, kind, share, settings)


def turn(experiment, arm, passed=True, **changes):
    given = {"conversation_id": new_id("conv"), "user": "ada", "question": "q", "answer": "a", "agent": "linux"}
    mark = InExperiment(
        id=experiment.id, arm=arm, shadow_of=changes.pop("shadow_of", None), fallback=changes.pop("fallback", False)
    )
    given |= {"release": getattr(experiment, arm), "route": Route(agent="linux"), "timings": {"total": 0.5}, "experiment": mark}
    return Turn(**{**given, "validation": Validation(passed=passed, failures=() if passed else ("length",)), **changes})


def answered(catalog, experiment, champion, challenger):
    """Turns of both sides, one after the other; each argument says which passed."""
    with catalog.transaction() as work:
        for pair in zip(champion, challenger, strict=True):
            for arm, passed in zip(("champion", "challenger"), pair, strict=True):
                one = turn(experiment, arm, passed)
                conversations.record(work, [one])
                experiments.record(work, [one])


def shown(catalog, experiment):
    with catalog.reading() as work:
        return trying.found(work, experiment)


def judged(catalog, registry=None):
    def none_needed():
        raise AssertionError("nothing is promoted here")

    return trying.judge(catalog, (lambda: registry) if registry else none_needed, 0.0)


def test_one_runs_at_a_time_and_what_cannot_be_compared_is_refused(shelf):
    first = begun(shelf)
    assert (first.champion, first.challenger, first.share, first.started_by) == ("linux@0.1.0", "linux@0.2.0", 0.5, "operator")
    with pytest.raises(Conflict, match=f"'{first.id}' of 'linux' is running"):
        begun(shelf)
    with shelf.transaction() as work:
        trying.stop(work, COMMAND_LINE, "linux", "enough")
        with pytest.raises(Conflict, match="ended already: stopped, enough"):
            trying.stop(work, COMMAND_LINE, first.id)
    for challenger, message in (
        ("linux@0.1.0", "is the champion"),
        ("linux@9.9.9", "no release 9.9.9"),
        ("linux", "agent@version"),
        ("router@0.1.0", "no release that could answer"),
        ("lin@0.1.0", "linux"),
    ):
        with pytest.raises((Conflict, InvalidInput, NotFound), match=message):
            begun(shelf, challenger=challenger)
    with pytest.raises(InvalidInput, match="nothing to be compared with"):
        begun(shelf, share=1.0)
    with pytest.raises(InvalidInput, match="only a canary promotes"):
        begun(shelf, promote=True)
    with pytest.raises(InvalidInput, match=r"'settings\.metrics\.0'"):
        begun(shelf, metrics=["speed"])
    with shelf.transaction() as work:
        releases.retire(work, releases.get(work, "linux@0.2.0"), "too slow")
    with pytest.raises(Conflict, match=r"retired \(too slow\)"):
        begun(shelf)
    with shelf.reading() as work:
        actions = [(one.action, one.target, one.user) for one in audit.recent(work, 2)]
        assert experiments.get(work, "linux").id == first.id
        assert experiments.running(work) == {}
    assert actions == [("experiment.end", first.id, "operator"), ("experiment.start", first.id, "operator")]


def test_two_that_start_at_once_and_two_that_end_at_once(shelf):
    done = []

    def attempt(act):
        try:
            done.append(act())
        except Conflict as error:
            done.append(error)

    def at_once(act):
        done.clear()
        threads = [threading.Thread(target=attempt, args=(act,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return list(done)

    assert sum(isinstance(one, Experiment) for one in at_once(lambda: begun(shelf))) == 1
    with shelf.reading() as work:
        (running,) = experiments.running(work).values()
    answered(shelf, running, [True] * 30, [False] * 30)
    ended = [one for found in at_once(lambda: judged(shelf)) for one in found]
    assert [one.state for one in ended] == ["rolled_back"]
    with shelf.reading() as work:
        ends = audit.recent(work, action="experiment.end")
        assert [one.user for one in ends if one.target == running.id] == ["gateway"]


def test_a_worse_challenger_is_rolled_back_and_one_as_good_goes_on(shelf):
    running = begun(shelf)
    answered(shelf, running, [True] * 50, [True] * 50)
    assert judged(shelf) == []
    answered(shelf, running, [True] * 20, [False] * 20)
    (ended,) = judged(shelf)
    assert ended.state == "rolled_back"
    assert "more failed validations: 20 of 70 (29%) where the champion has 0 of 70" in ended.reason
    assert judged(shelf) == []
    with shelf.reading() as work:
        assert releases.alias(work, "linux", CHAMPION) == "0.1.0"


def test_without_auto_rollback_it_is_only_said(shelf):
    running = begun(shelf, auto_rollback=False)
    answered(shelf, running, [True] * 30, [False] * 30)
    assert judged(shelf) == []
    assert shown(shelf, running).finding == "worse"


def test_only_one_judges_within_an_interval(shelf):
    running = begun(shelf)
    with shelf.transaction() as work:
        assert not experiments.claim(work, running.id, now() - timedelta(seconds=2))
        assert experiments.claim(work, running.id, now() + timedelta(seconds=2))
        assert not experiments.claim(work, running.id, now() - timedelta(seconds=2))


def test_everything_is_counted_and_only_first_turns_are_judged(shelf):
    running = begun(shelf)
    talk = new_id("conv")
    turns = [turn(running, "challenger", number > 0, conversation_id=talk) for number in range(3)]
    turns += [
        turn(running, "champion"),
        turn(running, "champion", fallback=True),
        turn(running, "champion", release="linux@0.0.9"),
    ]
    with shelf.transaction() as work:
        conversations.record(work, turns)
        experiments.record(work, turns)
        experiments.record(work, turns)
        error = Trial(id=new_id("trial"), arm="challenger", release="linux@0.2.0", conversation=new_id("conv"), error=True)
        experiments.record_error(work, running.id, "ada", error)
        marks = [(0, "down"), (0, "up"), (1, "down")]
        signals.record(work, [Signal(turn_id=turns[n].id, kind="thumb", value=value, user="ada") for n, value in marks])
    found = shown(shelf, running)
    mine = found.challenger
    assert (mine.turns, mine.conversations, mine.failed_validations, mine.errors) == (3, 2, 1, 1)
    assert (mine.thumbs_up, mine.thumbs_down) == (1, 1), "the newest thumb of each turn"
    assert mine.seconds is not None
    assert (mine.seconds.p50, found.champion.turns) == (0.5, 1)
    by_name = {one.metric: one for one in found.metrics}
    assert (by_name["validation"].challenger.hits, by_name["validation"].challenger.n) == (1, 1)
    assert (by_name["errors"].challenger.hits, by_name["errors"].challenger.n) == (1, 2)
    assert (by_name["thumbs"].challenger.hits, by_name["thumbs"].challenger.n) == (1, 1), "the first thumb of a conversation"
    assert found.finding == "open"
    with shelf.transaction() as work:
        forgotten.delete_user(work, "ada")
    assert shown(shelf, running).challenger.conversations == 0


def test_what_a_challenger_does_is_no_reason_to_train(shelf):
    running = begun(shelf)
    answered(shelf, running, [True, False], [False, False])
    with shelf.transaction() as work:
        for one in conversations.recent(work):
            signals.record(work, [Signal(turn_id=one.id, kind="thumb", value="down", user="ada")])
            if not one.validation.passed:
                signals.record(work, [Signal(turn_id=one.id, kind="failed_validation", value=["length"], user="ada")])
        when = (now() - timedelta(hours=1), now() + timedelta(hours=1))
        assert signals.failures(work, "linux", *when) == (1, 2)
        assert signals.thumbs_down(work, "linux", *when) == (2, 2)


def test_thumbs_alone_can_decide(shelf):
    running = begun(shelf, metrics=["thumbs"])
    for number in range(60):
        one = turn(running, "challenger" if number % 2 else "champion")
        with shelf.transaction() as work:
            conversations.record(work, [one])
            experiments.record(work, [one])
            signals.record(work, [Signal(turn_id=one.id, kind="thumb", value="down" if number % 2 else "up", user="ada")])
    (ended,) = judged(shelf)
    assert (ended.state, "more thumbs down: 30 of 30 (100%)" in ended.reason) == ("rolled_back", True)


def test_it_ends_when_the_champion_is_another_one_or_the_challenger_is(shelf):
    begun(shelf)
    with shelf.transaction() as work:
        releases.move_alias(work, "linux", CHAMPION, "0.2.0", "by hand")
    assert [(one.state, one.reason) for one in judged(shelf)] == [("promoted", "linux@0.2.0 was made the champion: by hand")]
    begun(shelf, challenger="linux@0.1.0")
    with shelf.transaction() as work:
        releases.move_alias(work, "linux", CHAMPION, None, "taken away")
    (ended,) = judged(shelf)
    assert (ended.state, ended.reason) == (
        "ended",
        "linux@0.1.0 was tried against linux@0.2.0, and the champion is linux@base now",
    )


def test_shadows_are_compared_question_by_question_and_kept_apart_from_turns(shelf):
    running = begun(shelf, "shadow")
    assert running.watched == ("validation", "errors")
    with shelf.transaction() as work:
        for number in range(20):
            seen = turn(running, "champion", conversation_id="conv_talk")
            hidden = turn(running, "challenger", number < 5, shadow_of=seen.id, answer="hidden", conversation_id="conv_talk")
            conversations.record(work, [seen])
            experiments.record(work, [seen, hidden])
        alone = turn(running, "champion", conversation_id="conv_talk")
        conversations.record(work, [alone])
        experiments.record(work, [alone])
    with shelf.reading() as work:
        assert {one.answer for one in conversations.recent(work)} == {"a"}
        pairs = experiments.shadowed(work, running.id, 50)
        assert {(one.answer, other.answer) for one, other in pairs} == {("a", "hidden")}
        assert len(pairs) == 20
    found = shown(shelf, running)
    assert (found.unpaired, found.challenger.failed_validations, found.finding) == (1, 15, "worse")
    assert [one.state for one in judged(shelf)] == ["rolled_back"]


def test_errors_of_a_shadow_count_beside_those_of_the_champion():
    """Judged as pairs, a challenger that fails as often as its champion would look worse: what the champion fails it is never asked."""
    running = Experiment(agent="linux", kind="shadow", champion="linux@0.1.0", challenger="linux@0.2.0", share=1.0)

    def found(champion_fails, challenger_fails):
        counted = []
        for number in range(80):
            one = Trial(
                id=f"c{number}", arm="champion", release="linux@0.1.0", conversation=f"t{number}", error=champion_fails(number)
            )
            changes = {"id": f"s{number}", "arm": "challenger", "release": "linux@0.2.0", "error": challenger_fails(number)}
            counted += [one] if one.error else [one, one.model_copy(update={**changes, "shadow_of": one.id})]
        return results(running, counted, []).finding

    assert found(lambda number: number % 4 == 0, lambda number: number % 4 == 1) == "open"
    assert found(lambda number: False, lambda number: number % 4 < 2) == "worse"


@pytest.fixture
def here(home, artifacts: Artifacts, tmp_path, monkeypatch):
    """A home whose releases have files, so that they can be promoted."""
    made = Home()
    monkeypatch.setattr(commands, "home", made)
    bundles = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(name)
        bundles.append(artifacts.publish("adapter", tmp_path / name))
    with made.catalog.transaction() as work:
        fill(work, made.catalog, [one.uri for one in bundles], [one.digest for one in bundles])
    made.registry._silent_until = float("inf")  # MLflow has no part in this
    return made


def test_a_canary_is_promoted_through_the_registry_when_it_is_proved_no_worse(here):
    running = begun(here.catalog, "canary", metrics=["validation"], promote=True, min_turns=200, tolerance=0.05)
    answered(here.catalog, running, [True] * 190, [True] * 190)
    assert judged(here.catalog) == []
    answered(here.catalog, running, [True] * 10, [True] * 10)
    (ended,) = judged(here.catalog, here.registry)
    assert (ended.state, ended.reason) == ("promoted", "linux@0.2.0 is worse by no more than 0.05 in any metric")
    with here.catalog.reading() as work:
        assert releases.alias(work, "linux", CHAMPION) == "0.2.0"
        assert running.id in releases.moves(work, "linux")[-1].reason
    assert here.registry.rollback("linux").version == "0.1.0"


def test_a_canary_that_is_not_told_to_promote_does_not_and_a_broken_one_is_not_promoted(here):
    running = begun(here.catalog, "canary", metrics=["validation"], min_turns=10)
    answered(here.catalog, running, [False] * 40, [True] * 40)
    assert judged(here.catalog) == []
    assert shown(here.catalog, running).finding == "better"
    with here.catalog.transaction() as work:
        trying.stop(work, COMMAND_LINE, "linux")
    running = begun(here.catalog, "canary", metrics=["validation"], min_turns=10, promote=True)
    answered(here.catalog, running, [False] * 40, [True] * 40)

    class Away(Registry):
        def promote(self, *_, **__):
            raise Unavailable("The store is away.")

    assert judged(here.catalog, Away(here.settings, here.catalog, here.artifacts)) == []
    with here.catalog.reading() as work:
        uri = releases.get(work, "linux@0.2.0").adapter_uri
    file = next(
        path
        for path in here.settings.home.rglob("adapter_config.json")
        if path.read_text() == "two" and uri.split("/")[-1] in str(path)
    )
    file.write_text("changed")
    (ended,) = judged(here.catalog, here.registry)
    assert ended.state == "ended"
    assert "could not be promoted" in ended.reason


def run(*words):
    done = CliRunner().invoke(commands.app, [*words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_commands(here):
    assert "experiments" in {one.name for one in app.registered_groups}
    made = json.loads(run("start", "linux@0.2.0", "--kind", "shadow", "--metric", "validation", "--alpha", "0.01", "--json"))
    assert (made["share"], made["settings"]["metrics"], made["settings"]["alpha"]) == (1.0, ["validation"], 0.01)
    running = Experiment.model_validate(made)
    with here.catalog.transaction() as work:
        seen = turn(running, "champion")
        hidden = turn(running, "challenger", False, shadow_of=seen.id, answer="hidden")
        conversations.record(work, [seen])
        experiments.record(work, [seen, hidden])
    (listed,) = json.loads(run("list", "linux", "--json"))
    assert listed["state"] == "running"
    assert "running" in run("list")
    found = json.loads(run("show", "linux", "--answers", "5", "--json"))
    assert found["challenger"]["failed_validations"] == 1
    assert found["answers"][0]["challenger"]["answer"] == "hidden"
    said = run("show", made["id"], "--answers", "5")
    for words in ("bad validation", "+ hidden (breaks length)", "nothing is proved yet of failed validations"):
        assert words in said
    assert json.loads(run("stop", "linux", "--reason", "enough", "--json"))["reason"] == "enough"
    assert "stopped: enough." in run("show", made["id"])
    with pytest.raises(InvalidInput, match=r"metrics\.0"):
        run("start", "linux@0.2.0", "--metric", "speed")
