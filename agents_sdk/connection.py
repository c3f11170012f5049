"""The connection to NATS: there, or on its way back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionReconnectingError,
    MaxPayloadError,
    OutboundBufferLimitError,
    SlowConsumerError,
)
from nats.errors import Error as NatsError

from agents_sdk.denials import Denials
from agents_sdk.dial import Address, Callbacks, dial, hang_up
from agents_sdk.protocol.errors import ForbiddenError, PayloadTooLargeError, UnavailableError
from agents_sdk.retry import Backoff

OBSERVE_INTERVAL = 0.5
"""Seconds between two looks at a client that is not ours: its callbacks are its owner's."""

FLUSH_LIMIT = 30
"""Seconds after which nats-py itself gives a flush up; by then a server that does not answer pings is left."""

QUIET = 30.0
"""Seconds between two log lines about the same trouble."""

Callback = Callable[[Msg], Awaitable[None]]
Listener = Callable[[bool], None]

_GONE = (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionReconnectingError,
    OutboundBufferLimitError,
)

logger = logging.getLogger(__name__)


@dataclass
class Counters:
    """What happened on a connection since it was made."""

    reconnects: int = 0
    rebuilds: int = 0
    """How often a client that had closed for good was replaced."""
    errors: int = 0
    slow_consumer_drops: int = 0


@dataclass(eq=False)
class Subscription:
    """A subscription that outlives the client it was made on."""

    subject: str
    callback: Callback
    optional: bool = False
    """Whether its owner can do without, should NATS not allow it."""
    inner: NatsSubscription | None = None


