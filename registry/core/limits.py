"""The numbers that decisions depend on. Durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Limits:
    """Times and bounds, as the deployment set them."""

    heartbeat_interval: float = 30.0
    """For agents that do not say theirs."""
    health_check_interval: float = 30.0
    """Between two probes of the same agent; more finds a silent death later and costs less traffic."""
    probe_timeout: float = 2.0
    """Within which an agent answers a probe, or it is slow."""
    offline_retention: float = 3600.0
    """How long the record of an offline agent is kept."""
    drain_timeout: float = 300.0
    """How long a draining agent may take to finish."""
    checkpoint_interval: float = 30.0
    """Between two saves of the same agent's vitals."""
    scaling_interval: float = 5.0
    """Between two looks at the same capability."""
    reconnect_grace: float = 5.0
    """After NATS came, within which an agent that is not there may be on its way back. Clients of NATS try every 2 s
    unless told otherwise."""
    protection_share: float = 0.3
    """Part of the agents, 0.0 to 1.0; if more are in trouble together, their way is the suspect."""
    suspicion_below: float = 5.0
    """Agents that beat at least this often are suspected when they are late by their own rhythm; 0 for none."""
    warm_up: float = 30.0
    """Within which the rank of an agent that came back rises to what it would be."""

    @property
    def patience(self) -> float:
        """Beyond the probe time-out, until who has not answered hangs and is not merely slow."""
        return min(self.probe_timeout, self.health_check_interval / 3)

    @property
    def probe_period(self) -> float:
        """Between two probes of an agent in turn.

        So much shorter than the interval that whoever hangs right after one is known to hang when an interval and a
        probe time-out have passed.
        """
        return max(self.health_check_interval / 2, self.health_check_interval - self.patience - TICKS)


TICKS = 0.25
"""What waiting for ticks adds at most to what is to be in time."""

LATE_BEAT = 1.5
"""A beat is late after so many intervals."""


HEARTBEATS_IN_TIMEOUT = 3
"""A lease lasts this many intervals unless the registration says otherwise, as Eureka's and Synadia's do."""

MAX_GRACE = 10.0
"""Longest extra time a lease gets after a start, a fail-over or an outage."""

MAX_BUSY = 600.0
"""An agent that says it is busy is believed this long after its last sign of life."""

LATE = 1.0
"""What arrives while the newest pulse is older than this may have been sent before a standstill, and its sender may
have gone elsewhere with it since."""

LATE_PULSE = 0.5
SETTLING = 1.0
"""A pulse that was longer on its way than the one means that the way was blocked; so much later, what was held up on
other ways has come."""

LAPSE_RETRY = 5.0
"""Until the end of a lease is ordered again if the order came to nothing."""

HOLDER_PATIENCE = 8.0
HOLDER_RETRY = 0.5
"""How long a registration waits until it can be told whether the id's holder is there, and how often that is tried."""

MAX_COMMANDS = 8
"""Named commands that an agent's record remembers. A replica that stood still carries out what it had been sent before
that; by then others may have done it, and so many commands more."""

MAX_ID = 128
"""Characters of an agent's id, as on the wire."""

GONE = 2
PROBE_REPEAT = 0.05
"""No responders this often, and this many seconds apart, is gone: a reconnecting client is back in 1 to 10 ms."""

PROBE_REPEAT_CLOSED = 0.1
"""The same when its connection was closed: a client further away takes so long to make another one. It still leaves a
crash known within a quarter of a second."""

MAX_PROBES = 1000
MAX_PROBES_IN_TURN = 800
"""Probes in flight at once; one that is not answered takes seconds. Some are left for hints."""

HINT_PAUSE = 0.1
"""Between two probes of the same agent because of hints; a hint in between waits so long."""

REPORT_PAUSE = 1.0
"""A report leads to no probe if one was sent within so many seconds before."""

PROMPT = 2
"""Answers in time, in a row, after which a slow agent is not slow any more."""

MIN_PROTECTED = 10
"""Of fewer agents than this none are many, whatever their share is."""

BURST = 3
BURST_WINDOW = 0.25
"""So many agents that are lost within so many seconds may have been cut off by something on the way, such as a load
balancer, and are given the time that NATS' clients need to come back."""

MAX_LOSSES = 1024
"""Losses that are remembered, to see whether several come at once."""

SCOUTS = 30
SCOUT_PAUSE = 1.0
"""When one agent cannot be reached, so many others are asked earlier than in turn, to see whether it is alone; not
more often than once in so many seconds."""

SAMPLE_WINDOW = 5.0
"""Seconds of probes in turn that are looked at together; as long as one may take that is not answered."""

SWEEP_TIME = 1.0
SWEEP_RATE = 5000
"""When many cannot be reached, all are asked within so many seconds, but not more of them in one second."""

LEASES_HELD = 3
MIN_SILENCE_HELD = 120.0
MAX_SILENCE_HELD = 600.0
"""Under protection an agent's silence is not held against it for so many more leases, but for so many seconds at least
and at most: networks are mended no sooner for agents that beat often."""

HELD_LOOK = 1.0
"""Between two looks at an agent whose verdict is held back."""

MAX_EXPIRIES = 500
"""Leases and retentions that end in one tick; the rest wait for the next, so that no tick takes long."""

MAX_WRITES = 10_000
"""Agents with a write on its way at once; beyond, commands are answered `overloaded`."""

MAX_WAITING = 64
"""Commands that wait for one agent's write; beyond, they are answered `overloaded`."""

MAX_ATTEMPTS = 5
"""Times a command is decided anew because somebody else changed its agent."""

MAX_COMMIT = 100
"""Assignments made and ended in one commit; JetStream takes 1,000, for which those that come next would wait longer."""

MAX_WAITERS = 1_000
"""Requests for an agent that wait until one is free; beyond, they are answered `overloaded`."""

MAX_UNDECIDED = 10_000
"""Requests for assignments that wait for a commit; beyond, they are answered `overloaded`."""

MISSING_GRACE = 10.0
"""An agent that holds assignments and is not known may be one that the other log has yet to tell of; for so long."""

MAX_REMEMBERED = 50_000
"""Removals whose revisions are remembered."""

REMOVAL_KEPT = 600.0
"""A removal's last record and history stay in the log at least this long, for whoever projects events from it."""

SWEEP_RETRY = 60.0
"""Until an ordered sweep is tried again if the log does not show it."""

MAX_SWEEPS = 50
"""Removals swept in one tick: a fleet that leaves must not fill the log a second time at once."""

MAX_METRICS = 128
"""Names of metrics kept for one agent."""

MAX_METRIC_NAME = 64
"""Characters of a metric's name."""
