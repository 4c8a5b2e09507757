from datetime import timedelta

import pytest

from cluster.domain.agents import Agent
from cluster.domain.base import now
from cluster.domain.releases import Release, next_version
from cluster.domain.versions import Version, split_ref


@pytest.mark.parametrize(
    ("part", "after"), [("major", "2.0.0"), ("minor", "1.5.0"), ("patch", "1.4.3")], ids=["major", "minor", "patch"]
)
def test_bump(part, after):
    assert str(Version.parse("1.4.2").bump(part)) == after


def test_order_is_numeric():
    assert Version.parse("0.10.0") > Version.parse("0.9.9")


@pytest.mark.parametrize("text", ["1.4", "v1.4.0", "1.04.0", "1.4.0-rc1", ""])
def test_what_is_no_version_is_named(text):
    with pytest.raises(ValueError, match="is not a version"):
        Version.parse(text)


def test_split_ref():
    assert split_ref("linux@1.0.0") == ("linux", "1.0.0")
    assert split_ref("linux") == ("linux", None)


def release(**changes):
    given = {"agent": "linux", "version": "1.4.2", "card": Agent(name="linux"), "adapter_uri": "u", "adapter_digest": "a"}
    return Release(**{**given, "base_model": "b", "base_digest": "b", "datasets": ("d1",), **changes})


def plan(parent, **changes):
    given = {"base_digest": "b", "adapter_digest": "a", "datasets": ("d1",), "card": Agent(name="linux")}
    taken = changes.pop("taken", [parent.version] if parent else [])
    return next_version(parent, taken, **{**given, **changes})


def test_first_release():
    assert plan(None).version == "0.1.0"


@pytest.mark.parametrize(
    ("changes", "version"),
    [
        ({"base_digest": "other"}, "2.0.0"),
        ({"card": Agent(name="linux", prompt="new contract")}, "2.0.0"),
        ({"datasets": ("d1", "d2")}, "1.4.3"),
        ({"card": Agent(name="linux", top_k=9)}, "1.4.3"),
        ({"moment": now() + timedelta(days=31)}, "1.4.3"),
    ],
    ids=["base", "prompt", "data", "settings", "age"],
)
def test_versions_are_earned(changes, version):
    assert plan(release(), **changes).version == version


def test_nothing_changed_is_no_release_and_says_so():
    made = plan(release())
    assert made.version is None
    assert "nothing changed" in made.reason


def test_names_are_never_reused():
    assert plan(release(), datasets=("d2",), taken=["1.4.2", "1.4.3", "1.4.4"]).version == "1.4.5"
