"""Scaling orders as they stand in the control bucket, where anybody may have written anything."""

from __future__ import annotations

from agents_sdk.protocol.codec import parse
from agents_sdk.protocol.errors import RegistryError
from registry.core.order import Orders
from registry.shell.entry import Entry
from registry.shell.logs import get_logger

log = get_logger(__name__)

_PREFIX = "scaling."


def key_of(capability: str) -> str:
    """Return the key under which a capability's orders stand."""
    return _PREFIX + capability


def capability_of(key: str) -> str | None:
    """Return the capability whose orders stand under a key; None if it is the key of something else."""
    return key.removeprefix(_PREFIX) if key.startswith(_PREFIX) else None


def orders_in(entry: Entry) -> Orders:
    """Return the orders that an entry holds; none for a removal, and for what is none, which is logged."""
    if entry.removed:
        return Orders()
    try:
        return Orders.from_json(parse(entry.value))
    except (RegistryError, ValueError) as error:
        log.error("orders_unreadable", key=entry.key, error=repr(error))  # noqa: TRY400
        return Orders()
