"""Asking NATS about itself: JetStream's API, the servers' own subjects, a bucket's log. Every wait has an end."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from agent_registry.doctor.facts import Unseen, Why
from agents_sdk.connection import Connection
from agents_sdk.gather import gather
from agents_sdk.protocol.errors import ForbiddenError

ANSWER_TIMEOUT = 2.0
"""Seconds to wait for one answer."""

ROLL_CALL = 1.0
"""Seconds to wait for everybody; NATS does not say how many there are."""

ABSENT_CODES = (10037, 10059)
"""JetStream's error codes for: no such message, no such stream."""

OFF_CODES = (10039, 10076)
"""JetStream's error codes for: not enabled for the account, or at all."""

MAX_ENTRIES = 1000
MAX_BYTES = 4 * 1024 * 1024
"""What is read of a log at most."""


@dataclass(frozen=True)
class Entry:
    """One message of a stream."""

    sequence: int
    at: float
    """Unix time of the server that stored it."""
    payload: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object that it holds; empty if it holds none."""
        try:
            found = orjson.loads(self.payload)
        except orjson.JSONDecodeError:
            return {}  # a marker without content, or written by somebody else
        return found if isinstance(found, dict) else {}


class Inquiry:
    """Asks, and says why there is no answer.

    Args:
        connection: The way to NATS.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def server_info(self) -> Mapping[str, Any]:
        """What the server said of itself when it was connected to."""
        return self._connection.client._server_info  # noqa: SLF001 - nats-py shows parts of it only

    async def ask(self, subject: str, fields: Mapping[str, Any] | None = None) -> dict[str, Any] | Unseen:
        """Return the answer to a question; JetStream's errors are none."""
        payload = b"" if fields is None else orjson.dumps(fields)
        try:
            reply = await self._connection.request(subject, payload, ANSWER_TIMEOUT)
        except NoRespondersError:
            return Unseen(Why.UNSERVED)
        except TimeoutError:
            return Unseen(Why.SILENT)
        except ForbiddenError as error:
            return Unseen(Why.FORBIDDEN, error.message)
        answer: dict[str, Any] = orjson.loads(reply.data)
        return _refused(answer["error"]) if "error" in answer else answer

    async def ask_all(self, subject: str, fields: Mapping[str, Any] | None = None) -> list[dict[str, Any]] | Unseen:
        """Return every answer to a question; at least one, or why there is none."""
        started = time.monotonic()
        payload = b"" if fields is None else orjson.dumps(fields)
        answers = await gather(self._connection, subject, payload, ROLL_CALL)
        if answers:
            return [orjson.loads(answer) for answer in answers]
        return self._why_none(subject, started, Why.UNSERVED)

    async def newest(self, stream: str, subject: str) -> Entry | Unseen:
        """Return the newest message of a stream on a subject, as the stream's leader knows it."""
        answer = await self.ask(f"$JS.API.STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        if isinstance(answer, Unseen):
            return answer
        found = answer["message"]
        return Entry(found["seq"], unix_time(found["time"]), base64.b64decode(found.get("data", "")))

    async def entries(self, stream: str, subject: str, start: int) -> tuple[list[Entry], int] | Unseen:
        """Return the messages of a stream from a sequence on, and how many more there are.

        At most `MAX_ENTRIES` come, and `MAX_BYTES`.
        """
        question = {"seq": start, "next_by_subj": subject, "batch": MAX_ENTRIES, "max_bytes": MAX_BYTES}
        asked, started = f"$JS.API.DIRECT.GET.{stream}", time.monotonic()
        messages: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self._connection.client.new_inbox()
        subscription = await self._connection.subscribe(inbox, messages.put)
        try:
            await self._connection.publish(asked, orjson.dumps(question), reply=inbox)
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await _batch(messages)
        except TimeoutError:
            return self._why_none(asked, started, Why.SILENT)
        finally:
            await self._connection.unsubscribe(subscription)

    def _why_none(self, subject: str, started: float, otherwise: Why) -> Unseen:
        """Return why nothing came back: a denial if there was one."""
        try:
            self._connection.denials.check(subject, self._connection.client.new_inbox(), started)
        except ForbiddenError as error:
            return Unseen(Why.FORBIDDEN, error.message)
        return Unseen(otherwise)


async def _batch(messages: asyncio.Queue[Msg]) -> tuple[list[Entry], int] | Unseen:
    """Return what comes up to the end of a batch, and how much more there is (ADR-31)."""
    entries: list[Entry] = []
    while True:
        msg = await messages.get()
        headers = msg.headers or {}
        match headers.get("Status"):
            case None:
                at = unix_time(headers["Nats-Time-Stamp"])
                entries.append(Entry(int(headers["Nats-Sequence"]), at, msg.data))
            case "204" | "404" as end:  # the end of the batch; or nothing at all
                return entries, int(headers["Nats-Num-Pending"]) if end == "204" else 0
            case "503":
                return Unseen(Why.UNSERVED)
            case status:
                return Unseen(Why.SILENT, f"status {status}")


def unix_time(text: str) -> float:
    """Return the Unix time that a server wrote as RFC 3339."""
    return datetime.fromisoformat(text).timestamp()


def _refused(error: Mapping[str, Any]) -> Unseen:
    code, said = error.get("err_code", 0), str(error.get("description", ""))
    if code in ABSENT_CODES:
        return Unseen(Why.ABSENT, said)
    return Unseen(Why.UNSERVED if code in OFF_CODES else Why.SILENT, said)
