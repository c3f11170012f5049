"""Scaling policies as they stand in the control bucket, where anybody may have written anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents_sdk.protocol.codec import adapter, check, parse
from agents_sdk.protocol.errors import RegistryError
from agents_sdk.protocol.scaling import PolicyChange
from registry.shell.entry import Entry
from registry.shell.facts import changes_in
from registry.shell.logs import get_logger

log = get_logger(__name__)

_PREFIX = "policy."
_CHANGE = adapter(PolicyChange)


def key_of(capability: str) -> str:
    """Return the key under which a capability's policy stands."""
    return _PREFIX + capability


def capability_of(key: str) -> str | None:
    """Return the capability whose policy stands under a key; None if it is the key of something else."""
    return key.removeprefix(_PREFIX) if key.startswith(_PREFIX) else None


def policy_in(entry: Entry) -> tuple[Mapping[str, Any] | None, bool]:
    """Return the policy that an entry holds, and whether it can be read; one that cannot is logged.

    It is None for a removal, and for what is no policy.
    """
    if entry.removed:
        return None, True
    capability = capability_of(entry.key)
    try:
        return changes_in(check(_CHANGE, {**parse(entry.value), "capability": capability})), True
    except RegistryError as error:
        log.error("policy_unreadable", capability=capability, error=repr(error))  # noqa: TRY400
        return None, False
