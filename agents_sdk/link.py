"""The link to NATS: one client at a time, there or on its way back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nats.aio.client import Client

from agents_sdk.cancelling import cancel
from agents_sdk.dial import Address, Callbacks, ErrorCallback, cut, dial, hang_up, has_given_up, is_stuck
from agents_sdk.protocol.errors import UnavailableError
from agents_sdk.quiet import QuietLog
from agents_sdk.retry import Backoff

LOOK_INTERVAL = 0.5
"""Seconds between two looks at a client: what its callbacks say is not all that happens to it."""

Listener = Callable[[bool], None]
Restore = Callable[[Client], Awaitable[None]]

logger = logging.getLogger(__name__)


class ClosedError(UnavailableError):
    """The connection was closed here, by whom it belongs to: it does not come back, and trying again is in vain."""

    retryable = False


@dataclass
class Counters:
    """What happened on a link since it was made."""

    losses: int = 0
    """How often NATS went away; what was sent just before may not have arrived."""
    reconnects: int = 0
    """How often NATS came back, rebuilds included."""
    rebuilds: int = 0
    """How often a client that had ended for good was replaced."""
    errors: int = 0
    slow_consumer_drops: int = 0


class Link:
    """Keeps a nats-py client connected, and replaces it when it has ended for good.

    nats-py reconnects when a server goes away. It closes for good when a server refuses it, for example because its
    credentials expired; and its reconnecting ends, and nobody is told, when something is raised that it did not expect.

    Args:
        target: Where to connect to. Or a connected client: it stays its owner's, and is neither closed nor replaced.
        restore: Sets up on a new client what the one before had; what it raises is one failed attempt.
        on_error: Called with whatever a client reports.
    """

    def __init__(self, target: Address | Client, restore: Restore, on_error: ErrorCallback) -> None:
        self.counters = Counters()
        self._address = target if isinstance(target, Address) else None
        self._client = target if isinstance(target, Client) else None
        self._restore = restore
        self._on_error = on_error
        self._listeners: set[Listener] = set()
        self._guard: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._closing = False
        self._away_since: float | None = None
        self._quiet = QuietLog(logger)

    @property
    def where(self) -> str:
        """The servers, without passwords."""
        if self._address is not None:
            return str(self._address)
        servers = () if self._client is None else self._client.servers
        return str(Address(tuple(url.geturl() for url in servers))) or "the given client"

    @property
    def called(self) -> str:
        """What the log calls it: an agent has two."""
        name = None if self._address is None else self._address.name
        return f"the connection {name}" if name else "the connection"

    @property
    def is_connected(self) -> bool:
        """Whether a server is there now; from any thread."""
        client = self._client
        return client is not None and client.is_connected and not self._closing

    @property
    def away_since(self) -> float | None:
        """When NATS went away, by `time.monotonic`; None while it is there, or not missed yet; from any thread."""
        return None if self.is_connected else self._away_since

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, and not opened since."""
        theirs = self._client if self._address is None else None
        return self._closing or (theirs is not None and theirs.is_closed)

    @property
    def client(self) -> Client:
        """The present client.

        Raises:
            ClosedError: If the link was closed.
            UnavailableError: If NATS is away.
        """
        if self._client is None or not self.is_connected:
            raise self.away()
        return self._client

    def check_open(self) -> None:
        """Raise if nothing will ever come over this link again.

        Raises:
            ClosedError: If it was closed.
        """
        if self.is_closed:
            raise self.away()

    def away(self) -> UnavailableError:
        """Return the error that says that NATS is away, or that the link was closed."""
        if self.is_closed:
            return ClosedError(f"the connection to NATS at {self.where} is closed")
        return UnavailableError(f"there is no connection to NATS at {self.where}")

    def listen(self, listener: Listener) -> None:
        """Call `listener` with False when the connection is lost, or closed, and with True when it is back."""
        self._listeners.add(listener)

    def unlisten(self, listener: Listener) -> None:
        """Undo `listen`."""
        self._listeners.discard(listener)

    async def open(self, patience: float = 0.0) -> None:
        """Connect.

        Args:
            patience: Seconds for which to try again when no server is there; infinite for ever.

        Raises:
            UnavailableError: If no server is there.
            ClosedError: If it is closed meanwhile.
            ForbiddenError: If the servers refuse the user.
            FileNotFoundError: If the credentials file is not there.
            ValueError: If a URL is none, or the credentials file holds none.
        """
        self._closing = False
        if self._address is None:
            self._guard = asyncio.create_task(self._observe(self.client))
            return
        backoff, deadline = Backoff(0.1, 5.0), time.monotonic() + patience
        while self._client is None:
            try:
                client = await dial(self._address, self._callbacks())
            except UnavailableError as error:
                pause = backoff.next()
                if time.monotonic() + pause >= deadline:
                    raise
                self._quiet.warning("waiting for NATS: %s", error.message)
                await asyncio.sleep(pause)
                self.check_open()
                continue
            if self.is_closed:
                await hang_up(client, self._address.timeout)
                raise self.away()
            self._client = client
            self._guard = asyncio.create_task(self._watch_over(self._address))

    async def close(self) -> None:
        """Send what is written and close; a client that is not ours stays open."""
        self._closing = True
        self._tell(connected=False)
        if self._guard is not None:
            await cancel(self._guard)
        self._away_since = None
        if self._address is not None:
            client, self._client = self._client, None
            if client is not None and not client.is_closed:
                await hang_up(client, self._address.timeout)

    def _callbacks(self) -> Callbacks:
        return Callbacks(self._on_error, self._on_disconnected, self._on_reconnected, self._on_closed)

    def _on_disconnected(self, client: Client) -> None:
        if client is self._client and self._away_since is None and not self._closing:
            self._away_since = time.monotonic()
            self.counters.losses += 1
            logger.warning("%s to NATS at %s is lost; reconnecting", self.called, self.where)
            self._tell(connected=False)

    def _on_reconnected(self, client: Client) -> None:
        if client is self._client:
            self.counters.reconnects += 1
            away = 0.0 if self._away_since is None else time.monotonic() - self._away_since
            self._away_since = None
            logger.info("%s to NATS is back after %.1f s", self.called, away)
            self._tell(connected=True)

    def _on_closed(self, client: Client) -> None:
        if client is self._client:
            self._ended.set()

    async def _watch_over(self, address: Address) -> None:
        """Look after the client; replace it when it will not come back by itself."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL):
                    await self._ended.wait()
            self._ended.clear()
            client = self._client
            if client is None or client.is_connected:
                continue
            self._on_disconnected(client)
            if client.is_closed or has_given_up(client):
                reason = client.last_error or "it gave no reason"
                logger.warning("%s to NATS has ended for good: %s; making a new one", self.called, reason)
                await hang_up(client, address.timeout)
                await self._replace(address)
            elif is_stuck(client):
                cut(client)

    async def _replace(self, address: Address) -> None:
        backoff = Backoff(0.1, 5.0)
        while True:
            await asyncio.sleep(backoff.next())
            try:
                client = await dial(address, self._callbacks())
                try:
                    await self._restore(client)
                except BaseException:
                    await hang_up(client, address.timeout)
                    raise
            except Exception as error:  # whatever it is: giving up would be for ever
                self._quiet.warning("%s to NATS is still lost: %s", self.called, str(error) or repr(error))
                continue
            self._client = client
            self.counters.rebuilds += 1
            self._on_reconnected(client)
            return

    async def _observe(self, client: Client) -> None:
        """Notice by what it counts that a client that is not ours was away: its callbacks are its owner's."""
        seen = client.stats["reconnects"]
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            if not client.is_connected or client.stats["reconnects"] != seen:
                self._on_disconnected(client)
            if client.is_connected and self._away_since is not None:
                seen = client.stats["reconnects"]
                self._on_reconnected(client)

    def _tell(self, *, connected: bool) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(connected)
            except Exception:  # the others have to know, and whoever looks after the client goes on
                logger.exception("a listener failed to hear that %s is %s", self.called, "up" if connected else "lost")
