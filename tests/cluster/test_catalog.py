import itertools
import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from sqlalchemy import text

from cluster.catalog import Catalog, agents, conversations, corpora, datasets, questions, releases, runs, signals, untold, users
from cluster.catalog.migrations import HEAD
from cluster.domain.agents import Agent
from cluster.domain.base import now
from cluster.domain.conversations import Route, Turn
from cluster.domain.datasets import Dataset
from cluster.domain.documents import CorpusVersion
from cluster.domain.questions import Evaluation, Question, QuestionResult, QuestionSet
from cluster.domain.releases import CHAMPION, Release
from cluster.domain.runs import Run
from cluster.domain.signals import Signal
from cluster.domain.users import key_hash, new_key
from cluster.domain.validation import Validation
from cluster.errors import Conflict, NotFound, Unavailable
from cluster.settings import ROOT


def release(version="0.1.0", **changes):
    given = {"agent": "linux", "version": version, "card": Agent(name="linux"), "adapter_uri": "u", "adapter_digest": version}
    return Release(**{**given, "base_model": "b", "base_digest": "b", **changes})


def turn(**changes):
    given = {"conversation_id": "conv_1", "user": "u", "question": "q", "answer": "a", "agent": "linux", "release": None}
    return Turn(**{**given, "route": Route(agent="linux"), "validation": Validation(passed=True), **changes})


def test_an_agent_comes_back_as_it_was(catalog, agent):
    with catalog.transaction() as work:
        agents.save(work, agent)
    with catalog.reading() as work:
        assert agents.get(work, "linux") == agent


def test_near_names_are_offered(catalog, agent):
    with catalog.transaction() as work:
        agents.save(work, agent)
        with pytest.raises(NotFound, match="did you mean linux"):
            agents.get(work, "linx")


def test_there_is_one_default_agent(catalog):
    with catalog.transaction() as work:
        agents.save(work, Agent(name="one", default=True))
        with pytest.raises(Conflict, match="'one' is already the default"):
            agents.save(work, Agent(name="two", default=True))


def test_an_exception_rolls_everything_back(catalog, agent):
    def failing():
        with catalog.transaction() as work:
            agents.save(work, agent)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    with catalog.reading() as work:
        assert agents.everyone(work) == []


def test_releases_are_written_once(catalog):
    with catalog.transaction() as work:
        releases.add(work, release())
        with pytest.raises(Conflict, match="never changed"):
            releases.add(work, release(adapter_digest="other"))


def test_alias_moves_and_rolls_back(catalog):
    with catalog.transaction() as work:
        for version in ("0.1.0", "0.2.0", "0.10.0"):
            releases.add(work, release(version))
        releases.move_alias(work, "linux", CHAMPION, "0.1.0", "first")
        with pytest.raises(Conflict, match="nothing to roll back"):
            releases.previous(work, "linux")
        releases.move_alias(work, "linux", CHAMPION, "0.10.0", "better")
        assert releases.get(work, "linux").version == "0.10.0"
        assert releases.get(work, "linux@champion").version == "0.10.0"
        assert releases.previous(work, "linux") == "0.1.0"
        assert [one.version for one in releases.of_agent(work, "linux")] == ["0.10.0", "0.2.0", "0.1.0"]
        with pytest.raises(NotFound, match=r"no release 0.3.0; .*newest 0.10.0"):
            releases.get(work, "linux@0.3.0")


