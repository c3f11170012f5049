"""The connection to NATS: there, or on its way back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionReconnectingError,
    FlushTimeoutError,
    MaxPayloadError,
    OutboundBufferLimitError,
    SlowConsumerError,
    UnexpectedEOF,
)
from nats.errors import Error as NatsError

from agents_sdk.denials import SUBSCRIPTION, Denials
from agents_sdk.dial import PENDING_BYTES, Address, place_of
from agents_sdk.errands import Errands
from agents_sdk.link import Counters, Link, Listener
from agents_sdk.protocol.errors import PayloadTooLargeError, UnavailableError
from agents_sdk.quiet import QuietLog

FLUSH_LIMIT = 30
"""Seconds after which nats-py itself gives a flush up; by then a server that does not answer pings is left."""

SEND_LIMIT = 2.0
"""Seconds to wait for the socket to take a message."""

HEADROOM = 4 * 1024
"""Bytes for a message's subject and headers."""

Callback = Callable[[Msg], Awaitable[None]]

_GONE = (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionReconnectingError,
    OutboundBufferLimitError,
)

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Subscription:
    """A subscription that outlives the client it was made on."""

    subject: str
    callback: Callback
    optional: bool = False
    """Whether its owner can do without, should NATS not allow it."""
    queue: str = ""
    """Queue group that shares the messages; empty for none."""
    inner: NatsSubscription | None = None


