"""What the registry says of itself."""

from __future__ import annotations

from agents_sdk.protocol.model import Command, Reply


class Empty(Command):
    """A request without fields."""


class Judge(Reply):
    """How late the replica itself is, for who judges others by time has to know his own."""

    lag: float
    """Seconds that its last message to itself took."""
    allowance: float
    """Seconds added to every time-out: the worst delay of late, half of it forgotten every 10 s."""
    late_ticks: int
    """Times that it stood still for more than half a second."""
    late_pulses: int
    """Messages to itself that took longer than that."""
    outages: int
    """Times that NATS was away."""


class ConflictCounts(Reply):
    """Conflicts by kind; a kind of which there are none is not there."""

    refused: dict[str, int]
    """Registrations that this replica refused since it started: `claim`, `combination`, `versions`."""
    standing: dict[str, int]
    """Rules that agents break now: `combination`, `versions`."""


class Presence(Reply):
    """One replica: who it is and how far it is."""

    replica: str
    leader: bool
    leader_epoch: int
    """Grows with each change of leader; the newest that this replica has led, 0 for none."""
    revision: int
    """The bucket's revision that this replica has applied."""
    registered_agents: int
    """All records, offline ones too."""
    uptime: float
    """Seconds."""
    version: str


class Statistics(Presence):
    """Statistics of one replica; the first ten fields are the API reference's."""

    total_registrations: int
    """Registrations accepted since this replica started."""
    active_agents: int
    degraded_agents: int
    health_checks_performed: int
    """Probes finished and health reports taken since this replica started."""
    failed_health_checks: int
    """Of these, the ones without an answer or with a health below 0.5."""
    auto_scaling_events: int
    """Scaling orders issued since this replica started."""
    service_discovery_requests: int
    assignments: int
    """Assignments that live."""
    assignments_made: int
    """Since this replica started; the leader makes them."""
    capabilities_distribution: dict[str, int]
    """Capability to how many agents that are not offline have it."""
    health_distribution: dict[str, int]
    """`healthy` from 0.8, `degraded` from 0.5, `unhealthy` below; agents that are not offline."""
    status_distribution: dict[str, int]
    heartbeats_received: int
    heartbeats_dropped: int
    """Beats older than one already taken, or from a replaced incarnation."""
    canaries_run: int
    """Canaries that passed or failed since this replica started; the leader runs them."""
    canaries_failed: int
    requests_refused: dict[str, int]
    """Error code to how many requests were answered with it."""
    conflicts: ConflictCounts
    events_published: int
    write_conflicts: int
    """Compare-and-set writes that somebody else won."""
    pending_writes: int
    """Agents with a write on its way now."""
    returns: int
    """Times that an agent came back after it was gone, silent or hung."""
    late_agents: int
    """Agents whose next heartbeat is overdue; the leader alone knows."""
    protection: dict[str, float]
    """Why verdicts are held back now, each with since when, Unix seconds: `silence` or `unreachable`, of many agents
    at once; `lateness`, of this replica; `outage`, of NATS. Empty when none are."""
    judge: Judge
    connections_watched: bool
    """Whether the NATS servers tell this replica of connections that end, so that it probes a crashed agent at once."""
    adopted_agents: int
    """Agents that were made of services which know nothing of the registry; offline ones, too."""
    nats: dict[str, int]
    """`reconnects`, `errors`, `slow_consumer_drops` of this connection; `resyncs` of logs that fell silent."""
