"""How many tokens travel in one delta.

A delta costs three processes time, which is the engine's where cores are few, and nobody reads faster than ten deltas a second come. The
first token and the end of an answer are never held back.
"""

LEAST_GAP_S, MOST_GAP_S, GAP_PER_STREAM_S = 0.008, 0.1, 0.003
"""The time between two deltas of one stream, by how many are under way."""
MOST_TOGETHER = 8
SMOOTHING = 0.05


class Pace:
    """Learns from ended answers how long a token takes. For one event loop."""

    def __init__(self) -> None:
        self._token_s = 0.0

    def tokens(self, running: int) -> int:
        """How many tokens a delta shall have while so many answers are under way."""
        if not self._token_s:
            return 1
        gap = min(MOST_GAP_S, max(LEAST_GAP_S, GAP_PER_STREAM_S * running))
        return max(1, min(MOST_TOGETHER, round(gap / self._token_s)))

    def saw(self, tokens: int, seconds: float) -> None:
        """An answer took so long for its tokens after the first."""
        if tokens > 0:
            self._token_s += (SMOOTHING if self._token_s else 1.0) * (seconds / tokens - self._token_s)
