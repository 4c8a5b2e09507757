"""Who may read which documents: rules by their names, given with an ingest and kept with every passage."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, get_args

from pydantic import Field

from cluster.domain.base import NAME, Frozen, digest_of
from cluster.domain.users import Access, Person, Role
from cluster.errors import InvalidInput

OPEN = ""
"""The key of what everybody may read."""


class Reader(Frozen):
    """Somebody whom passages are sought for."""

    user: str
    role: Role = "user"


EVERY_USER = Reader(user="")
"""Reads what every user may read."""


class AccessRule(Access):
    """Who may read the documents whose name fits ``sources``: * stands for anything, "/" included. Neither users nor roles: everybody,
    which takes something out of a wider rule."""

    sources: str = Field(min_length=1, description="a document's name as passages show it, with * ? [seq]")


def rule_for(rules: Sequence[AccessRule], source: str) -> AccessRule | None:
    """The last rule that fits; a rule for a file fits all its records ("a.csv#row 3")."""
    names = {source, source.partition("#")[0]}
    return next((rule for rule in reversed(rules) if any(_fits(rule, name) for name in names)), None)


def _fits(rule: AccessRule, name: str) -> bool:
    # Two files of one name are called by their longer ones, and a rule that holds something back has to hold it back then too.
    longer = bool(rule.users or rule.roles) and fnmatchcase(name, f"*/{rule.sources}")
    return longer or fnmatchcase(name, rule.sources)


def readers_of(rules: Sequence[AccessRule], source: str) -> Access | None:
    """Who may read a document of that name; None: everybody."""
    rule = rule_for(rules, source) if rules else None
    if rule is None or not (rule.users or rule.roles):
        return None
    return Access(users=tuple(sorted(set(rule.users))), roles=tuple(sorted(set(rule.roles))))


def marked(identity: str, readers: Access | None) -> str:
    """A document's identity with its readers in it, so that other readers are another document to an index. Unmarked: as it is."""
    return identity if readers is None else digest_of([identity, key_of(readers)])


def key_of(readers: Access | None) -> str:
    """Equal for equal readers."""
    return OPEN if readers is None else digest_of(readers.model_dump(mode="json"))[:24]


def may_read(readers: Access | None, person: Person) -> bool:
    """Whether this person may read it."""
    return readers is None or readers.allows(person)


def parsed(text: str) -> dict[str, Any]:
    """``GLOB=READERS`` of the command line as a rule's keys: roles, and people as @name, with commas between them.
    Raises InvalidInput."""
    sources, sign, said = text.rpartition("=")
    words = [word.strip() for word in said.split(",") if word.strip()]
    roles = [word for word in words if word in get_args(Role)]
    users = [word[1:] for word in words if word.startswith("@") and NAME.fullmatch(word[1:])]
    wrong = [word for word in words if word not in roles and word[1:] not in users]
    whole = bool(sign and sources and words)
    if wrong or not whole:
        what = f"'{wrong[0]}' is neither a role nor a @name" if whole else "it is no GLOB=READERS"
        raise InvalidInput(
            f"--access '{text}' cannot be used: {what}; write --access 'hr/*=curator,@ada' (roles, and people with @)."
        )
    return {"sources": sources, "roles": tuple(roles), "users": tuple(users)}
