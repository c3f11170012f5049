"""What an orchestrator does about one order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from enum import StrEnum

from agents_sdk.protocol.scaling import ScalingOrder


class Phase(StrEnum):
    """How far an act has come."""

    WAITING = "waiting"
    """For an earlier one of its capability to come to a place where it can be left."""
    WORKING = "working"
    """Looks, or a handler of the user's own runs."""
    STARTING = "starting"
    """Agents have been started, and are to register."""
    DRAINING = "draining"
    """Agents have been told to go, and are to finish their work."""
    RETRYING = "retrying"
    """It has failed, and is tried again in a moment."""
    OVER = "over"


class Act:
    """One order, and what is done about it.

    Attributes:
        order: What is to be done.
        phase: How far it has come.
        since: Unix time since which it is in that phase.
        outcome: How it ended, in a few words; None while it is not over.
        started: Agents that it started.
        drained: Agents that it told to go.
        spared: Agents that it was to end, and that do something else by now.
    """

    def __init__(self, order: ScalingOrder, watch: Callable[[Act], None]) -> None:
        self.order = order
        self.phase = Phase.WAITING
        self.since = time.time()
        self.outcome: str | None = None
        self.started: list[str] = []
        self.drained: list[str] = []
        self.spared: list[str] = []
        self._watch = watch
        self._superseded = asyncio.Event()
        self._may_be_left = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Act {self.order.action} of {self.order.capability}: {self.outcome or self.phase}>"

    @property
    def is_superseded(self) -> bool:
        """Whether a newer order of the capability is there."""
        return self._superseded.is_set()

    @property
    def is_moot(self) -> bool:
        """Whether what is not done by now is not to be done any more: superseded, or expired."""
        return self.is_superseded or time.time() > self.order.expires_at

    def enter(self, phase: Phase) -> None:
        """Come to another phase. While it drains, a newer act may begin: nothing is started or chosen any more."""
        self.phase, self.since = phase, time.time()
        if phase in (Phase.DRAINING, Phase.OVER):
            self._may_be_left.set()
        self._watch(self)

    def end(self, outcome: str) -> None:
        """Say how it ended."""
        self.outcome = outcome
        self.enter(Phase.OVER)

    def supersede(self) -> None:
        """Have it know that a newer order of the capability is there."""
        self._superseded.set()

    async def superseded(self) -> None:
        """Wait for a newer order of the capability."""
        await self._superseded.wait()

    async def left(self) -> None:
        """Wait until a newer act may begin."""
        await self._may_be_left.wait()

    async def pause(self, seconds: float) -> None:
        """Sleep, but no longer than until it is superseded."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.superseded()
