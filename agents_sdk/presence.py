"""An agent as clients of the Synadia Agent Protocol see it: they discover it, hear it beat, ask for its status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

from nats.aio.msg import Msg

from agents_sdk.cancelling import cancel
from agents_sdk.connection import Callback, Connection, Subscription
from agents_sdk.micro import Endpoint, MicroService
from agents_sdk.protocol.codec import encode
from agents_sdk.quiet import QuietLog
from agents_sdk.served import Request
from agents_sdk.synadia import QUEUE, SERVICE, STATUS, Synadia

EARLY = 0.1
"""The part of an interval by which a heartbeat may come early, at random, so that a fleet does not beat as one."""

RETURN = 1.0
"""Seconds within which it beats after NATS was away, at random: everybody else is back at the same time."""

logger = logging.getLogger(__name__)


class Presence:
    """Shows an agent while it is open; to be used on one loop, which should be another one than that of its work.

    Args:
        names: What the agent is called.
        agent_id: Its id in the registry. It stands in the metadata, by which whoever adopts services knows that this
            one has registered itself.
        instance_id: Its life; becomes the service's id.
        version: The agent's.
        prompts: Where it takes prompts.
    """

    def __init__(self, names: Synadia, agent_id: str, instance_id: str, version: str, prompts: Endpoint) -> None:
        self._names = names
        self._agent_id = agent_id
        self._instance_id = instance_id
        self._status = Endpoint(STATUS, names.subject(STATUS), QUEUE)
        metadata = {**names.metadata, "agent_id": agent_id}
        endpoints = (prompts, self._status)
        self._service = MicroService(SERVICE, instance_id, version, f"Agent {agent_id}", metadata, endpoints)
        self._connection: Connection | None = None
        self._subscriptions: list[Subscription] = []
        self._beating: asyncio.Task[None] | None = None
        self._returned = asyncio.Event()
        self._changing = asyncio.Lock()
        self._quiet = QuietLog(logger)

    async def open(self, connection: Connection) -> None:
        """Be seen from now on; may be repeated when it fails.

        Raises:
            UnavailableError: If NATS is away, or does not confirm it.
        """
        async with self._changing:
            await self._vanish()
            self._connection = connection
            await self._hear(connection, self._status.subject, self._telling(connection), QUEUE)
            for subject in self._service.subjects:
                await self._hear(connection, subject, self._service.responder(connection))
            await connection.flush()
            connection.listen(self._on_link)
            self._beating = asyncio.create_task(self._beat(connection))

    async def close(self) -> None:
        """Be seen no more."""
        async with self._changing:
            await self._vanish()

    async def _hear(self, connection: Connection, subject: str, callback: Callback, queue: str = "") -> None:
        self._subscriptions.append(await connection.subscribe(subject, callback, queue=queue))

    async def _vanish(self) -> None:
        if self._connection is None:
            return
        if self._beating is not None:
            await cancel(self._beating)
        self._connection.unlisten(self._on_link)
        while self._subscriptions:
            await self._connection.unsubscribe(self._subscriptions.pop())

    def _telling(self, connection: Connection) -> Callback:
        async def tell(msg: Msg) -> None:
            started = time.monotonic()
            await Request(msg, connection, self._agent_id).reply(self._heartbeat())
            self._status.counts.add(time.monotonic() - started)

        return tell

    async def _beat(self, connection: Connection) -> None:
        while True:
            self._returned.clear()
            try:
                await connection.publish(self._names.subject("hb"), self._heartbeat())
            except Exception as error:  # whatever it is: to give up would have it look dead
                self._quiet.warning("a heartbeat of %s on %s is not sent: %r", self._agent_id, SERVICE, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._names.heartbeat_interval * random.uniform(1.0 - EARLY, 1.0)):
                    await self._returned.wait()
                    await asyncio.sleep(random.uniform(0.0, RETURN))

    def _heartbeat(self) -> bytes:
        return encode(self._names.beat(self._agent_id, self._instance_id))

    def _on_link(self, connected: bool) -> None:
        if connected:
            self._returned.set()
