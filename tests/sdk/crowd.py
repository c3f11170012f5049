"""Many agents that are no more than a record and a subscription."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from agents_sdk import RegistryClient
from agents_sdk.protocol.codec import encode, parse
from agents_sdk.protocol.errors import RegistryError
from tests.sdk.outage import settle

TOPIC = "check"

Behaviour = RegistryError | Callable[[Msg], Awaitable[None]] | None
"""What an agent does: answers with an error, or something of its own, or with what it was asked."""


async def silent(msg: Msg) -> None:
    """Hear, and say nothing."""


class Crowd:
    """Plain NATS agents with the capability `research`, which count what they are asked.

    They have no health subject, so that the registry believes in them whatever they do.
    """

    def __init__(self, nc: Client, client: RegistryClient) -> None:
        self.nc = nc
        self.client = client
        self.asked: Counter[str] = Counter()
        self.heard: dict[str, Any] = {}
        self.without_reply = 0
        self._subscriptions: dict[str, Subscription] = {}

    async def add(self, *agent_ids: str, do: Behaviour = None, absent: bool = False, **fields: Any) -> None:
        """Register agents, which listen unless they are absent."""
        if not absent:
            for agent_id in agent_ids:
                await self.listen(agent_id, do)
            await settle(self.nc)
        fields = {"agent_type": "t", "capabilities": ["research"], "heartbeat_interval": 3600.0, **fields}
        await asyncio.gather(*(self.client.register({**fields, "agent_id": agent_id}) for agent_id in agent_ids))

    async def listen(self, agent_id: str, do: Behaviour = None) -> None:
        async def on_message(msg: Msg) -> None:
            self.asked[agent_id] += 1
            self.heard[agent_id] = parse(msg.data)
            self.without_reply += not msg.reply
            if isinstance(do, RegistryError):
                await self.nc.publish(msg.reply, encode(do.to_body()), headers=do.to_headers())
            elif do is not None:
                await do(msg)
            elif msg.reply:
                await self.nc.publish(msg.reply, encode({"by": agent_id, "got": parse(msg.data)}))

        self._subscriptions[agent_id] = await self.nc.subscribe(f"agent.{agent_id}.{TOPIC}", cb=on_message)

    async def leave(self, agent_ids: Iterable[str]) -> None:
        """Have agents listen no more, as if they had been killed."""
        for agent_id in agent_ids:
            await self._subscriptions.pop(agent_id).unsubscribe()
        await settle(self.nc)


def names(count: int, start: str = "a") -> list[str]:
    return [f"{start}{number}" for number in range(count)]
