"""A bucket full of agents, made before anything is measured, by this process: another one would import all over."""

from __future__ import annotations

import asyncio

from agents_sdk.protocol.subjects import Subjects
from bench import generator
from bench.processes import Server
from bench.wire import Wire
from registry.replica import Replica
from registry.settings import Settings


def stock(server: Server, prefix: str, agents: int) -> None:
    """Make the buckets and streams of a registry, and fill them as if these agents had registered."""
    asyncio.run(_make(server.url, prefix))
    wire = Wire(server.url)
    bucket = Subjects(prefix).agents_bucket
    generator.fill(wire, {"subject": f"$KV.{bucket}.", "agents": agents, "window": 1024, "seed": 7})
    wire.close()


async def _make(url: str, prefix: str) -> None:
    """Let a replica make them."""
    replica = Replica(Settings(prefix=prefix), url)
    try:
        await replica.start()
    finally:
        await replica.stop()
