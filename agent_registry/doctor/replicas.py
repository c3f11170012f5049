"""Whether the registry itself is well: who leads, who answers, who is behind; and whether events keep up."""

from __future__ import annotations

from collections.abc import Iterator

from agent_registry.doctor.copies import NO_ANSWER, REPORT
from agent_registry.doctor.facts import Facts, Gap, Lease, Replica, Stream, Unseen, Why
from agent_registry.doctor.finding import Finding, broken, note, ok
from agent_registry.doctor.majority import lease_when
from agent_registry.target import serve_command
from agent_registry.wording import count, duration


def findings(facts: Facts) -> list[Finding]:
    """Return what to say about the replicas and what they publish."""
    return [*_registry(facts), *_leader(facts), *_losses(facts.answering), *_events(facts)]


def behind(replica: Replica, newest: int) -> int:
    """Return how many revisions a replica is behind the newest one of the bucket."""
    return max(0, newest - replica.revision)


def _registry(facts: Facts) -> Iterator[Finding]:
    yield from (_silent(replica) for replica in facts.replicas if not replica.answers)
    answering = facts.answering
    if facts.denied and not answering:
        message = "whether a registry runs was not seen: NATS does not let this user ask"
        yield broken("registry", message, None, "give the --creds or --context of somebody who may")
        return
    if not answering:
        change = serve_command(facts.where, facts.subjects.prefix)
        yield broken("registry", f"no registry with prefix {facts.subjects.prefix} answers here", None, change)
        return
    versions = sorted({replica.version for replica in answering})
    if len(versions) > 1:
        message = f"replicas of different versions: {', '.join(versions)}"
        yield note("registry", message, change="finish the upgrade: restart the older ones with the newest version")
    late = [replica for replica in answering if behind(replica, facts.newest_revision)]
    yield from (_late(replica, facts.newest_revision) for replica in late)
    if not late:
        verb = "answers" if len(answering) == 1 else "answer"
        yield ok("registry", f"{count(len(answering), 'replica')} {verb}, none is behind", 2)


def _silent(replica: Replica) -> Finding:
    seen = {
        "connection": "it is connected to NATS",
        "lease": "it holds the leader's lease",
        "$SRV.PING": "it answers $SRV.PING",
        "replicas": "it said that it is there",
    }
    reasons = " and ".join(text for name, text in seen.items() if name in replica.named_by)
    message = f"replica {replica.replica} does not answer, though {reasons}"
    if replica.named_by == {"lease"}:
        return note("registry", f"{message}: it has ended without handing the lease over")
    # What NATS hands to a replica that stands still is not answered, until its connection is closed.
    return broken("registry", f"{message}; requests that NATS hands to it go nowhere", None, "restart its process")


def _late(replica: Replica, newest: int) -> Finding:
    message = f"replica {replica.replica} is {count(behind(replica, newest), 'revision')} behind"
    if replica.revision > replica.revision_before:
        return note("registry", f"{message} and catching up", 2, "look again in a minute")
    return broken("registry", f"{message} and does not move", 2, "restart its process")


def _leader(facts: Facts) -> Iterator[Finding]:
    answering, lease = facts.answering, facts.lease
    leaders = [replica for replica in answering if replica.leader]
    if not answering:
        if isinstance(lease, Lease) and lease.replica:
            message = f"{lease.replica} led last, epoch {lease.epoch}; it renewed its lease {duration(lease.age)} ago"
            yield note("leader", message)
        return
    if not leaders:
        yield _nobody_leads(lease, lease_when(facts))
    elif len(leaders) > 1:
        names = ", ".join(f"{replica.replica} (epoch {replica.epoch})" for replica in leaders)
        oldest = min(leaders, key=lambda replica: replica.epoch)
        change = f"look again in half a minute; if both still lead, restart the process of {oldest.replica}"
        yield broken("leader", f"two replicas say that they lead: {names}; orders may come twice", 3, change)
    else:
        yield _one_leads(leaders[0], facts)


