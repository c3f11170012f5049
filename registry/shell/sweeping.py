"""What a bucket has to allow so that removals can be swept: anybody may have made it."""

from __future__ import annotations

from typing import Protocol


class Settings(Protocol):
    """The settings of a bucket's stream that matter."""

    allow_msg_ttl: bool | None
    allow_rollup_hdrs: bool
    deny_purge: bool


def what_hinders(settings: Settings) -> list[str]:
    """Return which settings do not allow to sweep removals, each with what to do about it."""
    wrong = []
    if settings.deny_purge:  # which no server takes back
        wrong.append("deny_purge is on: agent-registry export, remove the bucket, agent-registry import")
    elif not settings.allow_rollup_hdrs:
        wrong.append("allow_rollup_hdrs is off: nats stream edit --allow-rollup")
    if not settings.allow_msg_ttl:
        wrong.append("allow_msg_ttl is off: nats stream edit --allow-msg-ttl")
    return wrong
