"""Agents, scaling and statistics as tables."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from agent_registry.columns import GAP, Column, fitted
from agent_registry.wording import (
    STATUS_STYLES,
    ago,
    bar,
    because,
    count,
    duration,
    health_style,
    load_style,
    moment,
    number,
)

if TYPE_CHECKING:
    from agents_sdk.protocol.discovery import AgentInfo, Evidence, Vocabulary
    from agents_sdk.protocol.scaling import CapabilityScaling, ScalingOrder
    from agents_sdk.protocol.statistics import Statistics


WIDE = 120
"""Columns from which on a terminal has room for bars."""


def pairs(rows: Iterable[tuple[str, Any]]) -> Table:
    """Return a table of names and values, for one thing with many properties."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    return table


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return Text(status, style=STATUS_STYLES.get(status, ""))


def health_text(agent: AgentInfo, bars: bool = True) -> Text:
    """Return an agent's health with its bar; a dash when it never said anything of itself."""
    health = agent.health_score
    if agent.load_age is None and health == 1.0:  # what is assumed of everybody
        return Text("-")
    return Text(f"{bar(health)} {health:.2f}" if bars else f"{health:.2f}", style=health_style(health))


def load_text(load: float | None, bars: bool = True) -> Text:
    """Return a load with its bar; a dash when there is none."""
    if load is None:
        return Text("-")
    return Text(f"{bar(load)} {load:.2f}" if bars else f"{load:.2f}", style=load_style(load))


def reported_load(agent: AgentInfo) -> float | None:
    """Return the load that an agent reported, None if it never did."""
    return None if agent.load_age is None else agent.load_factor


def agents_table(agents: Iterable[AgentInfo], width: int) -> Table:
    """Return agents as an operator looks at them: how they are, and why.

    Args:
        agents: The agents, in the order in which to show them.
        width: Columns of the terminal; on a narrow one the bars give way to the words.
    """
    bars = width >= WIDE
    columns = (
        Column("AGENT"),
        Column("TYPE", rank=3),
        Column("STATUS"),
        Column("HEALTH"),
        Column("LOAD"),
        Column("LAST BEAT", rank=2, right=True),
        Column("CAPABILITIES", rank=4, wraps=True),
        Column("REASON", rank=1, wraps=True),
    )
    rows = [
        (
            agent.agent_id,
            agent.agent_type,
            status_text(agent.status),
            health_text(agent, bars),
            load_text(reported_load(agent), bars),
            ago(agent.last_heartbeat),
            ", ".join(sorted(agent.capabilities)),
            because(agent.status_reason, agent.status_note),
        )
        for agent in agents
    ]
    return fitted(columns, rows, width)


def found_table(agents: Iterable[AgentInfo], width: int) -> Table:
    """Return agents as a caller looks at them: best first, with what they were ranked by.

    Args:
        agents: The agents, best first.
        width: Columns of the terminal, as for `agents_table`.
    """
    bars = width >= WIDE
    columns = (
        Column("#", right=True),
        Column("AGENT"),
        Column("TYPE", rank=3),
        Column("STATUS"),
        Column("HEALTH"),
        Column("LOAD"),
        Column("SUCCESS", rank=1, right=True),
        Column("VERSION", rank=2),
        Column("CAPABILITIES", rank=4, wraps=True),
        Column("TAGS", rank=5, wraps=True),
    )
    rows = [
        (
            str(rank),
            agent.agent_id,
            agent.agent_type,
            status_text(agent.status),
            health_text(agent, bars),
            load_text(reported_load(agent), bars),
            number(agent.performance_metrics.get("success_rate")),
            agent.version,
            ", ".join(sorted(agent.capabilities)),
            ", ".join(sorted(agent.tags)),
        )
        for rank, agent in enumerate(agents, 1)
    ]
    return fitted(columns, rows, width)


def agent_pairs(agent: AgentInfo) -> Table:
    """Return everything known of one agent."""
    import json

    status = status_text(agent.status)
    if agent.status_reason:
        status.append(f" ({because(agent.status_reason, agent.status_note)})", style="default")
    if agent.status_since is not None:
        status.append(f" for {ago(agent.status_since)}", style="default")
    load = load_text(reported_load(agent))
    age = "never reported" if agent.load_age is None else f"reported {duration(agent.load_age)} ago"
    load.append(f"  {age}", style="default")
    rows: list[tuple[str, Any]] = [
        ("agent", agent.agent_id),
        ("type", agent.agent_type),
        ("status", status),
        ("capabilities", ", ".join(sorted(agent.capabilities))),
        ("tags", ", ".join(sorted(agent.tags)) or "-"),
        ("version", agent.version),
        ("health", health_text(agent)),
        ("load", load),
        ("last beat", f"{ago(agent.last_heartbeat)} ago"),
        ("heartbeats", f"every {agent.heartbeat_interval:g} s, lost after {agent.heartbeat_timeout:g} s"),
        ("registered", moment(agent.registered_at)),
        ("incarnation", agent.incarnation),
        ("revision", agent.revision),
        ("health checks", agent.health_subject or "none: lives by its heartbeats"),
        ("concurrency", agent.max_concurrency or "not said"),
        ("reserved", count(agent.reserved, "slot") if agent.reserved else "-"),
        ("claims", ", ".join(sorted(agent.claims)) or "-"),
        *((f"canary {name}", f"to topic {canary['topic']}") for name, canary in sorted(agent.canaries.items())),
    ]
    if agent.adopted is not None:
        rows.append(("adopted", f"{agent.adopted.protocol} service {agent.adopted.service}, which knows nothing of it"))
        rows += [(f"endpoint {name}", subject) for name, subject in sorted(agent.adopted.endpoints.items())]
    if agent.suspicion:
        rows.append(("suspicion", number(agent.suspicion)))
    if agent.evidence is not None:
        rows += [("evidence", evidence_text(agent.evidence))]
    rows += [(f"metric {name}", f"{value:g}") for name, value in sorted(agent.performance_metrics.items())]
    if agent.metadata:
        rows.append(("metadata", json.dumps(agent.metadata, ensure_ascii=False, indent=2)))
    return pairs(rows)


