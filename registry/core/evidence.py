"""Evidence: what is known of an agent beside its own reports, since when, and the verdict that follows from it.

Strongest first: nobody listens where it is asked (no responders), its connection was closed, it is asked and does not
answer, it answers late, it is silent beyond its lease. `judge` is the only place that weighs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from registry.core.limits import GONE, PROMPT

STALE = "Stale Connection"
"""What a NATS server says of a connection whose client it could not reach: the way may be at fault."""


class Verdict(StrEnum):
    """What the evidence says of an agent; the wire's names."""

    ALIVE = "alive"
    BUSY = "busy"
    """It does not answer, and said that it would not."""
    SLOW = "slow"
    """It answers late."""
    HUNG = "hung"
    """It is there, and does not answer."""
    SILENT = "silent"
    """Nothing was heard of it for longer than its lease."""
    GONE = "gone"
    """Nobody listens where it is asked."""
    PARTITIONED = "partitioned"
    """It would be one of the three, but the way to it, or a server on that way, is the suspect."""


REASONS = {
    Verdict.BUSY: "busy",
    Verdict.SLOW: "slow",
    Verdict.HUNG: "probe_timeout",
}
"""Verdicts that degrade an agent, with the `status_reason` that each is told as."""

FLAWS = (*REASONS.values(), "canary", "flapping")
"""Reasons for which the registry by itself keeps an agent degraded."""


class Evidence:
    """What was found out about one agent. Instants are monotonic seconds, None where there is nothing."""

    __slots__ = (
        "asked_at",
        "closed_at",
        "closed_reason",
        "is_held",
        "is_own",
        "late_since",
        "missed",
        "missing_since",
        "outcome",
        "problem",
        "prompt",
        "reported_at",
        "reports",
        "stale_since",
        "took",
        "unanswered_since",
        "was_lost",
    )

    def __init__(self) -> None:
        self.missed = 0
        """Probes in a row that found nobody."""
        self.missing_since: float | None = None
        """When the first of them ended."""
        self.unanswered_since: float | None = None
        """When the first of the probes was sent that have not been answered since."""
        self.stale_since: float | None = None
        """When nobody listened any more after it had not answered; see `was_stale`."""
        self.was_lost = False
        """Whether a probe got no answer when those of many others did not, and nothing was heard of it since."""
        self.is_held = False
        """Whether a verdict was held back, and nothing was heard of it since."""
        self.late_since: float | None = None
        """When the first of the late answers came."""
        self.prompt = 0
        """Answers in time since the last late one."""
        self.asked_at: float | None = None
        """When the last probe that has ended was sent."""
        self.took = 0.0
        """Seconds until it ended."""
        self.outcome: str | None = None
        self.closed_at: float | None = None
        """When a connection was closed that calls itself the agent's."""
        self.closed_reason = ""
        self.is_own = False
        """Whether it is the one that the agent named when it registered."""
        self.reports = 0
        """Problems that callers reported of it."""
        self.reported_at: float | None = None
        self.problem = ""
        """The last one."""

    @property
    def is_harmless(self) -> bool:
        """Whether nothing was found that speaks against the agent."""
        return not self.missed and self.does_not_answer_since is None and self.late_since is None

    @property
    def is_absence(self) -> bool:
        """Whether it was not there or did not answer when it was asked last, or is silent and that is held back."""
        return bool(self.missed or self.was_lost or self.is_held or self.does_not_answer_since is not None)

    @property
    def does_not_answer_since(self) -> float | None:
        """Since when it is there, as far as can be told, and does not answer."""
        return self.unanswered_since if self.unanswered_since is not None else self.stale_since

    @property
    def is_gone(self) -> bool:
        """Whether nobody was there twice."""
        return self.missed >= GONE

    @property
    def was_cut(self) -> bool:
        """Whether its connection was closed, not merely silent, and nothing was heard of it since."""
        return self.closed_at is not None and self.closed_reason != STALE

    @property
    def was_stale(self) -> bool:
        """Whether it had stopped to answer before nobody listened any more.

        NATS closes the connection of who does not answer its pings; that is no death.
        """
        if self.was_cut:
            return False
        return self.unanswered_since is not None or (self.closed_at is not None and self.closed_reason == STALE)

    @property
    def own_was_cut(self) -> bool:
        """Whether the connection that it named when it registered is the one that was closed."""
        return self.is_own and self.was_cut

    def told(self) -> Evidence:
        """Return what others have told; what was found by asking is found again by who asks now."""
        if self.closed_at is None and not self.reports:
            return NOTHING
        told = Evidence()
        for name in ("closed_at", "closed_reason", "is_own", "problem", "reported_at", "reports"):
            setattr(told, name, getattr(self, name))
        return told

    def sign_of_life(self) -> None:
        """It has spoken by itself, so it is there; whether it answers is another matter."""
        self.missed, self.missing_since, self.closed_at, self.was_lost = 0, None, None, False
        self.stale_since, self.is_held = None, False

    def missing(self, at: float) -> None:
        """A probe found nobody."""
        self.missed += 1
        if self.missing_since is None:
            self.missing_since = at

    def stale(self, at: float) -> None:
        """A probe found nobody, and that is no death; see `was_stale`."""
        self.missed, self.missing_since = 0, None
        if self.stale_since is None:
            self.stale_since = at

    def unanswered(self, sent: float) -> None:
        """A probe that was sent at an instant has not been answered."""
        self.missed, self.missing_since, self.closed_at = 0, None, None
        self.prompt = 0
        if self.unanswered_since is None:
            self.unanswered_since = sent

    def answered(self, at: float, is_late: bool) -> None:
        """A probe was answered. Who was late is slow until he has been in time so often in a row."""
        self.sign_of_life()
        self.unanswered_since = None
        if is_late:
            self.late_since, self.prompt = at if self.late_since is None else self.late_since, 0
        elif self.late_since is not None:
            self.prompt += 1
            if self.prompt >= PROMPT:
                self.late_since = None

    def forget_absence(self) -> None:
        """What was found of its not being there, or not answering, counts no more."""
        self.sign_of_life()
        self.unanswered_since = self.late_since = None
        self.prompt = 0


