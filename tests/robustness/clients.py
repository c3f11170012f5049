"""Clients that change agents at random and write down what they were told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from agents_sdk.connection import Connection
from agents_sdk.protocol import subjects
from agents_sdk.protocol.codec import decode_reply, encode
from agents_sdk.protocol.errors import RegistryError, UnavailableError
from agents_sdk.protocol.subjects import MESSAGE_ID, Subjects
from tests.robustness.history import History, Listing, Operation, Outcome

CAPABILITY = "research"
PATIENCE = 2.0
"""Seconds that a client waits for an answer."""

RETRY = 0.05
"""Seconds after which a client that got no answer goes on."""

SENDINGS = 3
"""Times that a command is sent until it is answered."""

CLAIMS = 8
"""Resources that all clients' agents fight for."""

LIFE = 24
"""Operations on one agent before its client takes another id: the bucket must still have all of its revisions."""

SUBJECTS = Subjects("registry")

ACTIONS = {
    "register": 6, "takeover": 1, "claim": 2, "suspend": 2, "resume": 2, "deregister": 3, "drain": 1, "discover": 1,
}  # fmt: skip
"""What a client does, by how often."""


async def ask(
    connection: Connection, operation: str, fields: dict[str, Any], name: str | None = None
) -> tuple[Outcome, dict[str, Any]]:
    """Ask once; return how it ended and what was said."""
    subject = SUBJECTS.operation(operation, fields.get("agent_id"))
    headers = None if name is None else {MESSAGE_ID: name}
    try:
        reply = await connection.request(subject, encode(fields), PATIENCE, headers)
        return Outcome.DONE, decode_reply(reply.data)
    except NoRespondersError:
        return Outcome.REFUSED, {}
    except UnavailableError as error:
        return Outcome.UNKNOWN, {"message": error.message}
    except RegistryError as error:
        return Outcome.REFUSED, {"code": error.code, "message": error.message}
    except (TimeoutError, NatsError, OSError) as error:
        return Outcome.UNKNOWN, {"message": repr(error)}


@dataclass
class Client:
    """One client. Its agents are its own, so what it was told of them is in the order in which it asked.

    Attributes:
        number: Which.
        connection: Its way to NATS.
        random: Where chance comes from.
        history: Where it writes everything down.
        pause: Seconds between two operations, on average.
    """

    number: int
    connection: Connection
    random: Random
    history: History
    pause: float
    _agents: int = 0
    _instances: int = 0
    _left: int = 0
    _commands: int = 0

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Do one thing after the other."""
        names, weights = list(ACTIONS), list(ACTIONS.values())
        while not is_over():
            (name,) = self.random.choices(names, weights)
            if name == "discover":
                done = await self._discover(0)
            else:
                done = await self._change(name)
            await asyncio.sleep(self.random.uniform(0.0, 2 * self.pause) if done else RETRY)

    async def _change(self, name: str) -> bool:
        if self._left == 0:
            self._agents, self._left = self._agents + 1, LIFE
        self._left -= 1
        agent_id = f"client-{self.number}-{self._agents}"
        self._instances += name == "takeover"
        operation = subjects.REGISTER if name in ("takeover", "claim") else name
        fields: dict[str, Any] = {"agent_id": agent_id}
        if operation == subjects.REGISTER:
            fields |= {
                "agent_type": "worker", "capabilities": [CAPABILITY], "heartbeat_interval": 600.0,
                "instance_id": f"run-{self._instances}", "takeover": True, "metadata": {"n": self.random.random()},
            }  # fmt: skip
        if name == "claim":
            fields["claims"] = [f"claim-{self.random.randrange(CLAIMS)}"]
        self._commands += 1
        command = f"c{self.number}-{self._commands}"
        claims = tuple(fields.get("claims", ()))
        written = Operation(self.number, operation, agent_id, command, time.monotonic(), claims)
        self.history.operations.append(written)
        for sending in range(SENDINGS):
            outcome, answer = await ask(self.connection, operation, fields, command)
            if sending and outcome is Outcome.REFUSED and not answer:
                break  # nobody is there now, but somebody may have heard an earlier one
            written.outcome, written.answer = outcome, answer
            if outcome is not Outcome.UNKNOWN:
                break
        written.ended = time.monotonic()
        if written.outcome is Outcome.DONE and operation == subjects.DEREGISTER:
            await self._discover(written.revision)
        return written.outcome is Outcome.DONE

    async def _discover(self, revision: int) -> bool:
        query = {
            "capabilities": [CAPABILITY], "min_health_score": 0.0, "max_load_factor": 1.0, "limit": 1000,
            "min_revision": revision,
        }  # fmt: skip
        began = time.monotonic()
        outcome, answer = await ask(self.connection, subjects.DISCOVER, query)
        if outcome is Outcome.DONE and answer["total"] <= len(answer["agents"]):
            found = frozenset(agent["agent_id"] for agent in answer["agents"])
            self.history.listings.append(Listing(CAPABILITY, revision, answer["revision"], found, began))
        return outcome is Outcome.DONE


class Beating:
    """Agents that are heard of all the time: the registry must not give up one of them.

    Args:
        connection: Their way to NATS.
        count: How many.
        interval: Seconds between two beats of one; three of them are its lease.
    """

    def __init__(self, connection: Connection, count: int, interval: float) -> None:
        self.agents = [f"beating-{number}" for number in range(count)]
        self.beats = 0
        self._connection = connection
        self._interval = interval

    async def register(self) -> None:
        """Register all."""
        for agent_id in self.agents:
            fields = {
                "agent_id": agent_id, "agent_type": "beating", "capabilities": ["whale_tracking"],
                "heartbeat_interval": self._interval, "instance_id": "run-1",
            }  # fmt: skip
            outcome, answer = await ask(self._connection, subjects.REGISTER, fields)
            assert outcome is Outcome.DONE, answer

    async def run(self) -> None:
        """Beat, evenly spread. While NATS is away nothing is sent, and nothing is kept for later."""
        pause = self._interval / len(self.agents)
        due = time.monotonic()
        while True:
            for agent_id in self.agents:
                due = max(due + pause, time.monotonic() - self._interval)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                try:
                    await self._connection.publish(SUBJECTS.operation(subjects.HEARTBEAT, agent_id), b"{}")
                    self.beats += 1
                except (RegistryError, NatsError):
                    continue
