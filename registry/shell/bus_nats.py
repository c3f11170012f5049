"""The connection to NATS: subscriptions, publishing, requests, publishes that are acknowledged.

One of the two modules that import nats; foreign exceptions are translated here, by type and number, never by text.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import nats
import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

if TYPE_CHECKING:
    from pathlib import Path

from registry.shell.logs import get_logger

log = get_logger(__name__)

PING_INTERVAL = 5
"""Seconds between pings; two unanswered ones end the connection. The default is 2 minutes."""

RECONNECT_WAIT = 0.1
"""Seconds between attempts on the same server, with up to as much again as jitter."""

CONNECT_TIMEOUT = 10.0
ACK_TIMEOUT = 5.0
"""Seconds after which the outcome of an acknowledged publish counts as unknown; a JetStream election takes 4 to 8 s."""

PENDING_BYTES = 64 * 1024 * 1024
"""What one subscription may queue before messages are dropped and counted."""

NO_RESPONDERS = "503"

Message = Msg
"""A message as nats-py delivers it: `subject`, `reply`, `data`, `headers`."""

Headers = Mapping[str, str]
Handler = Callable[[Message], Awaitable[None]]


class UnreachableError(Exception):
    """NATS cannot be reached; the message says where and why."""


class NobodyThereError(Exception):
    """Nobody listens on the subject of a request."""


class Ack:
    """How an acknowledged publish ended.

    Attributes:
        seq: Sequence in the stream when it was stored, else 0.
        duplicate: Whether the stream had it already.
        err_code: JetStream's error code when it was refused; 0 when nobody took it or the outcome is unknown.
    """

    __slots__ = ("duplicate", "err_code", "seq")

    def __init__(self, seq: int = 0, duplicate: bool = False, err_code: int = 0) -> None:
        self.seq = seq
        self.duplicate = duplicate
        self.err_code = err_code


OnAck = Callable[[Ack], Awaitable[None]]


class Bus:
    """A connection that reconnects without end.

    Args:
        url: Where NATS listens; several, comma-separated, for a cluster.
        name: Name of the connection.
        credentials: Credentials file, if the deployment has them.
    """

    def __init__(self, url: str, name: str, credentials: Path | None = None) -> None:
        self.url = re.sub(r"//[^/@,]*@", "//", url)
        """Where NATS listens, without the password: for logs and errors."""
        self._servers = url.split(",")
        self.reconnects = 0
        self.errors = 0
        self.slow_consumer_drops = 0
        self.on_connected: Callable[[], Awaitable[None]] | None = None
        self.on_disconnected: Callable[[], Awaitable[None]] | None = None
        self._name = name
        self._credentials = credentials
        self._nc = Client()
        self._ack_inbox = ""
        self._acks: dict[str, tuple[float, OnAck]] = {}
        self._tokens = itertools.count()
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._last_error = ""
        self._repeated = 0
        """How often the last error came in a row."""

    @property
    def client(self) -> Client:
        """The underlying client, for `store_nats`."""
        return self._nc

    @property
    def connected(self) -> bool:
        """Whether NATS is there now."""
        return self._nc.is_connected

    @property
    def max_payload(self) -> int:
        """Bytes that one message holds; the server closes the connection of whoever sends more."""
        return self._nc.max_payload

    async def connect(self) -> None:
        """Connect.

        Raises:
            UnreachableError: If NATS does not answer within `CONNECT_TIMEOUT`.
        """
        self._loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        if self._credentials is not None:
            options["user_credentials"] = str(self._credentials)
        try:
            await asyncio.wait_for(
                self._nc.connect(
                    servers=self._servers,
                    name=self._name,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT,  # type: ignore[arg-type]
                    ping_interval=PING_INTERVAL,
                    max_outstanding_pings=2,
                    connect_timeout=2,
                    allow_reconnect=True,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnect,
                    reconnected_cb=self._on_reconnect,
                    closed_cb=self._on_close,
                    **options,
                ),
                CONNECT_TIMEOUT,
            )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise UnreachableError(
                f"NATS at {self.url} cannot be reached: {str(error) or type(error).__name__}"
            ) from error
        self._ack_inbox = self._nc.new_inbox()
        await self._nc.subscribe(f"{self._ack_inbox}.*", cb=self._on_ack)

    async def close(self) -> None:
        """Let what is under way end, then close."""
        self._closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._nc.is_connected:
            try:
                await self._nc.drain()
            except (TimeoutError, nats.errors.Error) as error:
                log.warning("drain_failed", error=repr(error))
        if not self._nc.is_closed:
            await self._nc.close()

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        """Call `handler` for each message, one after the other."""
        return await self._nc.subscribe(
            subject, queue=queue, cb=handler, pending_msgs_limit=-1, pending_bytes_limit=PENDING_BYTES
        )

    async def publish(self, subject: str, payload: bytes, headers: Headers | None = None) -> None:
        """Publish without waiting for anybody; what cannot be sent is counted and logged, for nobody waits here."""
        try:
            await self._nc.publish(subject, payload, headers=dict(headers) if headers else None)
        except nats.errors.Error as error:
            self.errors += 1
            log.warning("publish_failed", subject=subject, error=repr(error))

    async def request(self, subject: str, payload: bytes, within: float) -> Msg:
        """Ask and return the first answer.

        Raises:
            NobodyThereError: At once, when nobody listens.
            TimeoutError: When nobody answers in time, or NATS is away.
        """
        try:
            return await self._nc.request(subject, payload, timeout=within)
        except nats.errors.NoRespondersError:
            raise NobodyThereError(subject) from None
        except nats.errors.TimeoutError:
            raise TimeoutError(f"{subject}: no answer within {within:g} s") from None
        except nats.errors.Error as error:
            raise TimeoutError(f"{subject}: {error!r}") from error

    async def publish_acked(self, subject: str, payload: bytes, headers: Headers, on_ack: OnAck) -> None:
        """Publish to a stream; `on_ack` hears how it ended, within `ACK_TIMEOUT`.

        nats-py's own `publish_async` makes a future and a task each time and costs three times as much; this is what a
        durable registration spends most of its time in.
        """
        loop = self._loop
        assert loop is not None, "connect first"
        if not self._nc.is_connected:
            await on_ack(Ack())  # a buffered write would be sent at some later time, out of our hands
            return
        token = str(next(self._tokens))
        self._acks[token] = (loop.time() + ACK_TIMEOUT, on_ack)
        if self._sweeper is None:
            self._sweeper = loop.call_later(ACK_TIMEOUT, self._sweep)
        try:
            await self._nc.publish(subject, payload, reply=f"{self._ack_inbox}.{token}", headers=dict(headers))
        except nats.errors.Error as error:
            self.errors += 1
            log.warning("publish_failed", subject=subject, error=repr(error))
            if self._acks.pop(token, None) is not None:
                await on_ack(Ack())

    async def _on_ack(self, msg: Msg) -> None:
        entry = self._acks.pop(msg.subject.rpartition(".")[2], None)
        if entry is None:
            return  # came after its time; whoever waited has read the bucket instead
        await entry[1](_parse_ack(msg))

    def _sweep(self) -> None:
        """Give up on acknowledgements that are overdue. All wait equally long, so the oldest come first."""
        assert self._loop is not None
        now = self._loop.time()
        self._sweeper = None
        while self._acks:
            token, (deadline, on_ack) = next(iter(self._acks.items()))
            if deadline > now:
                self._sweeper = self._loop.call_at(deadline, self._sweep)
                break
            del self._acks[token]
            self._spawn(on_ack(Ack()))

    def _spawn(self, awaitable: Awaitable[None]) -> None:
        task = asyncio.ensure_future(awaitable)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("ack_not_handled", exc_info=task.exception())

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self.slow_consumer_drops += 1
            if (
                self.slow_consumer_drops & (self.slow_consumer_drops - 1) == 0
            ):  # at 1, 2, 4, 8, ... lest the log drowns too
                log.warning("messages_dropped", subject=error.subject, dropped=self.slow_consumer_drops)
            return
        self.errors += 1
        if self._closing:
            return
        text = str(error) or type(error).__name__
        self._repeated = self._repeated + 1 if text == self._last_error else 1
        self._last_error = text
        if self._repeated & (self._repeated - 1) == 0:  # an outage is many attempts that fail alike
            log.warning("nats_error", error=text, times=self._repeated)

    async def _on_disconnect(self) -> None:
        if self._closing:
            return
        log.warning("nats_disconnected", url=self.url)
        acks, self._acks = self._acks, {}
        if self.on_disconnected is not None:
            await self.on_disconnected()
        for _, on_ack in acks.values():
            self._spawn(on_ack(Ack()))

    async def _on_reconnect(self) -> None:
        self.reconnects += 1
        await asyncio.sleep(random.uniform(0.0, RECONNECT_WAIT))  # not all replicas at the same instant
        log.info("nats_reconnected", url=str(self._nc.connected_url and self._nc.connected_url.netloc))
        if self.on_connected is not None:
            await self.on_connected()

    async def _on_close(self) -> None:
        if not self._closing:
            log.error(
                "nats_closed",
                url=self.url,
                hint="the server refused the connection for good; restart with valid credentials",
            )
            if self.on_closed is not None:
                self.on_closed()

    on_closed: Callable[[], None] | None = None
    """Called when the server ended the connection for good, for example because a token expired."""


def _parse_ack(msg: Msg) -> Ack:
    if not msg.data:  # an empty answer with a status header: no stream takes this subject now
        return Ack()
    answer = orjson.loads(msg.data)
    error = answer.get("error")
    if error is None:
        return Ack(seq=answer["seq"], duplicate=answer.get("duplicate", False))
    return Ack(err_code=int(error.get("err_code", 0)))
