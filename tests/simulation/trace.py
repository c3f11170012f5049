"""A trace: what happens to a fleet and to whoever watches it. Instants and durations are virtual seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.simulation.life import End, Life

BURST = 0.01
"""What came while a process stood still is read so long after it goes on: timers that are due come first, as in the
schedulers of Go and of asyncio."""

Span = tuple[float, float]
"""Begin, and end, which it does not contain."""


def _end_of(spans: Sequence[Span], at: float) -> float | None:
    """Return the end of the span that an instant is in."""
    for begin, end in spans:
        if begin <= at < end:
            return end
    return None


@dataclass(slots=True)
class Trace:
    """What happens.

    Attributes:
        name: Of the scenario.
        seed: Of all chance.
        duration: Length.
        lives: The agents'.
        loss: Part of all messages that are lost, 0.0 to 1.0.
        latency: Mean of what a message takes beyond `network.LEAST`.
        outages: When the watcher has no connection to NATS.
        stalls: When the watcher's process stands still; what is sent to it waits.
        downs: When the watcher's process is not there; what is sent to it is lost, and so is what it remembers.
    """

    name: str
    seed: int
    duration: float
    lives: list[Life]
    loss: float = 0.0
    latency: float = 0.001
    outages: tuple[Span, ...] = ()
    stalls: tuple[Span, ...] = ()
    downs: tuple[Span, ...] = ()
    _is_calm: bool = field(init=False)

    def __post_init__(self) -> None:
        self._is_calm = not (self.outages or self.stalls or self.downs)

    def hears(self, at: float) -> float | None:
        """Return when the watcher handles what reaches it at an instant; None if never."""
        if self._is_calm:
            return at
        if _end_of(self.outages, at) is not None or _end_of(self.downs, at) is not None:
            return None
        late = _end_of(self.stalls, at)
        return at if late is None else late + BURST

    def awake(self, at: float) -> float:
        """Return when the watcher does what it was to do at an instant."""
        if self._is_calm:
            return at
        late = _end_of(self.stalls, at)
        if late is None:
            late = _end_of(self.downs, at)
        return at if late is None else late

    def is_connected(self, at: float) -> bool:
        """Return whether the watcher is there and has a connection to NATS."""
        return _end_of(self.outages, at) is None and _end_of(self.downs, at) is None

    @property
    def agent_hours(self) -> float:
        """Hours that agents were there."""
        return sum(min(life.ends, self.duration) for life in self.lives) / 3600.0

    @property
    def dead(self) -> dict[int, float]:
        """Who is to be found dead, with since when."""
        return {
            index: life.ends for index, life in enumerate(self.lives) if life.end is End.CRASHED or life.end is End.HUNG
        }
