"""Flapping: who comes back too often is kept degraded for a while, each time for longer.

Each return adds 1 to a penalty that halves with time, as routers damp routes (RFC 2439). Only a return from being gone,
silent or hung counts: that an agent deregisters and registers again is its own affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

HALF_LIFE = 600.0
"""Seconds in which the penalty halves."""

TOLERATED = 2.0
"""A penalty above this is too many: the third return within a few minutes."""

HOLD_DOWN = 60.0
MAX_HOLD_DOWN = 3600.0
"""Seconds for which an agent is kept degraded at first, doubled with each further return; and at most."""

Flaps = Mapping[str, float]
"""`returns`: how often it came back; `penalty`, `at`: what it was then, Unix time; `until`: end of the hold-down."""

FLAPS = frozenset(("returns", "penalty", "at", "until"))


def returns(flaps: Flaps | None) -> int:
    """Return how often an agent came back."""
    return 0 if flaps is None else int(flaps["returns"])


def penalty(flaps: Flaps | None, now: float) -> float:
    """Return what is left of the penalty at a Unix time."""
    if flaps is None:
        return 0.0
    left: float = flaps["penalty"] * 0.5 ** (max(0.0, now - flaps["at"]) / HALF_LIFE)
    return left


def returned(flaps: Flaps | None, now: float) -> Flaps:
    """Return what is remembered of an agent that comes back at a Unix time."""
    after = penalty(flaps, now) + 1.0
    until = 0.0
    if after > TOLERATED:
        further = ceil(min(after - TOLERATED, 60.0))  # anybody may have written the record
        until = now + min(MAX_HOLD_DOWN, HOLD_DOWN * 2.0 ** (further - 1))
    return {"returns": returns(flaps) + 1, "penalty": round(after, 3), "at": now, "until": round(until, 3)}


def held_until(flaps: Flaps | None, now: float) -> float | None:
    """Return the Unix time until which an agent is kept degraded; None if it is not.

    One that lies further ahead than any hold-down is of a clock that was put back since.
    """
    if flaps is None or not now < flaps["until"] <= now + MAX_HOLD_DOWN:
        return None
    return flaps["until"]
