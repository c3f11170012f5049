"""Protection: when many agents fall silent together, or cannot be reached, the way to them is the suspect.

Signs that it is: more than a share of all agents are late, or cannot be reached; more than that share of a sample of
agents, asked in turn and not because of a hint, cannot be reached; this replica itself was late or cut off. Agents that
were deregistered or drain are in no count, so an ordered departure looks like none of these.

Protection holds verdicts back for a bounded time only, each agent's from when its own evidence began. Whoever really
crashed is missing still when that has passed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from registry.core.limits import BURST, BURST_WINDOW, MAX_LOSSES, MIN_PROTECTED, SAMPLE_WINDOW

SILENCE = "silence"
UNREACHABLE = "unreachable"
LATENESS = "lateness"
OUTAGE = "outage"
CAUSES = (SILENCE, UNREACHABLE, LATENESS, OUTAGE)
"""What protection can be on for; the wire's names."""


class Protection:
    """Whether verdicts are held back, and why. Instants are monotonic seconds.

    Args:
        share: Part of the agents, 0.0 to 1.0; if more are in trouble together, their way is the suspect.
        hold: Seconds for which it stays on after the sample was last in trouble.
    """

    def __init__(self, share: float, hold: float) -> None:
        self.causes: dict[str, float] = {}
        """Why it is on, each with since when."""
        self.changes = 0
        """How often a cause began or ended."""
        self.silence_ended: float | None = None
        """When the last silence of many ended; those that are not heard of yet are on their way back."""
        self._losses: deque[float] = deque(maxlen=MAX_LOSSES)
        self._share = share
        self._hold = hold
        self._sample: deque[tuple[float, bool]] = deque()
        self._missing = 0
        self._excess_at: float | None = None

    def sample(self, at: float, reached: bool) -> None:
        """Count a probe that was sent because it was its agent's turn."""
        self._sample.append((at, reached))
        self._missing += not reached

    def lost(self, at: float) -> None:
        """Count an agent whose connection was closed."""
        self._losses.append(at)

    def is_burst(self, at: float) -> bool:
        """Return whether several agents were lost at an instant or a moment before or after."""
        near = 0
        for loss in reversed(self._losses):
            if loss < at - BURST_WINDOW:
                break
            near += loss <= at + BURST_WINDOW
            if near >= BURST:
                return True
        return False

    def begin_sample(self) -> None:
        """Forget the probes of before: something may have happened since."""
        self._sample.clear()
        self._missing = 0

    def clear(self) -> None:
        """Begin anew."""
        self.begin_sample()
        self.causes.clear()
        self._excess_at = None
        self.silence_ended = None

    @property
    def suspects_the_way(self) -> bool:
        """Whether many cannot be reached: that one does not answer says little of it then."""
        return UNREACHABLE in self.causes

    def is_mass(self, count: int, of: int) -> bool:
        """Return whether so many are too many of so many to be in trouble each by itself."""
        return of >= MIN_PROTECTED and count > self._share * of

    def review(
        self, at: float, late: int, unreachable: int, live: int, hindrance: str | None
    ) -> Iterator[tuple[str, bool]]:
        """Yield each cause that begins or ends, with whether it begins.

        Args:
            at: The instant now.
            late: How many agents are late.
            unreachable: How many did not answer or were not there when asked, and were not heard of since.
            live: How many there are that should not be.
            hindrance: What hinders this replica itself from judging.
        """
        while self._sample and self._sample[0][0] < at - SAMPLE_WINDOW:
            self._missing -= not self._sample.popleft()[1]
        if self.is_mass(self._missing, len(self._sample)) or self.is_mass(unreachable, live):
            self._excess_at = at
        # Half of it ends what the whole began, or it would come and go with every agent.
        is_silent = self.is_mass(late if SILENCE not in self.causes else 2 * late, live)
        now = {
            SILENCE: is_silent,
            UNREACHABLE: self._excess_at is not None and at < self._excess_at + self._hold,
            LATENESS: hindrance == LATENESS,
            OUTAGE: hindrance == OUTAGE,
        }
        for cause, holds in now.items():
            if holds and cause not in self.causes:
                self.causes[cause] = at
                self.changes += 1
                yield cause, True
            elif not holds and cause in self.causes:
                del self.causes[cause]
                if cause == SILENCE:
                    self.silence_ended = at
                self.changes += 1
                yield cause, False
