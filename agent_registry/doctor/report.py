"""What the doctor says, for people and for pipes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent_registry.columns import Column, fitted
from agent_registry.doctor.facts import Facts, Lease, Replica
from agent_registry.doctor.finding import Finding, Severity
from agent_registry.doctor.losses import Loss
from agent_registry.doctor.replicas import behind
from agent_registry.wording import count, duration
from agents_sdk.protocol.subjects import DEFAULT_PREFIX

if TYPE_CHECKING:
    from agent_registry.doctor.diagnosis import Diagnosis

STYLES = {Severity.OK: "green", Severity.NOTE: "yellow", Severity.BROKEN: "bold red"}

_LOSS_STYLES = {"nothing": "green", "recent": "yellow", "unknown": "yellow", "everything": "red"}

_ACCIDENTS = {
    "registry_killed": "a registry is killed",
    "nats_killed": "a nats-server is killed",
    "machine_lost": "a machine is lost",
    "power_lost": "power fails everywhere",
    "disk_lost": "a disk is lost",
}


def report(facts: Facts, diagnosis: Diagnosis, width: int) -> Group:
    """Return all of it for people, in so many columns."""
    return Group(*_parts(facts, diagnosis, width))


def _parts(facts: Facts, diagnosis: Diagnosis, width: int) -> Iterator[RenderableType]:
    prefix = "" if facts.subjects.prefix == DEFAULT_PREFIX else f", prefix {facts.subjects.prefix}"
    where = f"agent registry at {facts.where}{prefix}\n"
    yield Text(where, style="bold", no_wrap=True, overflow="ignore")  # a URL stays whole, to be copied
    if diagnosis.acknowledgement is not None:
        yield Text(f"An acknowledged registration is {diagnosis.acknowledgement.text}.\n")
        yield _losses(diagnosis.losses, width)
        yield ""
    if facts.answering:
        yield _replicas(facts.answering, facts.newest_revision, width)
        yield ""
    yield _findings(diagnosis.findings, width)
    yield ""
    yield _summary(diagnosis)


def document(facts: Facts, diagnosis: Diagnosis) -> dict[str, Any]:
    """Return all of it as what `--json` prints; names stay."""
    lease = facts.lease
    leaders = [replica for replica in facts.answering if replica.leader]
    leader = None
    if len(leaders) == 1:
        held = isinstance(lease, Lease) and lease.replica == leaders[0].replica
        leader = {
            "replica": leaders[0].replica,
            "epoch": leaders[0].epoch,
            "since_seconds": facts.led_for if held else None,
        }
    return {
        "holds": diagnosis.holds,
        "nats": facts.where,
        "prefix": facts.subjects.prefix,
        "acknowledgement": diagnosis.acknowledgement,
        "losses": diagnosis.losses,
        "leader": leader,
        "replicas": [_replica(replica, facts.newest_revision) for replica in facts.replicas],
        "findings": diagnosis.findings,
    }


def _replica(replica: Replica, newest: int) -> dict[str, Any]:
    named = {"replica": replica.replica, "answers": replica.answers, "named_by": sorted(replica.named_by)}
    if not replica.answers:
        return named
    return {
        **named,
        "leader": replica.leader,
        "leader_epoch": replica.epoch,
        "revision": replica.revision,
        "behind": behind(replica, newest),
        "registered_agents": replica.agents,
        "uptime": replica.uptime,
        "version": replica.version,
        "slow_consumer_drops": replica.dropped,
        "resyncs": replica.resyncs,
    }


def _losses(losses: tuple[Loss, ...], width: int) -> Table:
    columns = (Column("ACCIDENT"), Column("LOST OF WHAT WAS ACKNOWLEDGED", wraps=True))
    rows = [(_ACCIDENTS[loss.accident], Text(loss.text, style=_LOSS_STYLES[loss.lost])) for loss in losses]
    return fitted(columns, rows, width)


def _replicas(replicas: tuple[Replica, ...], newest: int, width: int) -> Table:
    columns = (
        Column("REPLICA"),
        Column("LEADS"),
        Column("BEHIND", right=True),
        Column("AGENTS", rank=1, right=True),
        Column("UPTIME", rank=2, right=True),
        Column("VERSION", rank=3),
        Column("DROPPED", rank=4, right=True),
        Column("RESYNCS", rank=5, right=True),
    )
    rows = [
        (
            replica.replica,
            f"epoch {replica.epoch}" if replica.leader else "-",
            str(behind(replica, newest)),
            str(replica.agents),
            duration(replica.uptime),
            replica.version,
            str(replica.dropped),
            str(replica.resyncs),
        )
        for replica in sorted(replicas, key=lambda each: (not each.leader, each.replica))
    ]
    return fitted(columns, rows, width)


def _findings(findings: tuple[Finding, ...], width: int) -> Table:
    columns = (Column(""), Column("PROMISE", right=True), Column("FINDING", wraps=True))
    return fitted(columns, [_finding(finding) for finding in findings], width)


def _finding(finding: Finding) -> tuple[Text, str, Text]:
    text = Text(finding.message)
    if finding.change:
        text.append(f"\nchange: {finding.change}", style="dim")
    promise = "" if finding.promise is None else str(finding.promise)
    return Text(finding.severity, style=STYLES[finding.severity]), promise, text


def _summary(diagnosis: Diagnosis) -> Text:
    return Text("; ".join(_counted(diagnosis)), style=STYLES[Severity.OK if diagnosis.holds else Severity.BROKEN])


def _counted(diagnosis: Diagnosis) -> Iterator[str]:
    broken = diagnosis.of(Severity.BROKEN)
    promises = sorted({finding.promise for finding in broken if finding.promise is not None})
    if promises:
        yield f"broken: {' and '.join(f'promise {promise}' for promise in promises)} (README, What is promised)"
    elif broken:
        yield "not all is well"
    else:
        yield "every promise holds, as far as can be seen"
    if broken:
        yield f"{len(broken)} broken"
    if notes := diagnosis.of(Severity.NOTE):
        yield count(len(notes), "note")