def _nobody_leads(lease: Lease | Unseen, when: str) -> Finding:
    message = "nobody leads: no events are published, no health is checked, nothing is scaled"
    if isinstance(lease, Lease) and lease.replica:
        message += f"; the lease is {lease.replica}'s, epoch {lease.epoch}, renewed {duration(lease.age)} ago"
    if when:
        return broken("leader", f"{message}; nobody can lead until {when}", 3, REPORT)
    change = "another replica takes over when the lease ends (AGENT_REGISTRY_LEADER_LEASE, 10 s); then look again"
    return broken("leader", message, 3, change)


def _one_leads(leader: Replica, facts: Facts) -> Finding:
    lease = facts.lease
    if isinstance(lease, Lease) and lease.epoch > leader.epoch:
        message = f"{leader.replica} leads with epoch {leader.epoch}, though the lease has epoch {lease.epoch}"
        change = f"look again in half a minute; if it still does, restart the process of {leader.replica}"
        return broken("leader", message, 3, change)
    since = "" if facts.led_for is None else f", for {duration(facts.led_for)}"
    return ok("leader", f"{leader.replica} leads, epoch {leader.epoch}{since}")


def _losses(replicas: tuple[Replica, ...]) -> Iterator[Finding]:
    for replica in replicas:
        if replica.dropped:
            message = (
                f"replica {replica.replica} has dropped {count(replica.dropped, 'message')} since its start: they came "
                "faster than it took them, and heartbeats may be among them"
            )
            yield note("drops", message, 4, "give it more CPU, or have agents beat less often (heartbeat_interval)")
        if replica.resyncs:
            times = "once" if replica.resyncs == 1 else f"{replica.resyncs} times"
            message = f"the log fell silent for replica {replica.replica} {times} and was followed anew"
            yield note("drops", message, 2, "look for log_stalled in its log, and at the load of NATS at that time")
    if replicas and not any(replica.dropped or replica.resyncs for replica in replicas):
        yield ok("drops", "no replica has dropped a message or lost the log since its start", 4)


def _events(facts: Facts) -> Iterator[Finding]:
    projection = facts.projection
    if not isinstance(facts.agents, Stream) or not isinstance(facts.events, Stream):
        return  # said elsewhere
    if isinstance(projection, Unseen):
        unseen = "whether events are published up to the newest change was not seen"
        if projection.why is Why.FORBIDDEN:
            change = "give the --creds or --context of somebody who may read the bucket"
            yield note("events", f"{unseen} with this login", 3, change)
        elif projection.why is not Why.ABSENT:
            said = f"{unseen}: JetStream does not answer ({projection.said or NO_ANSWER})"
            yield note("events", said, 3, f"look again in a minute; then: {REPORT}")
        return
    newest = projection.newest_event
    if projection.gap is not None:
        yield _unpublished(projection.gap, newest, running=bool(facts.answering))
    elif newest is not None and newest > projection.last_revision:
        message = (
            f"events go up to revision {newest}, the bucket only to {projection.last_revision}: it was made anew, "
            "and a new leader takes its changes for published"
        )
        purge = f"nats stream purge {facts.events.name} --subject '{facts.subjects.events_of('status')}'"
        yield broken("events", message, 3, f"{purge}  # then restart the registries")
    elif projection.searched_to is not None:
        message = f"events are published up to revision {projection.searched_to}; it was not looked further"
        yield ok("events", message, 3)
    else:
        yield ok("events", "events are published up to the newest change", 3)


def _unpublished(gap: Gap, newest: int | None, *, running: bool) -> Finding:
    so_far = "none" if newest is None else f"only those up to revision {newest}"
    message = f"the change of revision {gap.revision}, {duration(gap.age)} ago, has no event; {so_far} were published"
    if not running:
        return note("events", f"{message}; the next leader publishes it", 3)
    change = "look for event_not_taken in the leader's log; restarting the leader publishes what is missing"
    return broken("events", message, 3, change)
