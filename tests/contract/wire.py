"""What a client without any SDK sees: subjects, bytes, headers. And what the contract says they must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy
from pydantic import TypeAdapter, ValidationError

from agents_sdk.protocol.errors import ERRORS
from agents_sdk.protocol.schema.json_schema import SOMETIMES
from agents_sdk.protocol.schema.query import Document
from tests.conftest import eventually

TRADER = {"agent_id": "trader-1", "agent_type": "trading_agent", "capabilities": ["trading"]}
"""The registration that most tests start from."""

AGENTS_STREAM = "KV_registry_agents"
EVENTS_STREAM = "REGISTRY_EVENTS"


@dataclass(frozen=True)
class Answer:
    """One answer: the JSON object, and the headers."""

    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def code(self) -> str | None:
        """The error's code; None when it is no error."""
        return self.body["error"]["code"] if "error" in self.body else None

    @property
    def fields(self) -> list[str]:
        """The fields that an error names."""
        return [detail["field"] for detail in self.body["error"]["details"]]


def encoded(payload: Any) -> bytes:
    """Bytes as they are, text as UTF-8, anything else as JSON; None as nothing."""
    if payload is None:
        return b""
    if isinstance(payload, bytes):
        return payload
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()


def decoded(payload: bytes | None) -> Any:
    """What JSON bytes say."""
    return json.loads(payload or b"null")


async def ask(nc: Client, subject: str, payload: Any = None, within: float = 5.0) -> Answer:
    """Send a request as any client would, and return the answer."""
    msg = await nc.request(subject, encoded(payload), timeout=within)
    return Answer(decoded(msg.data), dict(msg.headers or {}))


LATE = "is catching up"


async def told(nc: Client, subject: str, payload: Any = None, within: float = 5.0) -> dict[str, Any]:
    """Send a request that has to succeed, and return the answer's object."""
    answer = await ask(nc, subject, payload, within)

    async def decided() -> bool:
        """On a busy machine a replica may be late, says so, and is asked again, as by every client."""
        nonlocal answer
        if answer.code == "unavailable" and LATE in answer.body["error"]["message"]:
            answer = await ask(nc, subject, payload, within)
            return False
        return True

    await eventually(decided, within)
    assert answer.code is None, answer.body
    return answer.body


def assert_error(answer: Answer, code: str, names: str | None = None) -> None:
    """The answer is this error in all its parts: body, both headers, retryable; and it names the field."""
    assert answer.code == code, answer.body
    error, expected = answer.body["error"], ERRORS[code]
    assert set(answer.body) == {"error"}
    assert set(error) == {"code", "message", "details", "retryable"}
    assert error["retryable"] is expected.retryable
    assert answer.headers["Nats-Service-Error-Code"] == str(expected.status)
    header = answer.headers["Nats-Service-Error"]
    assert header, "an error without a text"
    assert header.isascii()
    assert header.isprintable()
    assert all(set(detail) == {"field", "message"} and detail["message"] for detail in error["details"])
    if names is not None:
        assert names in answer.fields, f"{names} is not among {answer.fields}"
        assert names in error["message"]


def names_of(model: Any) -> tuple[set[str], set[str]]:
    """All fields of a message as they stand in JSON, and those that are always there."""
    schema = TypeAdapter(model).json_schema(mode="serialization", by_alias=True)
    every = set(schema["properties"])
    return every, every - SOMETIMES.get(model.__name__, set())


def assert_is(model: Any, body: Any) -> None:
    """`body` is a message of the contract: every field is there, with its type, and no other."""
    every, always = names_of(model)
    assert always <= set(body), f"{always - set(body)} are not there"
    assert set(body) <= every or model is Document, f"{set(body) - every} are no fields"
    try:
        TypeAdapter(model).validate_json(json.dumps(body), strict=True)
    except ValidationError as error:
        raise AssertionError(f"{body} is not a {model.__name__}: {error}") from None


async def is_served(nc: Client, subject: str) -> bool:
    """Whether anybody listens; the server itself answers with 503 at once when nobody does."""
    inbox = nc.new_inbox()
    async with listening(nc, inbox) as answers:
        await nc.publish(subject, b"", reply=inbox)
        msg = await answers.next()
    return (msg.headers or {}).get("Status") != "503"


