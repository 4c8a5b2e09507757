"""Patterns that people write, and that meet untrusted text: they run on RE2, in linear time."""

from functools import lru_cache
from typing import Any

import re2


@lru_cache(maxsize=2048)
def compiled(pattern: str) -> Any:
    """The compiled RE2 pattern, case-insensitive. Raises ValueError naming a pattern that RE2 refuses."""
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown"
        reason = reason.decode() if isinstance(reason, bytes) else reason
        raise ValueError(f"pattern '{pattern}' is not valid RE2: {reason}") from None
