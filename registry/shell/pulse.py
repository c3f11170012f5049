"""A replica's message to itself through NATS, by which it knows that it would hear agents; see `core/path.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.shell.bus_nats import Bus, Message


class Pulse:
    """Sends pulses and hears them.

    Args:
        bus: The connection.
        subject: Where this replica hears itself.
        heard: Told the instant at which a pulse was sent, when all that came before it has been handled.
    """

    def __init__(self, bus: Bus, subject: str, heard: Callable[[float], Awaitable[None]]) -> None:
        self._bus = bus
        self._subject = subject
        self._heard = heard
        self._subscription: Any = None

    async def start(self) -> None:
        """Hear pulses from now on."""
        self._subscription = await self._bus.subscribe(self._subject, self._come_back)

    async def send(self, at: float) -> None:
        """Send one, unless NATS is away."""
        if self._bus.connected:
            await self._bus.publish(self._subject, repr(at).encode())

    async def _come_back(self, msg: Message) -> None:
        await self._bus.handed_over(besides=self._subscription)
        await self._heard(float(msg.data))