NOTHING = Evidence()
"""Stands for the evidence of an agent that there is none of; never changed."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The instants up to which an agent is believed."""

    lease: float
    """End of its lease."""
    busy: float
    """Until when its silence means that it is busy."""
    silence_held: float
    """Until when its silence is not held against it."""
    absence_held: float
    """Until when it is not held against it that it cannot be reached."""


def judge(evidence: Evidence, heard: float, bounds: Bounds, at: float) -> tuple[Verdict, float]:
    """Return the verdict and since when it holds.

    Args:
        evidence: What was found out.
        heard: Instant of the last sign of life.
        bounds: Up to when it is believed.
        at: The instant up to which everybody could be heard.
    """
    if evidence.is_gone:
        since = evidence.missing_since if evidence.missing_since is not None else at
        return (Verdict.PARTITIONED if at < bounds.absence_held else Verdict.GONE), since
    if at >= bounds.lease:
        return (Verdict.PARTITIONED if at < bounds.silence_held else Verdict.SILENT), bounds.lease
    unanswered = evidence.does_not_answer_since
    if unanswered is not None:
        if at < bounds.busy:
            return Verdict.BUSY, unanswered
        # Who beats and does not answer can be reached, whatever becomes of others.
        is_held = at < bounds.absence_held and heard < unanswered
        return (Verdict.PARTITIONED if is_held else Verdict.HUNG), unanswered
    if evidence.late_since is not None:
        return (Verdict.BUSY if at < bounds.busy else Verdict.SLOW), evidence.late_since
    return Verdict.ALIVE, heard
