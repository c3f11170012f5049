"""Scaling as others see it: changes of policies, answered when durable; orders, published when durable; the report."""

from __future__ import annotations

from typing import Any

from registry.core.changes import answer, refuse
from registry.core.effects import Effect, PutPolicy, ReadPolicy
from registry.core.errors import RefusedError
from registry.core.events import (
    OrdersChanged,
    OrdersCommitted,
    OrdersUncertain,
    PoliciesReplaced,
    PolicyChanged,
    PolicyCommitted,
    PolicyRead,
    PolicyReadFailed,
    PolicyRequested,
    PolicyUncertain,
)
from registry.core.limits import MAX_ATTEMPTS
from registry.core.policies import PolicyWrite
from registry.core.state import RegistryState


def policy_requested(state: RegistryState, event: PolicyRequested) -> list[Effect]:
    """Check a change of a scaling policy and have it written, or let it wait for the one that is on its way."""
    try:
        state.path.check_current(event.at)
        state.check_capabilities((event.capability,), "capability")
        pending = state.scaler.policies.writes.get(event.capability)
        if pending is not None:
            pending.wait(event)
            return []
        return _decide(state, event, attempts=1)
    except RefusedError as refused:
        return refuse(state, event.reply, refused)


def _decide(state: RegistryState, request: PolicyRequested, attempts: int) -> list[Effect]:
    """Merge a change into the policy that is known now.

    Raises:
        RefusedError: If the policy would not do.
    """
    policies, capability = state.scaler.policies, request.capability
    policy, expected = policies.changed(capability, request.changes, request.reset), policies.revision(capability)
    if policies.is_already(capability, policy):
        return answer(request.reply, scaling_report(state, capability))
    policies.writes[capability] = PolicyWrite(request, policy, expected, attempts)
    return [PutPolicy(capability, policy, expected)]


def policy_committed(state: RegistryState, event: PolicyCommitted) -> list[Effect]:
    """Apply a change that is durable, and answer it."""
    pending = state.scaler.policies.writes.pop(event.capability)
    state.scaler.policies.learn(event.capability, pending.policy, event.revision)
    return _answered(state, pending) + _resume(state, pending)


def _answered(state: RegistryState, pending: PolicyWrite) -> list[Effect]:
    return answer(pending.request.reply, scaling_report(state, pending.request.capability))


def _resume(state: RegistryState, pending: PolicyWrite) -> list[Effect]:
    """Decide the changes that waited for one, now that it has ended."""
    effects: list[Effect] = []
    for request in pending.waiting:
        effects += policy_requested(state, request)
    return effects


def policy_uncertain(state: RegistryState, event: PolicyUncertain) -> list[Effect]:
    """Read the bucket after a write that lost or whose outcome is unknown."""
    policies = state.scaler.policies
    state.statistics.write_conflicts += 1
    policies.writes[event.capability].known = policies.revision(event.capability)
    return [ReadPolicy(event.capability)]


def policy_read(state: RegistryState, event: PolicyRead) -> list[Effect]:
    """Learn the outcome of an uncertain write; merge the change anew if it did not take place."""
    policies, capability = state.scaler.policies, event.capability
    pending = policies.writes.pop(capability)
    known = policies.revision(capability)
    # If nothing was heard since it was asked, the bucket is right, also when it went back: restored, or made anew.
    if event.revision > known or event.revision != known == pending.known:
        policies.put(capability, event.policy, event.revision, event.readable)
    if event.readable and event.policy == pending.policy:
        return _answered(state, pending) + _resume(state, pending)  # it stands there, whoever wrote it
    try:
        if pending.attempts >= MAX_ATTEMPTS:
            message = f"the policy of {capability!r} is being changed by others; try again"
            raise RefusedError("unavailable", f"capability: {message}", ("capability", message))
        effects = _decide(state, pending.request, pending.attempts + 1)
    except RefusedError as refused:
        effects = refuse(state, pending.request.reply, refused)
    return effects + _resume(state, pending)


def policy_read_failed(state: RegistryState, event: PolicyReadFailed) -> list[Effect]:
    """Give up on a write whose outcome cannot be learnt now; the bucket's log will tell."""
    pending = state.scaler.policies.writes.pop(event.capability)
    effects: list[Effect] = []
    for request in (pending.request, *pending.waiting):
        unknown = f"{event.why}; whether the policy was changed is unknown, try again"
        effects += refuse(state, request.reply, RefusedError("unavailable", unknown))
    return effects


def policy_changed(state: RegistryState, event: PolicyChanged) -> list[Effect]:
    """Take an entry of the bucket's log, unless it is known already; the next look withdraws what another ordered."""
    state.scaler.policies.learn(event.capability, event.policy, event.revision, event.readable)
    return []


def policies_replaced(state: RegistryState, _: PoliciesReplaced) -> list[Effect]:
    """Forget every policy, order and rule; what is on its way loses against the new bucket."""
    state.scaler.policies.begin_anew()
    state.scaler.begin_anew()
    state.catalog.rules.begin_anew()
    state.violations.begin_anew()
    return []


def orders_committed(state: RegistryState, event: OrdersCommitted) -> list[Effect]:
    """Publish orders that are durable."""
    effects = state.scaler.committed(event.capability, event.orders, event.revision)
    state.statistics.scaling_orders += len(effects)
    return effects


def orders_uncertain(state: RegistryState, event: OrdersUncertain) -> list[Effect]:
    """Wait for the log, and decide anew at the next look."""
    state.statistics.write_conflicts += 1
    state.scaler.failed(event.capability, event.orders)
    return []


def orders_changed(state: RegistryState, event: OrdersChanged) -> list[Effect]:
    """Take an entry of the bucket's log, unless it is known already."""
    state.scaler.learn(event.capability, event.orders, event.revision)
    return []


def scaling_report(state: RegistryState, capability: str | None) -> dict[str, Any]:
    """Return the scaler's view of one capability, or of all that agents have or policies name."""
    if capability is None:
        names = sorted({*state.catalog.by_capability, *state.scaler.policies.own, *state.scaler.ordered()})
    else:
        state.check_capabilities((capability,), "capability")
        names = [capability]
    reports = [state.scaler.report(name, state.catalog.of_capability(name)) for name in names]
    return {"enabled": state.scaler.enabled, "capabilities": reports}
