"""Where JetStream keeps a stream's copies, and how far they are."""

from __future__ import annotations

from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError


async def leader_of(nc: Client, stream: str) -> str | None:
    """Return the node that leads a stream whose copies are all in sync; None while they are not."""
    try:
        info = await nc.jetstream(timeout=1.0).stream_info(stream)
    except (APIError, NatsTimeoutError):
        return None
    assert info.cluster is not None, f"{stream} is not kept by a cluster"
    others = info.cluster.replicas or []
    if len(others) + 1 < (info.config.num_replicas or 1):
        return None
    return info.cluster.leader if all(each.current and not each.offline and not each.lag for each in others) else None
