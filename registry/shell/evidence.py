"""The evidence on an agent, as `get` shows it."""

from __future__ import annotations

from typing import Any

from registry.core import flapping
from registry.core.agent import Agent
from registry.core.judgement import verdict
from registry.core.state import RegistryState


def evidence_fields(state: RegistryState, agent: Agent, at: float, replica_id: str) -> dict[str, Any]:
    """Return what a replica knows of an agent at an instant, and what it makes of it."""

    def wall(instant: float | None) -> float | None:
        return None if instant is None else state.wall(instant)

    found, (weighed, since) = agent.evidence, verdict(state, agent, at)
    flaps = agent.record.flaps
    return {
        "verdict": weighed,
        "since": state.wall(since),
        "silence": round(max(0.0, at - agent.heard), 3),
        "lease_left": round(state.leases.end(agent) - at, 3),
        "busy_until": wall(agent.busy_until or None),
        "probed_at": wall(found.asked_at),
        "probe_outcome": found.outcome,
        "probe_took": None if found.asked_at is None else round(found.took, 6),
        "probes_missed": found.missed,
        "unanswered_since": wall(found.does_not_answer_since),
        "slow_since": wall(found.late_since),
        "disconnected_at": wall(found.closed_at),
        "disconnect_reason": found.closed_reason if found.closed_at is not None else None,
        "reports": found.reports,
        "reported_at": wall(found.reported_at),
        "problem": found.problem or None,
        "returns": flapping.returns(flaps),
        "flapping_until": flapping.held_until(flaps, state.wall(at)),
        "failing_canaries": {
            capability: {"since": failure.since, "why": failure.why}
            for capability, failure in state.canaries.failing(agent.agent_id).items()
        },
        "held_back_by": sorted(state.protection.causes),
        "judged_by": replica_id,
    }