def evidence_text(evidence: Evidence) -> str:
    """Return what the registry found out about an agent, a line each, the verdict first."""
    now = time.time()

    def before(at: float | None) -> str:
        return f"{ago(at or now)} ago"

    def left(until: float | None) -> float:
        return (until or 0.0) - now

    lines = [
        (True, evidence.verdict if evidence.verdict == "alive" else f"{evidence.verdict} for {ago(evidence.since)}"),
        (
            True,
            f"silent for {duration(evidence.silence)}, its lease has {duration(max(0.0, evidence.lease_left))} left",
        ),
        (
            evidence.probed_at,
            f"health check: {evidence.probe_outcome} after {(evidence.probe_took or 0) * 1000:.1f} ms, "
            f"{before(evidence.probed_at)}",
        ),
        (evidence.probes_missed, f"nobody listened, {count(evidence.probes_missed, 'time')} in a row"),
        (evidence.unanswered_since, f"does not answer health checks since {before(evidence.unanswered_since)}"),
        (evidence.slow_since, f"answers late since {before(evidence.slow_since)}"),
        (
            evidence.disconnected_at,
            f"connection closed {before(evidence.disconnected_at)}: {evidence.disconnect_reason}",
        ),
        (left(evidence.busy_until) > 0, f"busy for {duration(left(evidence.busy_until))} more"),
        (
            evidence.reports,
            f"{count(evidence.reports, 'report')}, the last {before(evidence.reported_at)}: {evidence.problem}",
        ),
        *(
            (True, f"fails its canary of {capability} since {before(failing.since)}: {failing.why}")
            for capability, failing in sorted(evidence.failing_canaries.items())
        ),
        (evidence.returns, f"came back {count(evidence.returns, 'time')} after it was gone, silent or hung"),
        (evidence.flapping_until, f"kept degraded for {duration(left(evidence.flapping_until))} more"),
        (evidence.held_back_by, f"verdicts are held back: {', '.join(evidence.held_back_by)}"),
    ]
    return "\n".join(line for is_said, line in lines if is_said)


def statistics_pairs(statistics: Statistics) -> Table:
    """Return the statistics of the replica that answered."""

    def spread(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {amount}" for name, amount in sorted(counts.items()) if amount) or "-"

    shown = {
        "uptime": duration(statistics.uptime),
        "capabilities_distribution": spread(statistics.capabilities_distribution),
        "health_distribution": spread(statistics.health_distribution),
        "status_distribution": spread(statistics.status_distribution),
        "requests_refused": spread(statistics.requests_refused),
        "conflicts": "; ".join(f"{name} {spread(counts)}" for name, counts in statistics.conflicts),
        "nats": ", ".join(f"{name.replace('_', ' ')} {amount}" for name, amount in statistics.nats.items()),
        "leader": "yes" if statistics.leader else "no",
        "protection": ", ".join(f"{cause} for {ago(at)}" for cause, at in statistics.protection.items()) or "-",
        "judge": ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in statistics.judge),
        "connections_watched": "yes" if statistics.connections_watched else "no",
    }
    fields = statistics.model_dump(by_alias=True)
    return pairs((name.replace("_", " "), shown.get(name, value)) for name, value in fields.items())


def vocabulary_table(vocabulary: Vocabulary, width: int) -> Table:
    """Return the known capabilities and how many agents have each."""
    rows = []
    for capability in sorted(vocabulary.capabilities, key=lambda item: (-item.agents, item.name)):
        style = "" if capability.agents else "dim"
        cells = (capability.name, str(capability.agents), "" if capability.builtin else "own")
        rows.append([Text(cell, style=style) for cell in cells])
    return fitted((Column("CAPABILITY"), Column("AGENTS", right=True), Column("")), rows, width)


def order_text(order: ScalingOrder) -> str:
    """Return an open order in a few words."""
    attempt = f", attempt {order.attempt}" if order.attempt > 1 else ""
    named = f" {order.agents[0]}" if len(order.agents) == 1 else f" {len(order.agents)}" if order.agents else ""
    return f"{order.action}{named}{attempt}"


def scaling_table(capabilities: Iterable[CapabilityScaling], width: int) -> Table:
    """Return what the scaler sees and wants, and why."""
    bars = width >= WIDE
    columns = (
        Column("CAPABILITY"),
        Column("AGENTS", right=True),
        Column("DESIRED", right=True),
        Column("MIN-MAX", rank=2, right=True),
        Column("LOAD"),
        Column("UP/DOWN AT", rank=3, right=True),
        Column("ORDER", rank=1),
        Column("WHY", wraps=True, least=26),
    )
    rows = []
    for item in capabilities:
        policy = item.policy
        pending = f" (+{item.observed.pending})" if item.observed.pending else ""
        rows.append(
            (
                item.capability,
                f"{item.observed.agents}{pending}",
                str(item.desired),
                f"{policy.min_agents}-{policy.max_agents}",
                load_text(item.observed.mean_load, bars),
                f"{policy.high_load:g}/{policy.low_load:g}",
                ", ".join(order_text(order) for order in item.orders) or "-",
                item.reason,
            )
        )
    return fitted(columns, rows, width)
