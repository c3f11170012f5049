"""Whom to give a task: the better of two random agents, by what is known of their load and how old that is.

Loads are reported with each heartbeat, so they are old. Sending every caller to whoever looked least loaded then is
worse than choosing at random; the better of two random choices is not (Mitzenmacher, TPDS 2000). What is reserved is
known exactly at any time. What an agent reported beyond that is load from elsewhere, which loses half of its weight
with each heartbeat interval that has passed since: the rest of the weight goes to the mean of the two.
"""

from __future__ import annotations

from collections.abc import Callable

from registry.core.agent import Agent
from registry.core.catalog import Catalog
from registry.core.query import STEP, Query

CHOICES = 2

MIN_INTERVAL = 0.1
"""Seconds, as on the wire; a record that somebody wrote by hand may say less."""


def choose(catalog: Catalog, query: Query, at: float, random: Callable[[], float]) -> Agent | None:
    """Return an agent that matches a query, and so has the slots free that it wants; None if there is none.

    Args:
        catalog: Who there is.
        query: What is wanted. Agents with more of the tags that it prefers come first; those that may be gone, or hang,
            come last.
        at: The instant now.
        random: Returns a number from 0.0 up to but without 1.0.
    """
    drawn = catalog.draw(query, CHOICES)
    if len(drawn) < CHOICES:
        return drawn[0] if drawn else None
    one, other = drawn
    elsewhere = (one.load_elsewhere + other.load_elsewhere) / 2
    difference = _strain(one, elsewhere, at) - _strain(other, elsewhere, at)
    if abs(difference) < STEP:
        return one if random() < 0.5 else other
    return one if difference < 0 else other


def _strain(agent: Agent, usual: float, at: float) -> float:
    """Return how loaded an agent is taken to be, 0.0 to 1.0; more so if it came back lately, or its silence is odd.

    Args:
        agent: Which.
        usual: Load from elsewhere that an agent is taken to have if it never reported any.
        at: The instant now.
    """
    weight = 0.0
    if agent.load_at is not None:
        age = max(0.0, at - agent.load_at)
        weight = 0.5 ** (age / max(agent.record.heartbeat_interval, MIN_INTERVAL))
    elsewhere = weight * agent.load_elsewhere + (1.0 - weight) * usual
    load = min(1.0, agent.reserved / agent.capacity + elsewhere)
    return 1.0 - (1.0 - load) * agent.standing
