"""Whether buckets and stream are there, with the right settings and room for more."""

from __future__ import annotations

from collections.abc import Iterator

from agent_registry.doctor.copies import NO_ANSWER, REPORT
from agent_registry.doctor.facts import Facts, Stream, Unseen, Why
from agent_registry.doctor.finding import Finding, broken, note, ok
from agent_registry.doctor.repair import edit
from agent_registry.doctor.settings import (
    AGENTS,
    ASSIGNMENTS,
    CONTROL,
    EVENTS,
    MIB,
    Rule,
    limits_of_bucket,
    unlimited,
    wrong_settings,
)
from agent_registry.wording import size

NEARLY_FULL = 0.8
"""Share of a limit from which on it is time to raise it."""


def findings(facts: Facts) -> list[Finding]:
    """Return what to say about buckets and stream."""
    subjects, running = facts.subjects, bool(facts.answering)
    kept: list[tuple[str, Stream | Unseen, tuple[Rule, ...], str, int | None]] = [
        (f"KV_{subjects.agents_bucket}", facts.agents, AGENTS, f"$KV.{subjects.agents_bucket}.>", 1),
        (f"KV_{subjects.control_bucket}", facts.control, CONTROL, f"$KV.{subjects.control_bucket}.>", None),
        (subjects.events_stream, facts.events, EVENTS, subjects.all_events, 3),
    ]
    if facts.assignments is not None:
        bucket = subjects.assignments_bucket
        kept.append((f"KV_{bucket}", facts.assignments, ASSIGNMENTS, f"$KV.{bucket}.>", 5))
    found: list[Finding] = []
    for name, stream, rules, subject, promise in kept:
        if isinstance(stream, Unseen):
            if facts.jetstream is None or facts.jetstream.why is not stream.why:  # else it has been said of JetStream
                found.append(_missing(name, stream, running, promise))
            continue
        found += wrong_settings(stream, rules, subject, promise)
        if rules is not EVENTS:
            found += limits_of_bucket(stream)
        found += _nearly_full(stream, is_bucket=rules is not EVENTS)
    seen = any(isinstance(stream, Stream) for _, stream, *_ in kept)
    if seen and not any(finding.check == "settings" for finding in found):
        found.append(ok("settings", "buckets and stream have the settings that the registry depends on"))
    return found


def is_near(used: int, limit: int) -> bool:
    """Return whether a limit is nearly reached."""
    return used >= limit * NEARLY_FULL


def _missing(name: str, unseen: Unseen, running: bool, promise: int | None) -> Finding:
    if unseen.why is Why.ABSENT and not running:
        return note("settings", f"{name} does not exist; the first registry that starts makes it")
    if unseen.why is Why.ABSENT:
        change = "restart the registries one after the other: they make it at their start"
        return broken("settings", f"{name} is gone, while a registry runs", promise, change)
    if unseen.why is Why.FORBIDDEN:
        message = f"{name} cannot be judged: NATS does not let this user ask about it"
        return broken("settings", message, promise, "give the --creds or --context of somebody who may")
    message = f"{name} does not answer ({unseen.said or NO_ANSWER}): nothing can be written while that lasts"
    return broken("settings", message, promise, REPORT)


def _nearly_full(stream: Stream, *, is_bucket: bool) -> Iterator[Finding]:
    limit = int(stream.config.get("max_bytes", -1))
    if unlimited(limit) or not is_near(stream.bytes, limit):
        return
    message = f"{stream.name} has {size(stream.bytes)} of {size(limit)}"
    then = "then writes are refused" if is_bucket else "then the oldest events go, before their time"
    change = edit(f"--max-bytes {limit * 4 // MIB or 1}MiB")(stream)
    yield note("space", f"{message}; {then}", None if is_bucket else 3, change)
