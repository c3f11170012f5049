"""Which servers with a copy of a stream are there, and whether they are enough to write it."""

from __future__ import annotations

from agent_registry.doctor.facts import Facts, Stream, Unseen, Why


def away(stream: Stream, facts: Facts) -> list[str]:
    """Return the servers with a copy that are down or cut off.

    JetStream says so of a server after a minute or so, its silence does at once.
    """
    answered = None if isinstance(facts.servers, Unseen) else {server.name for server in facts.servers}
    return [peer.name for peer in stream.peers if peer.offline or (answered is not None and peer.name not in answered)]


def there(stream: Stream, facts: Facts) -> frozenset[str]:
    """Return the servers with a copy that are not away."""
    # Without a leader nobody says who it is that answers for the stream: one of those that are there.
    first = {stream.leader} if stream.leader else {server.name for server in facts.seen_servers}
    return frozenset((first | {peer.name for peer in stream.peers}) - set(away(stream, facts)))


def missing(stream: Stream, facts: Facts) -> int:
    """Return how many copies are not there, also because a server was taken out."""
    # The leader is not among its peers. Without one, the server that answers may be or not.
    unlisted = 1 if stream.leader or len(stream.peers) < stream.copies else 0
    return max(0, stream.copies - unlisted - len(stream.peers) + len(away(stream, facts)))


def spare(stream: Stream, facts: Facts) -> int:
    """Return how many more servers may go before nothing can be written; below 0 that is so already."""
    return (stream.copies - 1) // 2 - missing(stream, facts)


def writable_when(stream: Stream, facts: Facts) -> str:
    """Return what has to be until a stream can be written again; empty if it can be now."""
    if spare(stream, facts) < 0:
        return f"a majority of its {stream.copies} servers is back"
    return "" if stream.leader else "it has a leader"


def lease_when(facts: Facts) -> str:
    """Return what has to be until a replica can lead, which begins with a write and goes on with more; empty if now."""
    for stream in (facts.control, facts.agents):
        if isinstance(stream, Unseen):
            when = "JetStream answers" if stream.why is Why.SILENT else ""
        else:
            when = writable_when(stream, facts)
        if when:
            return when
    return ""


def silence(stream: Stream, facts: Facts) -> str:
    """Return which servers with a copy do not answer, to be added to what is said of the others; empty if all do."""
    gone = away(stream, facts)
    if not gone:
        return ""
    return f"{' and '.join(gone)} {'does' if len(gone) == 1 else 'do'} not answer"
