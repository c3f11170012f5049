"""What is lost of the acknowledged registrations in which accident."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from agent_registry.doctor import majority
from agent_registry.doctor.durability import SYNC_DEFAULT, is_async, sync_of
from agent_registry.doctor.facts import Facts, Server, Stream, Unseen
from agent_registry.wording import duration


@dataclass(frozen=True)
class Loss:
    """What is lost of the acknowledged registrations in one accident."""

    accident: str
    """`registry_killed`, `nats_killed`, `machine_lost`, `power_lost` or `disk_lost`."""
    lost: str
    """`nothing`, `recent`, `everything` or `unknown`."""
    text: str


def losses(facts: Facts) -> tuple[Loss, ...]:
    """Return what would be lost in which accident; nothing if the bucket was not seen."""
    stream = facts.agents
    if isinstance(stream, Unseen):
        return ()
    servers = facts.servers if isinstance(facts.servers, tuple) else ()
    shared = _share_a_machine(servers)
    when = majority.writable_when(stream, facts)
    idle = f"nothing is written until {when}" if when else ""
    spare = majority.spare(stream, facts)
    where = "" if len(servers) == 1 else f", if it is that of server {stream.leader}"
    return (
        _registry_killed(len(facts.answering), majority.lease_when(facts)),
        _nats_killed(stream, spare, idle, alone=len(servers) == 1),
        _machine_lost(stream, spare, idle, where, shared=shared),
        _power_lost(stream, sync_of(stream, facts)),
        _disk_lost(stream, where, shared=shared),
    )


def _registry_killed(answering: int, no_lease: str) -> Loss:
    if no_lease:
        text = f"nothing; no replica can start, or take over, until {no_lease}"
        return Loss("registry_killed", "nothing", text)
    then = {0: "nobody answers until one is started", 1: "nobody answers until it is started again"}
    return Loss("registry_killed", "nothing", f"nothing; {then.get(answering, 'another replica takes over')}")


def _nats_killed(stream: Stream, spare: int, idle: str, *, alone: bool) -> Loss:
    accident = "nats_killed"
    if stream.copies == 1:
        if stream.in_memory:
            return Loss(accident, "everything", "everything: it is in memory only")
        if is_async(stream):
            return Loss(accident, "recent", "what was acknowledged last, before it was written")
        then = "nobody answers until it is back" if alone else f"if it is {stream.leader}, no writes until it is back"
        return Loss(accident, "nothing", f"nothing; {then}")
    waits = idle or ("writes may wait for some seconds" if spare > 0 else "no writes until it is back")
    unless = "; everything if all are down at once" if stream.in_memory else ""
    return Loss(accident, "nothing", f"nothing; {waits}{unless}")


def _machine_lost(stream: Stream, spare: int, idle: str, where: str, *, shared: bool) -> Loss:
    accident = "machine_lost"
    if stream.copies == 1:
        return Loss(accident, "everything", f"everything{where}: there is 1 copy")
    if shared:
        return Loss(accident, "everything", "everything: the servers listen on loopback, so they share a machine")
    waits = f"; {idle}" if idle else "" if spare > 0 else "; no writes until it is replaced"
    return Loss(accident, "nothing", f"nothing, if each server has a machine of its own{waits}")


def _power_lost(stream: Stream, sync: float | None) -> Loss:
    accident = "power_lost"
    if stream.in_memory:
        return Loss(accident, "everything", "everything: it is in memory only")
    if is_async(stream):
        return Loss(accident, "recent", "what was acknowledged since the last sync of the disk")
    if sync == 0:
        return Loss(accident, "nothing", "nothing")
    if sync is None:
        text = f"unknown; the last {duration(SYNC_DEFAULT)} at most unless sync_interval, not seen here, is set"
        return Loss(accident, "unknown", text)
    return Loss(accident, "recent", f"what was acknowledged in the last {duration(sync)} at most")


def _disk_lost(stream: Stream, where: str, *, shared: bool) -> Loss:
    accident = "disk_lost"
    if stream.in_memory:
        return Loss(accident, "nothing", "nothing: it is not on disk")
    if stream.copies == 1:
        return Loss(accident, "everything", f"everything{where}: there is 1 copy")
    if shared:
        return Loss(accident, "unknown", "everything, if the servers share it; they share a machine")
    return Loss(accident, "nothing", "nothing, if each server has a disk of its own")


def _share_a_machine(servers: tuple[Server, ...]) -> bool:
    """Return whether servers provably run on one machine: they listen where only it can connect."""
    return bool(servers) and all(_is_loopback(server.host) for server in servers)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