class Connection:
    """A connection to NATS that comes back by itself, whatever closed it.

    nats-py reconnects when a server goes away, but closes for good when a server refuses it, for
    example because its credentials expired. Then a new client is made, with the same subscriptions.

    While NATS is away, publishing and requesting fail at once. What nats-py would keep for later
    leaves in a burst the moment a server is back, before anybody else is there to hear it.

    Args:
        target: Where to connect to. Or a connected client: it stays its owner's, and is neither
            closed nor replaced.
    """

    def __init__(self, target: Address | Client) -> None:
        self.counters = Counters()
        self.denials = Denials()
        self._address = target if isinstance(target, Address) else None
        self._client = target if isinstance(target, Client) else None
        self._subscriptions: set[Subscription] = set()
        self._listeners: set[Listener] = set()
        self._background: asyncio.Task[None] | None = None
        self._flushing: set[asyncio.Task[None]] = set()
        self._closing = False
        self._away_since: float | None = None
        self._quiet_until = 0.0

    def __repr__(self) -> str:
        return f"<Connection to {self.where}, {'up' if self.is_connected else 'away'}>"

    @property
    def where(self) -> str:
        """The servers, without passwords."""
        if self._address is not None:
            return str(self._address)
        servers = () if self._client is None else self._client.servers
        return str(Address(tuple(url.geturl() for url in servers))) or "the given client"

    @property
    def is_connected(self) -> bool:
        """Whether a server is there now."""
        return self._client is not None and self._client.is_connected

    @property
    def client(self) -> Client:
        """The present nats-py client.

        Raises:
            UnavailableError: If NATS is away.
        """
        if self._client is None or not self._client.is_connected:
            raise self._away()
        return self._client

    def listen(self, listener: Listener) -> None:
        """Call `listener` with False when the connection is lost and with True when it is back."""
        self._listeners.add(listener)

    def unlisten(self, listener: Listener) -> None:
        """Undo `listen`."""
        self._listeners.discard(listener)

    async def open(self, *, patient: bool = False) -> None:
        """Connect.

        Args:
            patient: Wait until NATS is there, however long that takes.

        Raises:
            UnavailableError: If no server answers in time, unless `patient`.
            ForbiddenError: If the server refuses the user.
            FileNotFoundError: If the credentials file is not there.
            ValueError: If a URL is none.
        """
        if self._address is None:
            self._background = asyncio.create_task(self._observe(self.client))
            return
        backoff = Backoff(0.1, 5.0)
        while self._client is None:
            try:
                self._client = await dial(self._address, self._callbacks())
            except UnavailableError as error:
                if not patient:
                    raise
                self._say("waiting for NATS: %s", error.message)
                await asyncio.sleep(backoff.next())

    async def close(self) -> None:
        """Send what is written and close; a client that is not ours loses our subscriptions."""
        self._closing = True
        if self._background is not None:
            self._background.cancel()
            await asyncio.wait((self._background,))
        client, self._client = self._client, None
        if self._address is None:
            await self._hand_back(client)
        elif client is not None and not client.is_closed:
            await hang_up(client, self._address.timeout)
            for flushing in self._flushing:
                flushing.cancel()

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None, reply: str = ""
    ) -> None:
        """Publish a message, now or not at all.

        Raises:
            UnavailableError: If NATS is away.
            PayloadTooLargeError: If the server does not take messages of that size.
        """
        client = self.client
        try:
            await client.publish(subject, payload, reply, headers)
        except _GONE as error:
            raise self._away() from error
        except MaxPayloadError as error:
            raise _too_large(payload, client) from error

    async def request(self, subject: str, payload: bytes, within: float, headers: dict[str, str] | None = None) -> Msg:
        """Send a request and return the reply.

        Args:
            subject: Where to.
            payload: What.
            within: Seconds to wait for the reply.
            headers: Headers of the request.

        Raises:
            nats.errors.NoRespondersError: If nobody listens there.
            TimeoutError: If no reply came in time.
            ForbiddenError: If the server does not let this user ask there.
            UnavailableError: If NATS is away.
            PayloadTooLargeError: If the server does not take messages of that size.
        """
        client, started = self.client, time.monotonic()
        try:
            return await client.request(subject, payload, timeout=within, headers=headers)
        except TimeoutError:
            self.denials.check(subject, client.new_inbox(), started)
            raise
        except _GONE as error:
            raise self._away() from error
        except MaxPayloadError as error:
            raise _too_large(payload, client) from error

    async def subscribe(self, subject: str, callback: Callback, *, optional: bool = False) -> Subscription:
        """Call `callback` for each message, one after the other, also after NATS was away.

        Args:
            subject: What to hear.
            callback: What to call; messages wait until it returns.
            optional: Whether the caller can do without, should NATS not allow it to this user.

        Raises:
            UnavailableError: If NATS is away.
        """
        subscription = Subscription(subject, callback, optional)
        subscription.inner = await self.client.subscribe(subject, cb=callback)
        self._subscriptions.add(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; messages not yet handled are dropped."""
        self._subscriptions.discard(subscription)
        inner, subscription.inner = subscription.inner, None
        if inner is not None and self._client is not None and not self._client.is_closed:
            await inner.unsubscribe()

    async def flush(self, within: float = 2.0) -> None:
        """Wait until the server has read everything written so far.

        Raises:
            UnavailableError: If NATS is away or does not answer in time.
        """
        flushing = asyncio.create_task(_flush(self.client))
        self._flushing.add(flushing)
        flushing.add_done_callback(self._flushed)
        try:
            async with asyncio.timeout(within):
                # Not to be cancelled: nats-py's read loop ends on the answer to a ping that nobody waits for any more.
                await asyncio.shield(flushing)
        except (TimeoutError, NatsError) as error:
            raise UnavailableError(f"NATS at {self.where} does not answer") from error

    def _flushed(self, flushing: asyncio.Task[None]) -> None:
        self._flushing.discard(flushing)
        if not flushing.cancelled():
            flushing.exception()  # told to whoever waits, if anybody does

    async def _hand_back(self, client: Client | None) -> None:
        if client is None or client.is_closed:
            return
        for subscription in self._subscriptions:
            if subscription.inner is not None:
                await subscription.inner.unsubscribe()

    def _callbacks(self) -> Callbacks:
        return Callbacks(self._on_error, self._on_disconnected, self._on_reconnected, self._on_closed)

    def _on_disconnected(self, client: Client) -> None:
        if client is self._client and self._away_since is None and not self._closing:
            self._away_since = time.monotonic()
            logger.warning("%s to NATS at %s is lost; reconnecting", self._called, self.where)
            self._tell(connected=False)

    def _on_reconnected(self, client: Client) -> None:
        if client is self._client:
            self.counters.reconnects += 1
            away = 0.0 if self._away_since is None else time.monotonic() - self._away_since
            self._away_since = None
            logger.info("%s to NATS is back after %.1f s", self._called, away)
            self._tell(connected=True)

    def _on_closed(self, client: Client) -> None:
        if client is not self._client or self._closing:
            return
        reason = client.last_error or "it gave no reason"
        logger.warning("NATS closed %s for good: %s; making a new one", self._called, _text(reason))
        if self._background is None or self._background.done():
            self._background = asyncio.create_task(self._rebuild())

    async def _rebuild(self) -> None:
        if self._address is None:
            return
        backoff = Backoff(0.1, 5.0)
        while True:
            await asyncio.sleep(backoff.next())
            try:
                self._client = client = await dial(self._address, self._callbacks())
                for subscription in self._subscriptions:
                    subscription.inner = await client.subscribe(subscription.subject, cb=subscription.callback)
            except (UnavailableError, ForbiddenError, OSError, ValueError, NatsError) as error:
                self._say("%s to NATS is still lost: %s", self._called, _text(error))
                continue
            self.counters.rebuilds += 1
            self._on_reconnected(client)
            return

    async def _observe(self, client: Client) -> None:
        """Notice by what it counts that a client that is not ours was away."""
        seen = client.stats["reconnects"]
        while True:
            await asyncio.sleep(OBSERVE_INTERVAL)
            if not client.is_connected or client.stats["reconnects"] != seen:
                self._on_disconnected(client)
            if client.is_connected and self._away_since is not None:
                seen = client.stats["reconnects"]
                self._on_reconnected(client)

    def _tell(self, *, connected: bool) -> None:
        for listener in tuple(self._listeners):
            listener(connected)

    def _on_error(self, _client: Client, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            self.counters.slow_consumer_drops += 1
            self._say("messages on %s are dropped: they come faster than handled", error.subject)
            return
        self.counters.errors += 1
        denial = self.denials.read(error)
        if denial is not None:
            optional = any(each.optional and each.subject.lower() == denial.subject for each in self._subscriptions)
            logger.log(logging.INFO if optional else logging.ERROR, "NATS does not allow this user the %s", denial)
        elif not isinstance(error, NatsError | OSError):
            logger.error("a message handler failed", exc_info=error)
        else:
            level = logging.WARNING if self.is_connected else logging.DEBUG
            logger.log(level, "%s to NATS: %s", self._called, _text(error))

    @property
    def _called(self) -> str:
        """What the log calls it: an agent has two."""
        name = None if self._address is None else self._address.name
        return f"the connection {name}" if name else "the connection"

    def _away(self) -> UnavailableError:
        return UnavailableError(f"there is no connection to NATS at {self.where}")

    def _say(self, text: str, *args: object) -> None:
        """Log a warning, unless there was one a short while ago."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            logger.warning(text, *args)


async def _flush(client: Client) -> None:
    # The ping of a flush overtakes what waits to be written: only the second one is behind it.
    for _ in range(2):
        await client.flush(timeout=FLUSH_LIMIT)


def _text(error: object) -> str:
    return str(error).removeprefix("nats: ")


def _too_large(payload: bytes, client: Client) -> PayloadTooLargeError:
    limit = client.max_payload
    return PayloadTooLargeError(f"payload: {len(payload)} bytes; this NATS server takes {limit}")
