"""What an acknowledgement means in this deployment, and which accident it survives.

What nats-server does, as its sources say (2.11 to 2.15): a write is acknowledged when a majority of the stream's
servers have handed it to their operating system, and is on disk after the next sync: every two minutes unless
`sync_interval` says otherwise, or before the acknowledgement with `always`. A stream in memory is never on disk. With
`persist_mode: async`, which only a stream of one copy can have, the server acknowledges before it has handed anything
over, whatever `sync_interval` says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent_registry.doctor.facts import Facts, Stream, Unseen
from agent_registry.doctor.finding import Finding, broken, note, ok
from agent_registry.doctor.majority import silence, there, writable_when
from agent_registry.doctor.repair import MOVE_TO_FILE, restore
from agent_registry.wording import count, duration

SYNC_DEFAULT = 120.0
"""Seconds; nats-server's own `sync_interval`."""

SEE_SYNC = (
    "agent-registry doctor --system-context NAME  # a nats context of the system account, or --system-creds FILE; "
    "where there is no such login, look for sync_interval in nats-server.conf"
)
SYNC_ALWAYS = (
    "jetstream { sync_interval: always }  # in nats-server.conf; fewer writes a second. "
    "`up` writes its own file: run nats-server yourself, and `serve`"
)


@dataclass(frozen=True)
class Acknowledgement:
    """What has become of a registration when its acknowledgement comes."""

    storage: str
    """`file` or `memory`."""
    copies: int
    """Servers that keep it in the end."""
    in_memory_of: int
    """Servers whose operating system has it; 0 if even that is not waited for."""
    on_disk_of: int | None
    """Servers that have it on disk; None if that cannot be seen."""
    sync_interval: float | None
    """Seconds until it is on disk at the latest; 0 if it is already, None if that never is or cannot be seen."""
    text: str


def acknowledgement(stream: Stream, facts: Facts) -> Acknowledgement:
    """Return what the acknowledgement of a write to a stream means, and whether there can be one now."""
    meant, silent, when = _when_written(stream, facts), silence(stream, facts), writable_when(stream, facts)
    text = meant.text + (f"; {silent}" if silent else "")
    return replace(meant, text=f"{text}; none can be acknowledged until {when}" if when else text)


def _when_written(stream: Stream, facts: Facts) -> Acknowledgement:
    majority = stream.copies // 2 + 1
    who = count(majority, "server") if stream.copies == 1 else f"{majority} of {stream.copies} servers"
    if stream.in_memory:
        return Acknowledgement("memory", stream.copies, majority, 0, None, f"in memory of {who}, on disk of none")
    sync = sync_of(stream, facts)
    if is_async(stream):
        sync = SYNC_DEFAULT if sync == 0 else sync  # `always` does not hold for it
        text = f"received by {who}, which may not have written it anywhere yet (persist_mode: async)"
        return Acknowledgement("file", stream.copies, 0, 0, sync, text)
    on_disk_of = None if sync is None else 0 if sync else majority
    memory = f"in memory of {who}, safe from kill -9"
    if sync == 0:
        text = f"on disk of {who} (sync_interval: always)"
    elif sync is None:
        text = (
            f"{memory}; when it is on disk cannot be seen with this login: "
            f"within {duration(SYNC_DEFAULT)} unless sync_interval is set"
        )
    else:
        text = f"{memory}; on disk within {duration(sync)} (sync_interval)"
    return Acknowledgement("file", stream.copies, majority, on_disk_of, sync, text)


def sync_of(stream: Stream, facts: Facts) -> float | None:
    """Return the longest time until a stream's servers have a write on disk; None if this login may not see that.

    A server that is away says nothing to anybody: it is judged when it is back, and until then it takes no write.
    """
    known = {server.name: server.sync for server in facts.seen_servers}
    times = [known.get(name) for name in there(stream, facts)]
    seen = [time for time in times if time is not None]
    return max(seen) if seen and len(seen) == len(times) else None


def findings(facts: Facts) -> list[Finding]:
    """Return what to say about what an acknowledgement is worth."""
    stream = facts.agents
    if isinstance(stream, Unseen):
        return []
    found = [_survives_kill(stream, facts), *_survives_power(stream, facts)]
    events = facts.events
    if isinstance(events, Stream) and _is_lost_with_server(events):
        message = f"{events.name} does not survive kill -9 of nats-server: {_how_kept(events)}"
        found.append(broken("durability", message, 3, restore(MOVE_TO_FILE)(events)))
    control = facts.control
    if isinstance(control, Stream) and control.in_memory:
        message = f"{control.name} is in memory: scaling policies and the leader's epoch go with nats-server"
        found.append(note("durability", message, change=restore(MOVE_TO_FILE)(control)))
    return found


def _survives_kill(stream: Stream, facts: Facts) -> Finding:
    if _is_lost_with_server(stream):
        message = f"acknowledged registrations do not survive kill -9 of nats-server: {_how_kept(stream)}"
        return broken("durability", message, 1, restore(MOVE_TO_FILE)(stream))
    survive = "survive kill -9 of every registry and nats-server"
    if when := writable_when(stream, facts):
        return ok("durability", f"registrations acknowledged so far {survive}; no more are until {when}", 1)
    return ok("durability", f"acknowledged registrations {survive}", 1)


def _survives_power(stream: Stream, facts: Facts) -> list[Finding]:
    if _is_lost_with_server(stream):
        return []  # said already, and worse
    sync, silent = sync_of(stream, facts), silence(stream, facts)
    beside = f"; {silent}" if silent else ""
    if sync == 0:
        return [ok("power", f"each acknowledged registration is on disk (sync_interval: always){beside}", 1)]
    if sync is None:
        message = (
            "whether a power cut loses what was acknowledged last cannot be seen with this login: "
            f"not with sync_interval: always; else the last {duration(SYNC_DEFAULT)} at most, unless set otherwise"
        )
        return [note("power", message, 1, SEE_SYNC)]
    message = f"a power cut loses what was acknowledged in the last {duration(sync)} at most (sync_interval){beside}"
    return [note("power", message, 1, SYNC_ALWAYS)]


def is_async(stream: Stream) -> bool:
    """Return whether writes are acknowledged before they are handed to the operating system."""
    return stream.config.get("persist_mode") == "async"


def _is_lost_with_server(stream: Stream) -> bool:
    return stream.in_memory or is_async(stream)


def _how_kept(stream: Stream) -> str:
    return "it is in memory only" if stream.in_memory else "written after they are acknowledged (persist_mode: async)"
