"""What happens in the demo, when, and how it is explained. Times are shares of the whole, 0.0 to 1.0."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

LIMITS = {"research": (2, 3), "risk": (2, 3), "trader": (2, 6)}
"""Role to the fewest and the most agents that there should be; what the scaling policies say."""

Deed = Literal["crash", "suspend", "drain"]


@dataclass(frozen=True)
class Scene:
    """A part of the story."""

    begins: float
    title: str
    caption: str
    """`{agent}` is the agent that the deed was done to."""
    deed: Deed | None = None
    """What is done when it begins."""


SHORTENED = (
    "Times are shortened for the show: health checks come every 1 s instead of 30, looks at the load every 1 s instead "
    "of 5, and a few seconds of low load, not 300, let an agent go."
)

OPENING = (
    "A registry has started with a NATS of its own. Its policies want at least two agents for each of three "
    f"capabilities and there are none, so it orders them, and the orchestrator starts them. {SHORTENED}"
)
ENDING = "Everything that was started is being ended: the agents first, then the registry and its NATS."

SCENES = (
    Scene(
        0.00,
        "a quiet market",
        "Six agents, each a process of its own. Traders ask a research agent for a price and a risk agent for "
        "approval; they find each other by capability, never by name.",
    ),
    Scene(
        0.12,
        "the load rises",
        "More and more trades are asked for. When the traders' mean load passes 0.8 the registry orders more of them; "
        "it starts nothing itself, the orchestrator does.",
    ),
    Scene(
        0.38,
        "an agent crashes",
        "{agent} was killed with kill -9. Its next health check finds nobody listening: offline, found by nobody any "
        "more. There should be two, so the registry orders another one.",
        "crash",
    ),
    Scene(
        0.50,
        "an operator steps in",
        "An operator suspended {agent}: it runs on and keeps its registration, but gets no new work until it is "
        "resumed. It does not count as capacity, so a stand-in is ordered.",
        "suspend",
    ),
    Scene(
        0.62,
        "the load falls",
        "Fewer trades again. When the mean load has stayed below 0.3 for a while the registry names one trader at a "
        "time to go; it finishes its work, deregisters and ends.",
    ),
    Scene(
        0.74,
        "an agent is drained",
        "The operator drains {agent}: it gets no work, finishes what it has, and leaves for good. Its stand-in "
        "serves, so nothing is ordered.",
        "drain",
    ),
    Scene(
        0.82,
        "back to quiet",
        "The traders that are not needed leave one after the other, until the two that there should be are left.",
    ),
)

_RATES = ((0.0, 4.0), (0.12, 4.0), (0.32, 40.0), (0.62, 40.0), (0.68, 4.0), (1.0, 4.0))
"""Trades a second; between these it changes steadily. Two traders can do some 22."""


BUSIEST = max(rate for _, rate in _RATES)


def rate_at(share: float) -> float:
    """Return how many trades a second are asked for."""
    share = min(max(share, 0.0), 1.0)
    for (begins, before), (ends, after) in pairwise(_RATES):
        if share <= ends:
            return before + (after - before) * (share - begins) / (ends - begins)
    return _RATES[-1][1]
