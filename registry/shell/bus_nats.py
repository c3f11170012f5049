"""The connection to NATS: subscriptions, publishing, requests, publishes that are acknowledged.

One of the two modules that import nats; foreign exceptions are translated here, by type and number, never by text.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client, Server
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from registry.shell.acks import TOO_LARGE, Ack, Acks, OnAck, tell
from registry.shell.logs import get_logger
from registry.shell.trouble import Trouble

log = get_logger(__name__)

PING_INTERVAL = 5
"""Seconds between pings; two unanswered ones end the connection. The default is 2 minutes."""

RECONNECT_WAIT = (0.05, 0.2)
"""Seconds before an attempt to reconnect, at random between the two: not all replicas at the same instant."""

CONNECT_TIMEOUT = 5.0
"""Seconds until a start is given up when there is no clear refusal."""

HAND_OVER = 0.001
"""Seconds between two looks at how far the handlers have come."""

DRAIN_TIMEOUT = 5.0
"""Seconds that what has come may take to be handled when a subscription ends."""

PENDING_BYTES = 64 * 1024 * 1024
"""What one subscription may queue before messages are dropped and counted."""

MOST_HEADERS = 1024
"""More bytes than the headers of anything that is acknowledged have; only who comes so close to the limit counts."""

NO_RESPONDERS = "503"

Message = Msg
"""A message as nats-py delivers it: `subject`, `reply`, `data`, `headers`."""

Headers = Mapping[str, str]
Handler = Callable[[Message], Awaitable[None]]


class UnreachableError(Exception):
    """NATS cannot be reached; the message says where and why."""


REQUEST_INFO = "Nats-Request-Info"
"""Header that a NATS server writes on requests through a service import with `share: true`, over a forged one."""


class NobodyThereError(Exception):
    """Nobody listens on the subject of a request."""


class Bus:
    """A connection that reconnects without end.

    Args:
        url: Where NATS listens; several, comma-separated, for a cluster.
        name: Name of the connection.
        login: What else nats-py is to be told to be let in, such as `user_credentials`.
        prefix: First token or tokens of the registry's own subjects.
    """

    def __init__(self, url: str, name: str, login: Mapping[str, Any] | None = None, prefix: str = "registry") -> None:
        self.url = re.sub(r"//[^/@,]*@", "//", url)
        """Where NATS listens, without the password: for logs and errors."""
        self._servers = url.split(",")
        self.reconnects = 0
        self.errors = 0
        self.slow_consumer_drops = 0
        self.on_connected: Callable[[], Awaitable[None]] | None = None
        self.on_disconnected: Callable[[], Awaitable[None]] | None = None
        self._name = name
        self._login = dict(login or {})
        self._no_inboxes = ("$", f"{prefix}.")
        self._nc = Client()
        self._ack_inbox = ""
        self._acks = Acks()
        self._subscriptions: list[Subscription] = []
        self._closing = False
        self._opened = False
        self._refusals = 0
        """How often a server has refused the first connection."""
        self._last_error = ""
        self._trouble = Trouble(log)

    @property
    def client(self) -> Client:
        """The underlying client, for `jetstream_nats`."""
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
            UnreachableError: If nobody listens at any of the servers, or none lets us in within `CONNECT_TIMEOUT`.
        """
        try:
            await asyncio.wait_for(
                self._nc.connect(
                    servers=self._servers,
                    name=self._name,
                    max_reconnect_attempts=-1,
                    reconnect_to_server_handler=_next_server,
                    ping_interval=PING_INTERVAL,
                    max_outstanding_pings=2,
                    connect_timeout=2,
                    allow_reconnect=True,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnect,
                    reconnected_cb=self._on_reconnect,
                    closed_cb=self._on_close,
                    **self._login,
                ),
                CONNECT_TIMEOUT,
            )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            why = self._last_error or str(error) or "no answer"
            raise UnreachableError(f"NATS at {self.url} cannot be reached: {why}") from error
        self._opened = True
        self._ack_inbox = self.new_inbox()
        await self._nc.subscribe(f"{self._ack_inbox}.*", cb=self._on_ack)

    async def close(self) -> None:
        """Let what is under way end, then close."""
        self._closing = True
        self._acks.stop()
        if self._nc.is_connected:
            try:
                await self._nc.drain()
            except (TimeoutError, nats.errors.Error) as error:
                log.warning("drain_failed", error=repr(error))
        if not self._nc.is_closed:
            # NATS is away. nats-py would write what waits to be sent to the connection that was lost, fail, and leave
            # its tasks and that connection behind.
            self._nc._pending.clear()  # noqa: SLF001
            self._nc._pending_data_size = 0  # noqa: SLF001
            await self._nc.close()

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        """Call `handler` for each message, one after the other."""
        subscription = await self._nc.subscribe(
            subject, queue=queue, cb=handler, pending_msgs_limit=-1, pending_bytes_limit=PENDING_BYTES
        )
        self._subscriptions.append(subscription)
        return subscription

    async def handed_over(self, besides: Subscription) -> None:
        """Wait until the handlers of all other subscriptions were given every message that has come so far."""
        received = [(each, each.delivered) for each in self._subscriptions if each is not besides]
        for subscription, count in received:
            # nats-py tells nobody how far a handler has come.
            while subscription.delivered - subscription.pending_msgs < count:  # noqa: ASYNC110
                await asyncio.sleep(HAND_OVER)

    async def unsubscribe(self, subscriptions: Iterable[Subscription]) -> None:
        """Take no more messages, and return when those that had come have been given to their handlers."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                if self._nc.is_connected:
                    await asyncio.gather(*(subscription.drain() for subscription in subscriptions))  # type: ignore[no-untyped-call]
                else:
                    await asyncio.gather(*(subscription.unsubscribe() for subscription in subscriptions))
        except (TimeoutError, nats.errors.Error) as error:
            log.warning("unsubscribe_failed", error=repr(error))

    async def publish(self, subject: str, payload: bytes, headers: Headers | None = None, reply: str = "") -> None:
        """Publish without waiting for anybody; what cannot be sent is counted and logged, for nobody waits here."""
        try:
            await self._nc.publish(subject, payload, reply=reply, headers=dict(headers) if headers else None)
        except nats.errors.Error as error:
            self.errors += 1
            self._trouble.warning("publish_failed", of=type(error), subject=subject, error=repr(error))

    def new_inbox(self) -> str:
        """Return a subject that nobody else can guess, for answers."""
        return self._nc.new_inbox()

    def inbox(self, reply: str) -> str:
        """Return the reply subject of a request if that can be somebody's inbox, else nothing: nobody is answered.

        Whoever asks names it, and servers do not check whether he may publish there: he would have the registry
        overwrite a key of a bucket, or announce an event.
        """
        return "" if reply.startswith(self._no_inboxes) else reply

    async def request(self, subject: str, payload: bytes, within: float, headers: Headers | None = None) -> Msg:
        """Ask and return the first answer.

        Raises:
            NobodyThereError: At once, when nobody listens.
            TimeoutError: When nobody answers in time, or NATS is away.
        """
        try:
            return await self._nc.request(subject, payload, timeout=within, headers=dict(headers) if headers else None)
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
        if not self._nc.is_connected:
            await tell(on_ack, Ack())  # a buffered write would be sent at some later time, out of our hands
            return
        if len(payload) + MOST_HEADERS > self.max_payload < len(payload) + _size_of(headers):
            await tell(on_ack, Ack(err_code=TOO_LARGE))  # the server would close the connection
            return
        token = self._acks.expect(on_ack)
        try:
            await self._nc.publish(subject, payload, reply=f"{self._ack_inbox}.{token}", headers=dict(headers))
        except nats.errors.Error as error:
            self.errors += 1
            self._trouble.warning("publish_failed", of=type(error), subject=subject, error=repr(error))
            await self._acks.lose(token)

    async def _on_ack(self, msg: Msg) -> None:
        await self._acks.heard(msg.subject.rpartition(".")[2], msg.data)

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self.slow_consumer_drops += 1
            dropped = self.slow_consumer_drops
            self._trouble.warning("messages_dropped", of=error.subject, subject=error.subject, dropped=dropped)
            return
        self.errors += 1
        if self._closing:
            return
        if not isinstance(error, nats.errors.Error | OSError | EOFError):  # nats-py passes on what its callbacks raise
            self._trouble.defect("message_not_handled", error=error)
            return
        text = _text(error)
        if not self._opened:
            if not isinstance(error, ConnectionResetError):  # follows what a server said before it hung up
                self._last_error = text
            self._refusals += isinstance(error, ConnectionRefusedError | socket.gaierror)
            if self._refusals >= len(self._servers):  # what is raised here ends `connect`, which has no end of its own
                raise UnreachableError(f"NATS at {self.url} cannot be reached: {text}")
            return
        self._trouble.warning("nats_error", of=text, error=text)

    async def _on_disconnect(self) -> None:
        if self._closing:
            return
        log.warning("nats_disconnected", url=self.url)
        await self._call(self.on_disconnected)
        self._acks.lose_all()

    async def _on_reconnect(self) -> None:
        self.reconnects += 1
        log.info("nats_reconnected", url=str(self._nc.connected_url and self._nc.connected_url.netloc))
        await self._call(self.on_connected)

    async def _call(self, callback: Callable[[], Awaitable[None]] | None) -> None:
        """Tell of a change of the connection. What goes wrong with that would end nats-py's attempts to connect."""
        try:
            if callback is not None:
                await callback()
        except Exception as error:
            self._trouble.defect("connection_not_told_of", error=error)

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


def _next_server(servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
    """Choose the server to try next and the wait before: tried least, at random among equals."""
    fewest = min(server.reconnects for server in servers)
    least = [server for server in servers if server.reconnects == fewest]
    return random.choice(least), random.uniform(*RECONNECT_WAIT)


def _size_of(headers: Headers) -> int:
    """Return the bytes that headers take in a message: a first line, `name: value` lines, an empty line."""
    return len("NATS/1.0\r\n\r\n") + sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())


def _text(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror if isinstance(error, OSError) else str(error).removeprefix("nats: ")) or type(error).__name__
