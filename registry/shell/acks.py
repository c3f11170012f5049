"""Acknowledgements of what was published to a stream: who waits for which, and what is done when one does not come."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import orjson

from registry.shell.logs import get_logger

log = get_logger(__name__)

ACK_TIMEOUT = 5.0
"""Seconds after which the outcome of an acknowledged publish counts as unknown; a JetStream election takes 4 to 8 s."""

TOO_LARGE = 10054
"""JetStream's code for a message larger than the stream takes; here also for one larger than the server takes."""


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


class Acks:
    """The acknowledgements that somebody waits for."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[float, OnAck]] = {}
        """By token, oldest first."""
        self._tokens = itertools.count()
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, on_ack: OnAck) -> str:
        """Return the token of an acknowledgement to come; `on_ack` hears of it, within `ACK_TIMEOUT`."""
        loop = asyncio.get_running_loop()
        token = str(next(self._tokens))
        self._waiting[token] = (loop.time() + ACK_TIMEOUT, on_ack)
        if self._sweeper is None:
            self._sweeper = loop.call_later(ACK_TIMEOUT, self._sweep)
        return token

    async def heard(self, token: str, payload: bytes) -> None:
        """Take an acknowledgement."""
        entry = self._waiting.pop(token, None)
        if entry is not None:  # else it came after its time; whoever waited has read the bucket instead
            await tell(entry[1], _ack_in(payload))

    async def lose(self, token: str) -> None:
        """Give up on one: what it is for could not be sent."""
        entry = self._waiting.pop(token, None)
        if entry is not None:
            await tell(entry[1], Ack())

    def lose_all(self) -> None:
        """Give up on all of them: the connection is gone."""
        waiting, self._waiting = self._waiting, {}
        for _, on_ack in waiting.values():
            self._spawn(tell(on_ack, Ack()))

    def stop(self) -> None:
        """Look for overdue ones no longer."""
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _sweep(self) -> None:
        """Give up on acknowledgements that are overdue. All wait equally long, so the oldest come first."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._sweeper = None
        while self._waiting:
            token, (deadline, on_ack) = next(iter(self._waiting.items()))
            if deadline > now:
                self._sweeper = loop.call_at(deadline, self._sweep)
                break
            del self._waiting[token]
            self._spawn(tell(on_ack, Ack()))

    def _spawn(self, telling: Awaitable[None]) -> None:
        task = asyncio.ensure_future(telling)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def tell(on_ack: OnAck, ack: Ack) -> None:
    """Tell who waits how it ended. If that fails they are told that it is unknown, so that their wait has an end."""
    try:
        await on_ack(ack)
    except Exception:
        log.exception("ack_failed", seq=ack.seq, err_code=ack.err_code)
        if ack.seq or ack.err_code:
            await tell(on_ack, Ack())


def _ack_in(payload: bytes) -> Ack:
    if not payload:  # an empty answer with a status header: no stream takes this subject now
        return Ack()
    try:
        answer = orjson.loads(payload)
        error = answer.get("error")
        if error is None:
            return Ack(seq=int(answer["seq"]), duplicate=bool(answer.get("duplicate")))
        return Ack(err_code=int(error.get("err_code", 0)))
    except (AttributeError, KeyError, TypeError, ValueError):
        log.exception("ack_unreadable", payload=payload[:200])
        return Ack()
