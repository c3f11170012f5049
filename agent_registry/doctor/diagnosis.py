"""From what was seen to what is said: pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent_registry.doctor import connections, copies, durability, replicas, servers, streams
from agent_registry.doctor.durability import Acknowledgement
from agent_registry.doctor.facts import Facts, Unseen
from agent_registry.doctor.finding import Finding, Severity
from agent_registry.doctor.losses import Loss, losses

_ORDER = (Severity.BROKEN, Severity.NOTE, Severity.OK)


@dataclass(frozen=True)
class Diagnosis:
    """What is said of a deployment."""

    acknowledgement: Acknowledgement | None
    """None if the bucket was not seen."""
    losses: tuple[Loss, ...]
    findings: tuple[Finding, ...]
    """The worst first."""

    @property
    def holds(self) -> bool:
        """Whether every promise holds, as far as can be seen."""
        return all(finding.severity is not Severity.BROKEN for finding in self.findings)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)


def diagnose(facts: Facts) -> Diagnosis:
    """Return what the facts mean."""
    found = [
        *servers.findings(facts),
        *durability.findings(facts),
        *copies.findings(facts),
        *streams.findings(facts),
        *replicas.findings(facts),
        *connections.findings(facts),
    ]
    acknowledgement = None
    if not isinstance(facts.agents, Unseen):
        acknowledgement = durability.acknowledgement(facts.agents, facts)
    return Diagnosis(
        acknowledgement,
        losses(facts),
        tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity))),
    )
