"""Who hears what is told of agents: a plain subscription, as anybody's."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg

from agents_sdk.protocol.subjects import Subjects
from bench.processes import BenchError

SUBJECTS = Subjects()


@dataclass(frozen=True)
class Heard:
    """One event of an agent's status."""

    at: float
    """Monotonic seconds."""
    agent_id: str
    to: str
    reason: str

    def __str__(self) -> str:
        return f"{self.to}/{self.reason}"


class Listener:
    """Notes every event of a status, and the instant at which it came.

    Args:
        nc: A connection to NATS.
    """

    def __init__(self, nc: Client) -> None:
        self.heard: list[Heard] = []
        self._nc = nc
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Listen from now on."""
        await self._nc.subscribe(SUBJECTS.events_of("status"), cb=self._note)
        await self._nc.flush()
        await self._nc.flush()  # nats-py's first ping may overtake the subscription

    async def until(self, agent_id: str, to: str, since: int, within: float) -> list[Heard]:
        """Wait until an agent is told to have moved to a status; return all that was told of it, to that event.

        Args:
            agent_id: Which agent.
            to: The status.
            since: How many events had been heard when waiting begins to count.
            within: Seconds after which waiting is given up.

        Raises:
            BenchError: If it is not told in time.
        """
        looked, told = since, list[Heard]()
        try:
            async with asyncio.timeout(within):
                while True:
                    while looked < len(self.heard):
                        event = self.heard[looked]
                        looked += 1
                        if event.agent_id == agent_id:
                            told.append(event)
                            if event.to == to:
                                return told
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            heard = ", ".join(map(str, told)) or "nothing"
            raise BenchError(f"{agent_id} was not told to be {to} within {within:g} s; told was {heard}") from None

    async def _note(self, msg: Msg) -> None:
        at, event = time.monotonic(), json.loads(msg.data)
        self.heard.append(Heard(at, event["agent_id"], event["to"], event["reason"]))
        self._news.set()
