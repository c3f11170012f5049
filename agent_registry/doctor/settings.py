"""Whether a bucket or a stream has the settings that the registry depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agent_registry.doctor.facts import Stream
from agent_registry.doctor.finding import Finding, broken, note
from agent_registry.doctor.repair import Repair, edit, remake, restore
from agent_registry.wording import duration, size
from registry.shell.store import DUPLICATE_WINDOW, EVENTS_MAX_AGE, EVENTS_MAX_BYTES, HISTORY

NANOSECONDS = 1_000_000_000
"""In a second; JetStream counts durations in them."""

MIB = 1024**2

_MAX_RECORD = 512 * 1024
"""Bytes that a record may need: 256 KiB of registration, and what the registry adds to it."""

_DAY = 86_400

Fits = Callable[[Any], bool]
"""Whether a value will do; None stands for one that the server does not say."""


@dataclass(frozen=True)
class Rule:
    """What one setting has to be."""

    setting: str
    """As JetStream's API names it."""
    fits: Fits
    because: str
    """What comes of another value."""
    repair: Repair
    breaks: bool = True
    """Whether another value breaks a promise."""
    promise: int | None = None
    """Which one; that of the stream when left out."""


def unlimited(value: Any) -> bool:
    """Return whether a limit is none."""
    return value is None or value <= 0


def _unset(value: Any) -> bool:
    return not value


def _is(wanted: Any) -> Fits:
    return lambda value: bool(value == wanted)


def _lets_through(wanted: float) -> Fits:
    return lambda value: unlimited(value) or value >= wanted


def _at_least(wanted: float) -> Fits:
    return lambda value: (value or 0) >= wanted


_UNSEAL = r's/"sealed": *true/"sealed": false/'
_KEEP = r's/"retention": *"[a-z]*"/"retention": "limits"/'
_NOT_SWEPT = "removed agents are never swept from the bucket, which grows"

_EVERY = (
    Rule("sealed", _unset, "nothing can be written", restore(_UNSEAL)),
    Rule("mirror", _unset, "it copies another stream, and nothing else can be written", remake),
    Rule("no_ack", _unset, "no write is acknowledged", edit("--ack")),
    Rule("retention", _is("limits"), "what somebody has read is removed", restore(_KEEP)),
    Rule("allow_direct", _is(True), "every read goes to the leading server", edit("--allow-direct"), breaks=False),
)

CONTROL = (*_EVERY, Rule("max_age", _unset, "what is older is removed without a word", edit("--max-age 0")))
"""The bucket of lease and policies."""

AGENTS = (
    *CONTROL,
    Rule(
        "max_msgs_per_subject",
        _lets_through(HISTORY),
        "a new leader may not find every change that its predecessor did not publish",
        edit(f"--max-msgs-per-subject {HISTORY}"),
        promise=3,
    ),
    Rule(
        "max_msg_size",
        _lets_through(_MAX_RECORD),
        "large registrations are refused",
        edit("--max-msg-size=-1"),
        breaks=False,
    ),
    Rule("allow_rollup_hdrs", _is(True), _NOT_SWEPT, edit("--allow-rollup"), breaks=False),
    Rule("allow_msg_ttl", _is(True), _NOT_SWEPT, edit("--allow-msg-ttl"), breaks=False),
)
"""The bucket of agents."""

ASSIGNMENTS = (
    *CONTROL,
    Rule("allow_msg_ttl", _is(True), "no assignment can be ended", edit("--allow-msg-ttl")),
)
"""The bucket of assignments."""

EVENTS = (
    *_EVERY,
    Rule("discard", _is("old"), "once full it refuses new events, instead of dropping old ones", edit("--discard old")),
    Rule(
        "duplicate_window",
        _at_least(DUPLICATE_WINDOW * NANOSECONDS),
        "after a change of leader it may keep an event twice",
        edit(f"--dupe-window {DUPLICATE_WINDOW:g}s"),
    ),
    Rule(
        "max_age",
        _lets_through(EVENTS_MAX_AGE * NANOSECONDS),
        "a consumer that is away for longer misses events",
        edit(f"--max-age {EVENTS_MAX_AGE / _DAY:g}d"),
        breaks=False,
    ),
    Rule(
        "max_bytes",
        _lets_through(EVENTS_MAX_BYTES),
        "old events go earlier than the registry intends",
        edit(f"--max-bytes {EVENTS_MAX_BYTES // MIB}MiB"),
        breaks=False,
    ),
    Rule("max_msgs", unlimited, "old events go when there are more", edit("--max-msgs=-1"), breaks=False),
    Rule(
        "max_msgs_per_subject",
        unlimited,
        "old events of an agent go when there are more",
        edit("--max-msgs-per-subject=-1"),
        breaks=False,
    ),
)
"""The stream of events."""


def wrong_settings(stream: Stream, rules: tuple[Rule, ...], subject: str, promise: int | None) -> Iterator[Finding]:
    """Yield what is not as it has to be.

    Args:
        stream: The stream.
        rules: What its settings have to be.
        subject: What it has to take.
        promise: Which promise rests on it, if one does.
    """
    if subject not in stream.config.get("subjects", ()):
        message = f"{stream.name} does not take {subject}: what is written there is not kept"
        yield broken("settings", message, promise, edit(f"--subjects '{subject}'")(stream))
    for rule in rules:
        value = stream.config.get(rule.setting)
        if rule.fits(value):
            continue
        message = f"{stream.name}: {rule.setting} is {_shown(rule.setting, value)}: {rule.because}"
        if rule.breaks:
            yield broken("settings", message, rule.promise or promise, rule.repair(stream))
        else:
            yield note("settings", message, rule.promise, rule.repair(stream))


def limits_of_bucket(stream: Stream) -> Iterator[Finding]:
    """Yield what to say about the limits of a bucket, which has none when the registry makes it."""
    config = stream.config
    limits = [name for name in ("max_bytes", "max_msgs") if not unlimited(config.get(name))]
    refuses = config.get("discard") == "new"
    change = edit(" ".join(["--discard new", *(f"--{name.replace('_', '-')}=-1" for name in limits)]))(stream)
    if limits and not refuses:
        message = f"{stream.name}: once full it drops old records ({', '.join(limits)}, discard: old)"
        yield broken("settings", message, 1, change)
    elif limits:
        yield note("settings", f"{stream.name}: once full it refuses writes ({', '.join(limits)})", 1, change)
    elif not refuses:
        yield note("settings", f"{stream.name}: discard is old: with a limit it would drop old records", 1, change)


def _shown(setting: str, value: Any) -> str:
    if value is None:
        return "not set"
    if setting in ("max_age", "duplicate_window"):
        return duration(value / NANOSECONDS)
    if setting in ("max_bytes", "max_msg_size"):
        return size(value)
    return str(value).lower()
