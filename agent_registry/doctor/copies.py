"""Whether there are as many copies of buckets and stream as there should be, and all of them up to date."""

from __future__ import annotations

from collections.abc import Iterator

from agent_registry.doctor import majority
from agent_registry.doctor.facts import Facts, Peer, Stream
from agent_registry.doctor.finding import Finding, broken, note, ok
from agent_registry.doctor.repair import edit
from agent_registry.wording import count

REPORT = "nats server report jetstream --context SYSTEM  # a context of the system account; shows which server is down"

NO_ANSWER = "it has no leader, or is overloaded"


def findings(facts: Facts) -> list[Finding]:
    """Return what to say about the copies."""
    streams = [
        each for each in (facts.agents, facts.control, facts.assignments, facts.events) if isinstance(each, Stream)
    ]
    servers = None if facts.jetstream_servers is None else len(facts.jetstream_servers)
    found = [*_wrong_number(streams, facts.wanted_copies, servers)]
    for stream in streams:
        away = majority.away(stream, facts)
        found += _missing(stream, facts)
        if stream.leader:  # else nobody can say who is behind
            found += [_behind(stream, peer) for peer in stream.peers if not peer.current and peer.name not in away]
    if streams and not found:
        kept = " or ".join(_number(copies) for copies in sorted({stream.copies for stream in streams}))
        there = "" if servers is None else f"; {count(servers, 'server')} could keep one"
        found.append(ok("copies", f"buckets and stream are kept in {kept}{there}", 1))
    return found


def _wrong_number(streams: list[Stream], wanted: int | None, servers: int | None) -> Iterator[Finding]:
    """Judge the number of copies, against the setting and the servers that there are."""
    alike: dict[tuple[int, str, int], list[Stream]] = {}
    for stream in streams:
        why, better = _better(stream.copies, wanted, servers)
        if why:
            alike.setdefault((stream.copies, why, better), []).append(stream)
    for (copies, why, better), same in alike.items():
        change = " && ".join(edit(f"--replicas {better}")(stream) for stream in same)
        if servers is not None and servers < better:
            change += f"  # once there are {better} servers with JetStream; now: {servers}"
        names = ", ".join(stream.name for stream in same)
        yield note("copies", f"{_number(copies)} of {names}, {why}", 1, change)


def _better(copies: int, wanted: int | None, servers: int | None) -> tuple[str, int]:
    """Return why a number of copies is not the right one, and which is; an empty reason if it is."""
    if wanted is not None and copies != wanted:
        return f"but AGENT_REGISTRY_KV_REPLICAS is {wanted}", wanted
    if wanted is None and servers is not None and copies < 3 <= servers:
        return f"though {servers} servers could keep 3: the loss of one machine can lose everything", 3
    if copies == 2:
        return "so that writes wait for both: the loss of either server stops them", 3
    return "", copies


def _missing(stream: Stream, facts: Facts) -> Iterator[Finding]:
    missing, spare = majority.missing(stream, facts), majority.spare(stream, facts)
    if not stream.leader and spare >= 0:
        yield broken("copies", f"{stream.name} has no leader: nothing can be written", 1, REPORT)
        return
    if not missing:
        return
    away = majority.away(stream, facts)
    names = f" (not that of {', '.join(away)})" if away else ""
    there = f"{stream.name}: {stream.copies - missing} of {stream.copies} copies are there{names}"
    if spare < 0:
        yield broken("copies", f"{there}, which is no majority: nothing can be written", 1, REPORT)
    else:
        then = f"{count(spare, 'more server')} may go" if spare else "without one more nothing can be written"
        yield note("copies", f"{there}; {then}", 1, REPORT)


def _behind(stream: Stream, peer: Peer) -> Finding:
    lag = f", by {count(peer.lag, 'operation')}" if peer.lag else ""
    message = f"{stream.name}: the copy on {peer.name} is behind{lag}; a server that has just started catches up"
    return note("copies", message, 1, "look again in a minute")


def _number(copies: int) -> str:
    return "1 copy" if copies == 1 else f"{copies} copies"