async def stats(nc: Client) -> dict[str, Any]:
    """What the registry says of itself."""
    return await told(nc, "registry.stats")


async def agent(nc: Client, agent_id: str = "trader-1") -> dict[str, Any]:
    """One agent, as anybody sees it."""
    return await told(nc, f"registry.get.{agent_id}")


async def found(nc: Client, **query: Any) -> list[str]:
    """Ids of the agents that a query finds."""
    return sorted(agent["agent_id"] for agent in (await told(nc, "registry.discover", query))["agents"])


async def until_status(nc: Client, status: str, agent_id: str = "trader-1", within: float = 10.0) -> dict[str, Any]:
    """Wait until an agent has a status, and return the agent."""
    seen: dict[str, Any] = {}

    async def there() -> bool:
        seen.update(await agent(nc, agent_id))
        return seen["status"] == status

    await eventually(there, within, seen)
    return seen


async def everything(nc: Client) -> tuple[int, dict[str, Any]]:
    """What bad input must not change: the bucket's newest revision, and all agents of any status."""
    query = {
        "limit": 1000, "min_health_score": 0.0, "max_load_factor": 1.0, "sort_by": "random",
        "statuses": ["registering", "active", "degraded", "suspended", "deregistering", "offline"],
    }  # fmt: skip
    listing = await told(nc, "registry.discover", query)
    agents = {agent.pop("agent_id"): agent for agent in listing["agents"]}
    for one in agents.values():
        one.pop("load_age")
    info = await nc.jetstream().stream_info(AGENTS_STREAM)
    return info.state.last_seq, agents


class Inbox:
    """Messages of a subscription, as they come."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Msg] = asyncio.Queue()

    async def put(self, msg: Msg) -> None:
        """Take a message; the subscription's callback."""
        await self._queue.put(msg)

    async def next(self, within: float = 10.0) -> Msg:
        """Return the next message."""
        return await asyncio.wait_for(self._queue.get(), within)

    async def take(self, count: int, within: float = 10.0) -> list[Msg]:
        """Return the next messages."""
        return [await self.next(within) for _ in range(count)]

    def empty(self) -> bool:
        """Whether nothing waits."""
        return self._queue.empty()


async def settle(nc: Client) -> None:
    """Wait until the server has read everything that was written so far.

    nats-py sends the ping of a flush past what waits to be written: only the second one is behind it.
    """
    await nc.flush()
    await nc.flush()


@asynccontextmanager
async def listening(nc: Client, subject: str) -> AsyncIterator[Inbox]:
    """Hear a subject."""
    inbox = Inbox()
    subscription = await nc.subscribe(subject, cb=inbox.put)
    await settle(nc)
    yield inbox
    await subscription.unsubscribe()


@asynccontextmanager
async def answering(nc: Client, subject: str, payload: Any) -> AsyncIterator[Inbox]:
    """Answer every request on a subject with the same payload; an agent that is there."""
    inbox = Inbox()

    async def respond(msg: Msg) -> None:
        await nc.publish(msg.reply, encoded(payload))
        await inbox.put(msg)

    subscription = await nc.subscribe(subject, cb=respond)
    await settle(nc)
    yield inbox
    await subscription.unsubscribe()


async def stored_events(nc: Client, count: int, subject: str = "registry.events.status.>") -> list[Msg]:
    """Return every event in the stream, oldest first, once there are as many as `count`."""
    js = nc.jetstream()
    stored = 0

    async def there() -> bool:
        nonlocal stored
        info = await js.stream_info(EVENTS_STREAM, subjects_filter=subject)
        stored = sum((info.state.subjects or {}).values())
        return stored >= count

    await eventually(there)
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
    subscription = await js.subscribe(subject, stream=EVENTS_STREAM, ordered_consumer=True, config=config)
    events = [await subscription.next_msg(timeout=5) for _ in range(stored)]
    await subscription.unsubscribe()
    return events


def payloads(messages: Iterable[Msg]) -> list[dict[str, Any]]:
    """The JSON objects of messages."""
    return [decoded(msg.data) for msg in messages]


def moves(messages: Iterable[Msg]) -> list[tuple[str, str, str]]:
    """What status events tell, in short: from, to, reason."""
    return [(event["from"], event["to"], event["reason"]) for event in payloads(messages)]
