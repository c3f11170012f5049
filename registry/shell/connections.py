"""Connections that end, as the NATS servers tell of them: the earliest sign that an agent is gone.

Servers tell only their system account. What it exports, and the registry's account imports, is heard here; whether that
is so cannot be asked, only tried: a replica connects once more, for a moment, and listens for that connection's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from registry.core.events import ConnectionClosed, ConnectionsWatched, Event
from registry.shell.bus_nats import UnreachableError
from registry.shell.clock import monotonic
from registry.shell.logs import get_logger
from registry.shell.tasks import end
from registry.shell.trouble import Trouble

if TYPE_CHECKING:
    from registry.shell.bus_nats import Bus, Message

log = get_logger(__name__)

EVENTS = "$SYS.ACCOUNT.*.DISCONNECT"
"""Where the end of connections is told. Of which accounts that is heard is a matter of what is imported: agents may
have another account than the registry."""

TRIAL = "connection-events:"
"""How a connection is named that is made to be closed; with a unique part behind it."""

TRIALS = 3
TRIAL_TIMEOUT = 2.0
"""How often it is tried at most, and seconds that one trial takes at most. A server far from the registry's own may
not know yet that it listens."""

HINT = "agent-registry doctor says what is missing"


class _Server(BaseModel):
    id: str


class _Client(BaseModel):
    id: int
    name: str = ""
    kind: str = "Client"


class _Disconnect(BaseModel):
    """What is read of `io.nats.server.advisory.v1.client_disconnect`."""

    server: _Server
    client: _Client
    reason: str = ""


class Connections:
    """Hears of connections that end, and tries whether it does.

    Args:
        bus: The connection.
        another: Returns one more connection of that name, with the same login, to be opened.
        dispatch: Takes what is heard.
    """

    def __init__(self, bus: Bus, another: Callable[[str], Bus], dispatch: Callable[[Event], Awaitable[None]]) -> None:
        self._bus = bus
        self._another = another
        self._dispatch = dispatch
        self._watched: bool | None = None
        """Whether their end is heard of; None when it was not tried yet on this connection."""
        self._told: bool | None = None
        """What the log says of that."""
        self._doubted = asyncio.Event()
        self._trial = ""
        """Name of the connection that is made to be closed."""
        self._heard_of_trial = asyncio.Event()
        self._refusal = ""
        """Why it was not let in; empty if it was."""
        self._trying: asyncio.Task[None] | None = None
        self._going: asyncio.Task[bool] | None = None
        """Makes and closes the trial's connection."""
        self._trouble = Trouble(log)

    async def start(self) -> None:
        """Hear of them from now on; whether that is so is found out later."""
        await self._bus.subscribe(EVENTS, self._heard)
        self._trying = asyncio.ensure_future(self._try())
        self.doubt()

    async def stop(self) -> None:
        """Try no longer."""
        await end(self._trying)
        await self._gone()

    def doubt(self) -> None:
        """Try anew."""
        self._doubted.set()

    async def lost(self) -> None:
        """Take note that nothing is heard of now, for NATS is away."""
        self._watched = None
        await self._dispatch(ConnectionsWatched(monotonic(), watched=False))

    async def _heard(self, msg: Message) -> None:
        try:
            told = _Disconnect.model_validate_json(msg.data)
        except ValidationError as error:
            self._trouble.warning("connection_event_unreadable", of=msg.subject, subject=msg.subject, error=str(error))
            return
        client = told.client
        if client.name == self._trial:
            self._heard_of_trial.set()
        if client.name.startswith(TRIAL):
            return
        if self._watched is False:
            self.doubt()  # the servers have been configured anew, as it seems
        if client.kind == "Client":
            closed = ConnectionClosed(monotonic(), client.name, told.server.id, client.id, told.reason)
            await self._dispatch(closed)

    async def _try(self) -> None:
        while True:
            await self._doubted.wait()
            self._doubted.clear()
            try:
                watched = await self._is_told()
                if self._bus.connected:  # else it is tried when NATS is back
                    await self._conclude(watched)
            except Exception as error:
                self._trouble.defect("connection_events_not_tried", error=error)

    async def _is_told(self) -> bool:
        """Connect and disconnect, and return whether that is heard of."""
        for _ in range(TRIALS):
            await self._gone()
            self._trial = TRIAL + secrets.token_hex(8)
            self._heard_of_trial.clear()
            self._refusal = ""
            self._going = asyncio.ensure_future(self._come_and_go(self._trial))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRIAL_TIMEOUT):
                    if not await asyncio.shield(self._going):
                        return False
                    await self._heard_of_trial.wait()
                    return True
        return False

    async def _come_and_go(self, name: str) -> bool:
        """Connect and disconnect; return whether NATS let us in."""
        bus = self._another(name)
        try:
            await bus.connect()
        except UnreachableError as error:
            self._refusal = str(error)
            return False
        finally:
            await bus.close()
        return True

    async def _gone(self) -> None:
        """Wait for the last trial's connection: one that is broken off while it is made would stay half open."""
        if self._going is not None:
            await asyncio.wait([self._going])

    async def _conclude(self, watched: bool) -> None:
        self._watched = watched
        await self._dispatch(ConnectionsWatched(monotonic(), watched))
        if watched is not self._told:
            self._told = watched
            if watched:
                log.info("connections_watched")
            else:
                log.info("connections_not_watched", hint=HINT, error=self._refusal or "no event came")
