"""Passwords: Argon2id, by the cryptography package (OpenSSL), in PHC form. Its only home, so that the hash can change in one place."""

import os
from functools import cache

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from cluster.errors import InvalidInput

SHORTEST, LONGEST = 10, 256
MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1
"""What OWASP's password storage cheat sheet asks of Argon2id at least; about 35 ms of one core."""


def hashed(password: str) -> str:
    """The hash to keep, with its salt and costs in it. Raises InvalidInput for a password that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidInput(
            f"A password of {len(password)} characters cannot be used; take {SHORTEST} to {LONGEST}, several words for instance."
        )
    made = Argon2id(salt=os.urandom(16), length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)
    return made.derive_phc_encoded(password.encode())


def matches(password: str, kept: str | None) -> bool:
    """Whether this is the password. Without a hash to compare with it takes as long and says no: the time tells nobody who exists."""
    if len(password) > LONGEST:
        return False
    try:
        Argon2id.verify_phc_encoded(password.encode("utf-8", "surrogatepass"), kept or _nobodys())
    except (InvalidKey, ValueError):
        return False
    return kept is not None


@cache
def _nobodys() -> str:
    return hashed(os.urandom(16).hex())