class Connection:
    """A connection to NATS that comes back by itself, whatever closed it, with all its subscriptions.

    While NATS is away, publishing and requesting fail at once. What nats-py would keep for later
    leaves in a burst the moment a server is back, before anybody else is there to hear it.

    Args:
        target: Where to connect to. Or a connected client: it stays its owner's, and is neither
            closed nor replaced.
    """

    def __init__(self, target: Address | Client) -> None:
        self.denials = Denials()
        self._link = Link(target, self._restore, self._on_error)
        self._is_ours = isinstance(target, Address)
        self._subscriptions: set[Subscription] = set()
        self._errands = Errands()
        self._quiet = QuietLog(logger)
        self._link.listen(self._on_link)

    def __repr__(self) -> str:
        return f"<Connection to {self.where}, {'up' if self.is_connected else 'away'}>"

    @property
    def where(self) -> str:
        """The servers, without passwords."""
        return self._link.where

    @property
    def counters(self) -> Counters:
        """What happened on this connection since it was made."""
        return self._link.counters

    @property
    def is_connected(self) -> bool:
        """Whether a server is there now."""
        return self._link.is_connected

    @property
    def away_since(self) -> float | None:
        """Since when NATS is away; see `Link.away_since`."""
        return self._link.away_since

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, and not opened since."""
        return self._link.is_closed

    def check_open(self) -> None:
        """Raise if nothing will ever come over this connection again.

        Raises:
            ClosedError: If it was closed.
        """
        self._link.check_open()

    @property
    def client(self) -> Client:
        """The present nats-py client.

        Raises:
            ClosedError: If the connection was closed.
            UnavailableError: If NATS is away.
        """
        return self._link.client

    @property
    def place(self) -> dict[str, Any] | None:
        """By what NATS knows this connection now, as a registration says it; None while that is not known."""
        return place_of(self._link.client) if self.is_connected else None

    def listen(self, listener: Listener) -> None:
        """Call `listener` with False when the connection is lost, or closed, and with True when it is back."""
        self._link.listen(listener)

    def unlisten(self, listener: Listener) -> None:
        """Undo `listen`."""
        self._link.unlisten(listener)

    async def open(self, patience: float = 0.0) -> None:
        """Connect; see `Link.open`."""
        await self._link.open(patience)

    async def close(self) -> None:
        """Send what is written and close; a client that is not ours loses our subscriptions."""
        if not self._is_ours:
            for subscription in tuple(self._subscriptions):
                await self.unsubscribe(subscription)
        await self._link.close()
        self._subscriptions.clear()
        self._errands.cancel()

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None, reply: str = ""
    ) -> None:
        """Publish a message, now or not at all.

        Raises:
            UnavailableError: If NATS is away, or takes nothing. Then the message may still leave later.
            PayloadTooLargeError: If the server does not take messages of that size.
        """
        client = self.client
        sending = client.publish(subject, payload, reply, headers)
        try:
            await (sending if _has_room(client, payload) else self._errands.run(sending, SEND_LIMIT))
        except TimeoutError as error:
            raise UnavailableError(f"NATS at {self.where} takes nothing now") from error
        except _GONE as error:
            raise self._link.away() from error
        except MaxPayloadError as error:
            raise _too_large(payload, client) from error

    async def request(self, subject: str, payload: bytes, within: float, headers: dict[str, str] | None = None) -> Msg:
        """Send a request and return the reply.

        Args:
            subject: Where to.
            payload: What.
            within: Seconds that sending and the reply may take.
            headers: Headers of the request.

        Raises:
            nats.errors.NoRespondersError: If nobody listens there.
            TimeoutError: If no reply came in time.
            ForbiddenError: If the server does not let this user ask there.
            UnavailableError: If NATS is away.
            PayloadTooLargeError: If the server does not take messages of that size.
        """
        client, started = self.client, time.monotonic()
        asking = client.request(subject, payload, timeout=within, headers=headers)
        try:
            return await (asking if _has_room(client, payload) else self._errands.run(asking, within))
        except TimeoutError:
            self.denials.check(subject, client.new_inbox(), started)
            raise
        except _GONE as error:
            raise self._link.away() from error
        except MaxPayloadError as error:
            raise _too_large(payload, client) from error

    async def subscribe(
        self, subject: str, callback: Callback, *, optional: bool = False, queue: str = ""
    ) -> Subscription:
        """Call `callback` for each message, one after the other, also after NATS was away.

        Args:
            subject: What to hear.
            callback: What to call; messages wait until it returns.
            optional: Whether the caller can do without, should NATS not allow it to this user.
            queue: Queue group, of which only one gets each message; none when empty.

        Raises:
            UnavailableError: If NATS is away.
        """
        subscription, client = Subscription(subject, callback, optional, queue), self.client
        self._subscriptions.add(subscription)
        try:
            inner = await client.subscribe(subject, queue, cb=callback)
        except BaseException as error:
            self._subscriptions.discard(subscription)
            if isinstance(error, _GONE):
                raise self._link.away() from error
            raise
        if subscription.inner is None:  # else a new client has it already
            subscription.inner = inner
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; messages not yet handled are dropped."""
        self._subscriptions.discard(subscription)
        inner, subscription.inner = subscription.inner, None
        if inner is not None:
            with contextlib.suppress(*_GONE):  # it went with its client
                await inner.unsubscribe()

    async def drain(self, subscriptions: Iterable[Subscription], within: float = 2.0) -> None:
        """End subscriptions, but not before everything is handled that NATS has sent on them.

        Args:
            subscriptions: Which.
            within: Seconds to wait for NATS, and for the callbacks; messages not handled by then are dropped.

        Raises:
            UnavailableError: If NATS is away or does not answer in time. They are ended all the same.
        """
        ending = tuple(subscriptions)
        self._subscriptions.difference_update(ending)
        inners = [each.inner for each in ending if each.inner is not None]
        try:
            client = self.client
            for inner in inners:
                # nats-py's own `drain` does this, too, but its ping overtakes it: what comes in between is dropped.
                await client._send_unsubscribe(inner._id)  # noqa: SLF001
            await self.flush(within)
            async with asyncio.timeout(within):
                await asyncio.gather(*(inner._pending_queue.join() for inner in inners))  # noqa: SLF001
        except TimeoutError as error:
            raise UnavailableError(f"messages were not handled within {within:g} s") from error
        finally:
            for each in ending:
                await self.unsubscribe(each)

    async def flush(self, within: float = 2.0) -> None:
        """Wait until the server has read everything written so far.

        Raises:
            UnavailableError: If NATS is away or does not answer in time.
        """
        try:
            await self._errands.run(_flush(self.client), within)
        except (TimeoutError, NatsError) as error:
            raise UnavailableError(f"NATS at {self.where} does not answer") from error

    async def _restore(self, client: Client) -> None:
        """Subscribe on a new client to what was heard on the one before."""
        for subscription in tuple(self._subscriptions):
            subscription.inner = await client.subscribe(
                subscription.subject, subscription.queue, cb=subscription.callback
            )
            if subscription not in self._subscriptions:  # given up meanwhile
                await self.unsubscribe(subscription)

    def _on_link(self, connected: bool) -> None:
        if not connected:
            self.denials.forget()

    def _on_error(self, _client: Client, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            self._link.counters.slow_consumer_drops += 1
            self._quiet.warning("messages on %s are dropped: they come faster than handled", error.subject)
            return
        self._link.counters.errors += 1
        denial = self.denials.read(error)
        if denial is not None:
            optional = denial.kind == SUBSCRIPTION and any(
                each.optional and each.subject.lower() == denial.subject for each in self._subscriptions
            )
            logger.log(logging.INFO if optional else logging.ERROR, "NATS does not allow this user the %s", denial)
        elif isinstance(error, FlushTimeoutError):
            self._quiet.warning("NATS at %s takes nothing now", self.where)
        elif not isinstance(error, NatsError | OSError):
            logger.error("a message handler failed", exc_info=error)
        else:
            # The end of a connection is told by the link, with what is done about it.
            is_news = self.is_connected and not isinstance(error, UnexpectedEOF)
            level = logging.WARNING if is_news else logging.DEBUG
            logger.log(level, "%s to NATS: %s", self._link.called, _text(error))


def _has_room(client: Client, payload: bytes) -> bool:
    """Return whether a message can be written without waiting for the socket; nats-py has no limit of its own there."""
    return client.pending_data_size + len(payload) + HEADROOM <= PENDING_BYTES


async def _flush(client: Client) -> None:
    # The ping of a flush overtakes what waits to be written: only the second one is behind it.
    for _ in range(2):
        await client.flush(timeout=FLUSH_LIMIT)


def _text(error: object) -> str:
    return str(error).removeprefix("nats: ")


def _too_large(payload: bytes, client: Client) -> PayloadTooLargeError:
    limit = client.max_payload
    return PayloadTooLargeError(f"payload: {len(payload)} bytes; this NATS server takes {limit}")