def test_concurrent_promotions_are_serialised(catalog):
    with catalog.transaction() as work:
        for number in range(8):
            releases.add(work, release(f"0.{number + 1}.0"))
        releases.move_alias(work, "linux", CHAMPION, "0.1.0", "first")
    failures = []

    def promote(number):
        try:
            with catalog.transaction() as work:
                releases.move_alias(work, "linux", CHAMPION, f"0.{number + 1}.0", "race")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=promote, args=(number,)) for number in range(1, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with catalog.reading() as work:
        moves = work.connection.exec_driver_sql("SELECT before, after FROM alias_moves ORDER BY id").fetchall()
    assert len(moves) == 8
    assert all(later[0] == earlier[1] for earlier, later in itertools.pairwise(moves))


def test_a_run_that_is_over_stays_as_it_ended(catalog):
    run = Run(job="train_jobs.sft")
    with catalog.transaction() as work:
        runs.save(work, run)
        runs.change(work, run.id, state="cancelled")
        assert runs.change(work, run.id, state="succeeded").state == "cancelled"


def test_a_turn_is_its_users_own(catalog):
    mine = turn()
    with catalog.transaction() as work:
        conversations.record(work, [mine, mine])
        assert conversations.turn(work, mine.id, "u") == mine
        with pytest.raises(NotFound):
            conversations.turn(work, mine.id, "somebody")


def test_signals_wait_until_curated_and_the_ledger_says_what_they_became(catalog):
    mine = turn()
    said = Signal(turn_id=mine.id, kind="thumb", value="up", user="u")
    with catalog.transaction() as work:
        conversations.record(work, [mine])
        signals.record(work, [said])
        assert signals.waiting(work) == [said]
        signals.mark_curated(work, [said.id])
        signals.link(work, said.id, "dataset", "d@1")
        assert signals.waiting(work) == []
        assert signals.links(work, [said.id]) == {said.id: [("dataset", "d@1")]}


def test_a_signal_on_no_turn_is_refused(catalog):
    with pytest.raises(Unavailable, match="FOREIGN KEY"), catalog.transaction() as work:
        signals.record(work, [Signal(turn_id="turn_none", kind="thumb", value="up", user="u")])


def test_datasets_by_name_ref_and_digest(catalog):
    old = Dataset(digest="a" * 64, name="rows", kind="sft", rows=1, uri="u")
    new = Dataset(digest="b" * 64, name="rows", kind="sft", rows=2, uri="u")
    with catalog.transaction() as work:
        assert datasets.add(work, old)
        assert datasets.add(work, new)
        assert not datasets.add(work, new)
        assert datasets.get(work, "rows") == new
        assert datasets.get(work, old.ref) == old
        assert datasets.get(work, "a" * 10) == old
        with pytest.raises(NotFound, match="did you mean rows"):
            datasets.get(work, "row")


def test_corpora_versions_are_taken_once(catalog):
    one = CorpusVersion(corpus="kb", version=1, digest="d", index_uri="u", documents=1, passages=1, embedder="e")
    with catalog.transaction() as work:
        corpora.add(work, one)
        assert corpora.newest(work, "kb") == one
        with pytest.raises(Conflict):
            corpora.add(work, one)


def test_regression_questions_replace_by_question(catalog):
    with catalog.transaction() as work:
        questions.add_regression(work, "linux", [Question(id="r1", text="q", expected="old")])
        kept = questions.add_regression(
            work, "linux", [Question(id="r1", text="q", expected="new"), Question(id="r2", text="p", expected="x")]
        )
        assert [one.expected for one in kept.questions] == ["new", "x"]
        assert questions.get_set(work, "linux-regression").purpose == "regression"


def test_pairs_are_of_the_same_questions(catalog):
    def evaluation(name, digest):
        results = (QuestionResult(question_id="1", answer="a", passed=True),)
        return Evaluation(release=name, question_set="s", set_digest=digest, results=results)

    with catalog.transaction() as work:
        questions.save_set(work, QuestionSet(name="s", questions=(Question(id="1", text="q", expected="a"),)))
        for name, digest in (("l@1", "x"), ("l@2", "y"), ("l@2", "x")):
            questions.record(work, evaluation(name, digest))
        assert [(one.set_digest, two.set_digest) for one, two in questions.pairs(work, "l@1", "l@2")] == [("x", "x")]


def test_only_the_hash_of_a_key_is_kept_and_revoking_ends_it(catalog, settings):
    text, record = new_key("somebody", "user")
    with catalog.transaction() as work:
        users.save_key(work, record)
        assert users.find_key(work, key_hash(text)) == record
        users.revoke(work, record.prefix)
        assert users.find_key(work, key_hash(text)) is None
    stored = b"".join(path.read_bytes() for path in settings.home.glob("catalog.db*"))
    assert text.encode() not in stored


def test_the_newest_revision_is_the_one_that_is_checked():
    versions = sorted((ROOT / "cluster" / "catalog" / "migrations" / "versions").glob("*.py"))
    assert versions[-1].name.startswith(HEAD)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_catalog_of_the_revision_before_is_brought_up_to_date(settings, database, request):
    url = settings.catalog_url if database == "sqlite" else request.getfixturevalue("postgresql")
    old = Catalog(url).prepare()
    with old.transaction() as work:
        work.connection.exec_driver_sql("ALTER TABLE alias_moves DROP COLUMN kind")
        for table in ("retirements", "untold"):
            work.connection.exec_driver_sql(f"DROP TABLE {table}")
        work.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
        work.connection.exec_driver_sql(
            "INSERT INTO alias_moves (agent, alias, before, after, reason, moved_at) "
            "VALUES ('old', 'champion', NULL, '0.1.0', 'first', '2026-01-01 00:00:00')"
        )
    old.close()
    new = Catalog(url).prepare()
    with new.reading() as work:
        assert [(one.after, one.kind) for one in releases.moves(work, "old")] == [("0.1.0", "move")]
        assert releases.retired(work) == {}
    new.close()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_keys_of_a_catalog_without_scopes_and_expiry_go_on(settings, database, request):
    url = settings.catalog_url if database == "sqlite" else request.getfixturevalue("postgresql")
    old = Catalog(url).prepare()
    body = '{"hash": "%s", "prefix": "tdl_old", "user": "ada", "role": "curator", "created_at": "2026-01-01T00:00:00Z", "revoked": false}'
    with old.transaction() as work:
        for table in ("users", "sessions", "audit", "live_settings", "usage"):
            work.connection.exec_driver_sql(f"DROP TABLE {table}")
        work.connection.exec_driver_sql("ALTER TABLE api_keys DROP COLUMN last_used_at")
        work.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0003'")
        row = f"('{'a' * 64}', 'ada', {'false' if database == 'postgresql' else 0}, '{body % ('a' * 64)}')"
        work.connection.exec_driver_sql(f'INSERT INTO api_keys (hash, "user", revoked, body) VALUES {row}')
    old.close()
    new = Catalog(url).prepare()
    with new.transaction() as work:
        found = users.find_key(work, "a" * 64)
        assert (found.role, found.scopes, found.expires_at, found.last_used_at) == ("curator", None, None, None)
        users.keys_used(work, {"a" * 64: now()})
        assert users.find_key(work, "a" * 64).last_used_at is not None
        assert users.everyone(work) == []
    new.close()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_answers_and_cards_say_is_counted(settings, database, request):
    catalog = Catalog(settings.catalog_url if database == "sqlite" else request.getfixturevalue("postgresql")).prepare()
    start, day = now(), timedelta(days=1)
    asked = [turn(agent="counted", created_at=start + day * number) for number in range(4)]
    said = [("failed_validation", ["x"], 1), ("thumb", "down", 1), ("thumb", "up", 2), ("thumb", "down", 2), ("thumb", "up", 3)]
    with catalog.transaction() as work:
        agents.save(work, Agent(name="counted"))
        conversations.record(work, asked)
        for number, (kind, value, of) in enumerate(said):
            moment = start + timedelta(seconds=number)
            signals.record(work, [Signal(turn_id=asked[of].id, kind=kind, value=value, user="u", created_at=moment)])
        assert signals.failures(work, "counted", start, start + 9 * day) == (1, 4)
        assert signals.failures(work, "counted", start + 2 * day, start + 9 * day) == (0, 2)
        assert signals.thumbs_down(work, "counted", start, start + 3 * day) == (2, 2), "the newest thumb on an answer counts"
        assert agents.newer_than(work, start - day) == ["counted"]
        assert agents.newer_than(work, start + day) == []
        untold.add(work, "run_b", {"do": "start"})
        untold.add(work, "run_a", {"do": "start"})
        untold.add(work, "run_b", {"do": "finish"})
        assert untold.runs(work) == ["run_b", "run_a"]
        first, second = untold.of_run(work, "run_b")
        untold.told(work, first)
        assert untold.of_run(work, "run_b") == [second]
        releases.add(work, release(agent="counted"))
        releases.retire(work, releases.get(work, "counted@0.1.0"), "slow")
        assert releases.retired(work)["counted@0.1.0"] == "slow"
    catalog.close()


def test_an_unreachable_catalog_is_one_sentence():
    with pytest.raises(Unavailable, match="cannot be used"), Catalog("postgresql+psycopg://nobody@127.0.0.1:1/none").reading():
        pass


def test_a_full_catalog_is_one_sentence_and_keeps_what_it_had(catalog):
    with catalog.transaction() as work:
        agents.save(work, Agent(name="kept"))

    def fill():
        with catalog.transaction() as work:
            work.run(text("PRAGMA max_page_count = 1"))  # SQLite takes the present size: not a page more
            agents.save(work, Agent(name="lost", prompt="x" * 1_000_000))

    with pytest.raises(Unavailable, match="full"):
        fill()
    with catalog.reading() as work:
        assert [one.name for one in agents.everyone(work)] == ["kept"]


def test_a_killed_writer_leaves_acknowledged_writes_and_nothing_else(catalog, settings):
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from cluster.catalog import Catalog, agents
from cluster.domain.agents import Agent
catalog = Catalog({settings.catalog_url!r})
with catalog.transaction() as work:
    agents.save(work, Agent(name="kept"))
with catalog.transaction() as work:
    agents.save(work, Agent(name="lost"))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, env=os.environ)
    assert ended.returncode == -signal.SIGKILL
    with catalog.transaction() as work:
        assert [one.name for one in agents.everyone(work)] == ["kept"]
