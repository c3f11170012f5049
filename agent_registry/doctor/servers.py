"""Whether NATS can do what the registry needs: versions, JetStream, room, permissions."""

from __future__ import annotations

import re
from itertools import zip_longest

from agent_registry.doctor.copies import NO_ANSWER, REPORT
from agent_registry.doctor.facts import Facts, Permissions, Stream, Unseen, Usage, Why
from agent_registry.doctor.finding import Finding, broken, note, ok
from agent_registry.doctor.majority import writable_when
from agent_registry.doctor.streams import is_near
from agent_registry.wording import count, size
from agents_sdk.protocol.subjects import Subjects
from registry.shell.nats_process import MINIMUM_VERSION
from registry.shell.store import EVENTS_MAX_BYTES

RAISE = "raise the limit of the account, or of the server's block jetstream"


def findings(facts: Facts) -> list[Finding]:
    """Return what to say about the servers and the account."""
    return [*_versions(facts), *_jetstream(facts), *_room(facts), *_permissions(facts)]


def is_allowed(subject: str, allow: tuple[str, ...], deny: tuple[str, ...]) -> bool:
    """Return whether everything that a pattern stands for is allowed.

    Args:
        subject: A subject, or a pattern.
        allow: Patterns that are allowed; none allow all.
        deny: Patterns that are not.
    """
    allowed = not allow or any(_covers(pattern, subject) for pattern in allow)
    return allowed and not any(_meets(pattern, subject) for pattern in deny)


def _versions(facts: Facts) -> list[Finding]:
    servers = facts.seen_servers
    versions = sorted({server.version for server in servers}, key=_number)
    wanted = ".".join(map(str, MINIMUM_VERSION))
    old = [f"{server.name} ({server.version})" for server in servers if _number(server.version) < MINIMUM_VERSION]
    if old:
        message = f"nats-server is too old: {', '.join(old)}; the registry needs {wanted}"
        return [broken("nats", message, 2, f"install nats-server {wanted} or newer")]
    if len(versions) > 1:
        message = f"servers of different versions: {', '.join(versions)}"
        return [note("nats", message, change="finish the upgrade")]
    if isinstance(facts.servers, Unseen):
        return [ok("nats", f"nats-server {versions[0]}; how many servers there are was not seen")]
    with_jetstream = sum(server.jetstream for server in servers)
    text = f"nats-server {versions[0]}: {count(len(servers), 'server')}, {with_jetstream} with JetStream"
    return [ok("nats", text)]


