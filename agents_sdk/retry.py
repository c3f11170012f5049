"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Waits that double up to a ceiling, each drawn at random: who failed together returns apart.

    Args:
        floor: Shortest wait in seconds, > 0.
        ceiling: Longest wait in seconds, at least `floor`.
        rng: Returns a number from 0.0 up to but without 1.0.

    Source: "full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter".
    """

    def __init__(self, floor: float = 0.02, ceiling: float = 0.5, rng: Callable[[], float] = random.random) -> None:
        if not 0.0 < floor <= ceiling:
            raise ValueError(f"floor {floor:g} must be above 0 and at most ceiling {ceiling:g}")
        self._floor = floor
        self._ceiling = ceiling
        self._rng = rng
        self._top = floor

    def next(self) -> float:
        """Return the next wait in seconds, drawn from `floor` to a bound that doubles each time."""
        self._top = min(self._ceiling, self._top * 2)
        return self._floor + self._rng() * (self._top - self._floor)

    def reset(self) -> None:
        """Begin again with short waits: it worked."""
        self._top = self._floor
