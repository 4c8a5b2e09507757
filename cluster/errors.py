"""The one error tree.

    TreadleError                 500   something broke, and the sentence says what
    ├── InvalidInput             400   what a person, a file or a client gave cannot be used
    │   ├── SettingsError              a settings file
    │   ├── RecipeError                a recipe
    │   └── GuardBlocked               a guard policy stopped the text
    ├── Unauthenticated          401   no key, or one that is not known
    ├── Forbidden                403   known, but not allowed
    ├── NotFound                 404   the thing is not there (or not yours)
    ├── Conflict                 409   the thing is in a state that forbids this
    ├── TooMany                  429   more than the limits allow; says when to come back
    ├── Unavailable              503   a part that is needed does not answer
    ├── IntegrityError           500   bytes are not those that were written
    └── JobFailed                500   a run ended without its result

A message names the thing, the value and the way out. Every class takes exactly one argument, the message: errors cross
process borders in Ray, and a class whose ``__init__`` takes something else does not unpickle.
"""

from difflib import get_close_matches
from math import ceil
from typing import ClassVar, Iterable


class TreadleError(Exception):
    """Base of everything Treadle raises on purpose."""

    status_code: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(TreadleError):
    status_code = 400


class SettingsError(InvalidInput):
    pass


class RecipeError(InvalidInput):
    pass


class GuardBlocked(InvalidInput):
    pass


class Unauthenticated(TreadleError):
    status_code = 401


class Forbidden(TreadleError):
    status_code = 403


class NotFound(TreadleError):
    status_code = 404


class Conflict(TreadleError):
    status_code = 409


class TooMany(TreadleError):
    """``retry_after``: seconds until it may be tried again. An attribute and no argument, so that it unpickles."""

    status_code = 429
    retry_after: int = 1

    @classmethod
    def until(cls, seconds: float, message: str) -> "TooMany":
        """The error of somebody who may come back in ``seconds``."""
        error = cls(message)
        error.retry_after = max(1, ceil(seconds))
        return error


class Unavailable(TreadleError):
    status_code = 503


class IntegrityError(TreadleError):
    pass


class JobFailed(TreadleError):
    pass


def near(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names most like ``name``, best first (difflib ratio at least 0.4)."""
    return get_close_matches(name, sorted(set(known)), n=most, cutoff=0.4)


def one_sentence(error: BaseException) -> str:
    """The first line of an error, whatever its class: what a run record or a terminal shows."""
    if isinstance(error, TreadleError):
        return error.message
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"