def _number(version: str) -> tuple[int, ...]:
    """Return the first two parts of a version; what is none counts as the newest, for development builds."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (999,)


def _jetstream(facts: Facts) -> list[Finding]:
    """Judge whether JetStream is there; in a cluster it has a leader of its own, and can be silent alone."""
    if facts.jetstream is None:
        return []
    said = f" ({facts.jetstream.said})" if facts.jetstream.said else ""
    why = facts.jetstream.said or NO_ANSWER
    match facts.jetstream.why:
        case Why.FORBIDDEN if isinstance(facts.agents, Stream):
            return [note("jetstream", "limits were not seen: NATS does not let this user ask JetStream")]
        case Why.FORBIDDEN:
            message = "no promise can be judged: NATS does not let this user ask JetStream"
            return [broken("jetstream", message, 1, "give the --creds or --context of somebody who may")]
        case Why.SILENT if isinstance(facts.agents, Stream):
            idle = writable_when(facts.agents, facts)
            meant = "no registry can start" if idle else "registries that run go on, but none can start"
            message = f"JetStream itself does not answer ({why}): {meant}"
            return [note("jetstream", message, None, f"look again in a minute; then: {REPORT}")]
        case Why.SILENT:
            message = f"JetStream does not answer ({why}): nothing can be written while that lasts"
            return [broken("jetstream", message, 1, REPORT)]
        case _:
            message = f"JetStream is off for this account{said}: the registry cannot keep anything"
            change = 'jetstream { store_dir: "DIR" }  # in nats-server.conf; and `jetstream: enabled` in the account'
            return [broken("jetstream", message, 1, change)]


def _room(facts: Facts) -> list[Finding]:
    found = [_nearly_used(usage) for usage in facts.usages if is_near(usage.used, usage.limit)]
    if isinstance(facts.events, Unseen) and facts.events.why is Why.ABSENT:
        found += [_no_room_for_events(usage) for usage in facts.usages if _left(usage) < EVENTS_MAX_BYTES]
    if not found and facts.jetstream is None:
        found.append(ok("space", "no limit of JetStream is near"))
    return found


def _nearly_used(usage: Usage) -> Finding:
    shown = size if usage.kind in ("file storage", "memory") else str
    message = f"{shown(usage.used)} of {shown(usage.limit)} of the {usage.kind} of {usage.of} are used"
    if usage.used >= usage.limit:
        return broken("space", f"{message}: the registry cannot write, or not start", 1, RAISE)
    return note("space", message, 1, RAISE)


def _no_room_for_events(usage: Usage) -> Finding:
    message = (
        f"a registry cannot start: its stream of events reserves {size(EVENTS_MAX_BYTES)}, and the {usage.kind} of "
        f"{usage.of} has {size(max(0, _left(usage)))} left"
    )
    return broken("space", message, None, RAISE)


def _left(usage: Usage) -> int:
    """Return the bytes that a new stream can reserve."""
    return usage.limit - max(usage.used, usage.reserved) if usage.kind == "file storage" else EVENTS_MAX_BYTES


def _permissions(facts: Facts) -> list[Finding]:
    """Judge the permissions of the user that asked, if registries sign in as the same one, or none runs yet."""
    allowed = facts.permissions
    if allowed is None or (facts.answering and facts.user not in facts.registry_users):
        return []
    missing = missing_permissions(allowed, facts.subjects)
    if not missing:
        return [ok("permissions", f"user {facts.user} may do what a registry does")]
    message = f"user {facts.user} may not {', '.join(missing)}: a registry that signs in with it does not work"
    return [note("permissions", message, change="allow it in the user's permissions, or serve as another user")]


def missing_permissions(allowed: Permissions, subjects: Subjects) -> list[str]:
    """Return what a registry has to be allowed and is not, such as `publish $KV.registry_agents.>`."""
    buckets = (subjects.agents_bucket, subjects.control_bucket, subjects.assignments_bucket)
    streams = (*(f"KV_{bucket}" for bucket in buckets), subjects.events_stream)
    publish = (
        *(f"$KV.{bucket}.>" for bucket in buckets),
        subjects.all_events,
        *(f"$JS.API.STREAM.INFO.{stream}" for stream in streams),
        *(f"$JS.API.STREAM.MSG.GET.{stream}" for stream in streams),
        *(f"$JS.API.CONSUMER.CREATE.KV_{bucket}.>" for bucket in buckets),
        "_INBOX.>",
        "agent.>",
        f"{subjects.prefix}.replica.>",
    )
    subscribe = (f"{subjects.prefix}.>", "$SRV.>", "_INBOX.>")
    return [
        *(f"publish {s}" for s in publish if not is_allowed(s, allowed.publish_allow, allowed.publish_deny)),
        *(f"subscribe {s}" for s in subscribe if not is_allowed(s, allowed.subscribe_allow, allowed.subscribe_deny)),
    ]


def _covers(pattern: str, subject: str) -> bool:
    """Return whether a pattern stands for everything that another one stands for."""
    for mine, theirs in zip_longest(pattern.split("."), subject.split(".")):
        if mine == ">":
            return theirs is not None
        if mine != theirs and (mine != "*" or theirs in (None, ">")):
            return False
    return True


def _meets(pattern: str, subject: str) -> bool:
    """Return whether two patterns have a subject in common."""
    for mine, theirs in zip_longest(pattern.split("."), subject.split(".")):
        if ">" in (mine, theirs):
            return mine is not None and theirs is not None
        if mine != theirs and "*" not in (mine, theirs):
            return False
        if None in (mine, theirs):
            return False
    return True
