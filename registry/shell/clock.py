"""The clock and the source of ids: what the core is given instead of reading it."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable

monotonic = time.monotonic
"""Instants for decisions, in seconds; not moved by a change of the system's clock."""


def _with_suspensions() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


uptime = _with_suspensions if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""Instants that also pass while the machine is suspended, where it tells; for what others do meanwhile."""

wall = time.time
"""Unix time in seconds, for showing."""

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def new_replica_id() -> str:
    """Return an id for one life of a replica."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def id_source(replica_id: str) -> Callable[[], str]:
    """Return a source of ids that no other replica gives: the replica's own and a count."""
    count = itertools.count(1)
    return lambda: f"{replica_id}-{next(count)}"
