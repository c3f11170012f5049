"""The one place where facts become orders.

Theory of operation
-------------------
`handle` takes one event and returns effects. It never waits, reads no clock and draws no chance of its own, so the same
events give the same effects. The shell stamps events with the instant of their arrival and performs the effects.

An agent is a *record*, durable in the bucket, and its *vitals*, heard in memory (`agent.py`). Vitals change at once. A
record changes in three steps: a decision makes the record that should be and orders `PutRecord`, guarded by the
revision it was decided on; the bucket answers; only then is the record applied and only then are answers sent. Until it
has ended, further commands for the same agent wait (`writes.py`). A write that lost, or whose outcome is unknown, is
followed by reading the bucket and deciding anew.

Records written by others arrive as `RecordChanged` from the bucket's log and are applied by revision, so that our own
echo is nothing new. Every replica holds the whole state; only the leader starts writes that nobody asked for: leases
that lapse, health that moves a status, retentions that end, checkpoints, sweeps (`upkeep.py`). Status events are not
ordered here: they are a projection of the log (`record.event_of`).

A leader that was away, or stood still, starts none before the shell is sure again that nobody else leads (`Tick.sure`);
it serves as before meanwhile.

What an agent does not say of itself is *evidence* (`evidence.py`): that nobody listens where it is asked, that it does
not answer, answers late, or is silent. `evidence.judge` makes a verdict of it, `judgement.condition` what the status is
to follow. Hints (a late beat, a report, a closed connection) only lead to a probe (`probing.py`). When many are in
trouble together, verdicts are held back (`protection.py`).

Micro services that know nothing of the registry are made agents by the leader (`adopting.py`).

Assignments are decided by the leader alone, on what the log of their bucket says up to its end; `ledger.py` says why no
slot is given twice all the same while two believe to lead.

Time: `at` is monotonic and decides; `wall` is Unix time and is only shown. A lease runs from the last sign of life or
from the last *amnesty*, whichever is later: a start, a change of leader, an outage of NATS. It is judged only as far as
everybody could be heard (`path.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from registry.core import (
    adopting,
    assigned,
    assigning,
    assignment_events,
    canary_runs,
    commands,
    conflict_events,
    conflicts,
    events,
    outcomes,
    probing,
    ruling,
    scaling,
    service_events,
    telemetry,
    upkeep,
)
from registry.core.effects import Effect
from registry.core.state import RegistryState

HANDLERS: dict[type, Callable[[RegistryState, Any], list[Effect]]] = {
    events.TelemetryReceived: telemetry.heard,
    events.ProbeFinished: probing.probe_finished,
    service_events.ServiceSeen: adopting.service_seen,
    service_events.ServiceDescribed: adopting.service_described,
    service_events.ServiceMeasured: adopting.service_measured,
    events.CanaryFinished: canary_runs.canary_finished,
    events.ProblemReported: probing.problem_reported,
    events.ConnectionClosed: probing.connection_closed,
    events.ConnectionsWatched: probing.connections_watched,
    events.RegisterRequested: commands.requested,
    events.CommandRequested: commands.requested,
    events.WriteCommitted: outcomes.committed,
    events.WriteUncertain: outcomes.uncertain,
    events.WriteRefused: outcomes.write_refused,
    events.RecordRead: outcomes.record_read,
    events.ReadFailed: outcomes.read_failed,
    events.RecordChanged: outcomes.record_changed,
    events.RevisionAwaited: outcomes.revision_awaited,
    events.BucketReplaced: outcomes.bucket_replaced,
    events.BucketListed: outcomes.bucket_listed,
    events.PoliciesReplaced: scaling.policies_replaced,
    events.PolicyRequested: scaling.policy_requested,
    events.PolicyCommitted: scaling.policy_committed,
    events.PolicyUncertain: scaling.policy_uncertain,
    events.PolicyRead: scaling.policy_read,
    events.PolicyReadFailed: scaling.policy_read_failed,
    events.PolicyChanged: scaling.policy_changed,
    events.OrdersCommitted: scaling.orders_committed,
    events.OrdersUncertain: scaling.orders_uncertain,
    events.OrdersChanged: scaling.orders_changed,
    conflict_events.RuleRequested: ruling.rule_requested,
    conflict_events.RulePut: ruling.rule_put,
    conflict_events.RuleFound: ruling.rule_found,
    conflict_events.RuleUnknown: ruling.rule_unknown,
    conflict_events.RuleChanged: ruling.rule_changed,
    conflict_events.ViolationPut: conflicts.violation_put,
    conflict_events.ViolationLost: conflicts.violation_lost,
    conflict_events.ViolationChanged: conflicts.violation_changed,
    conflict_events.RefusalTold: conflicts.refusal_told,
    assignment_events.AssignmentRequested: assigning.requested,
    assignment_events.ReleaseRequested: assigning.requested,
    assignment_events.AssignmentsQueried: assigning.queried,
    assignment_events.AssignmentsCommitted: assigned.committed,
    assignment_events.AssignmentsUncertain: assigned.uncertain,
    assignment_events.AssignmentsLearnt: assigned.learnt,
    assignment_events.AssignmentChanged: assigned.changed,
    assignment_events.AssignmentsReplaced: assigned.replaced,
    assignment_events.AssignmentsListed: assigned.entries_listed,
    events.Connected: upkeep.connected,
    events.Disconnected: upkeep.disconnected,
    events.PulseHeard: upkeep.pulse_heard,
    events.LeadershipChanged: upkeep.leadership_changed,
    events.Tick: upkeep.tick,
}


def handle(state: RegistryState, event: events.Event) -> list[Effect]:
    """Take a fact, return orders.

    A request that is refused is an effect like any other; an exception out of here is a defect.
    """
    return HANDLERS[type(event)](state, event)
