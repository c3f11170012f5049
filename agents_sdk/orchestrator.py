"""Carrying out the registry's scaling orders."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from agents_sdk.act import Act, Phase
from agents_sdk.cancelling import cancel
from agents_sdk.carrying import SUPERSEDED, Carrier
from agents_sdk.client import RegistryClient
from agents_sdk.feed import Held
from agents_sdk.launcher import Launcher, LaunchError
from agents_sdk.protocol.errors import RegistryError
from agents_sdk.protocol.scaling import ScalingOrder
from agents_sdk.protocol.vocabulary import ScalingAction
from agents_sdk.retry import Backoff
from agents_sdk.telling import unfailing

DRAIN_TIMEOUT = 300.0
"""Seconds; as long as the registry gives a draining agent by default."""

KEPT_ACTS = 100

TOLD_AFTER = 0.5
"""Seconds for which orders that had expired are counted before they are told of, all in one line."""

OrderHandler = Callable[[ScalingOrder], Awaitable[None]]
HandlerT = TypeVar("HandlerT", bound=OrderHandler)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lane:
    """The orders of one capability, or the proposals for it: the newest is acted on."""

    act: Act
    held: Held | None
    task: asyncio.Task[None] = field(init=False)


class Orchestrator:
    """Carries out scaling orders.

        async with RegistryClient() as registry, ProcessLauncher("python my_agent.py", ...) as launcher:
            await Orchestrator(registry, launcher, ["trading"], durable="trading").run()

    The registry decides how many agents there should be and says so; it starts nothing itself. Its orders are never
    taken as "two more": what is wanted is compared with what is there, so that an order that is lost, late or repeated
    does no harm. An order counts as read when what it asks for has been done; one that was being carried out when this
    process died comes again, to whoever reads under the same name then, and starts nobody twice.

    Orders of different capabilities are carried out at the same time. Of one capability the newest counts: what an
    older one has not begun is not begun any more, and whom it has told to go is seen off all the same.

    Args:
        registry: Where the orders come from.
        launcher: Starts and stops agents; needed for actions that have no handler.
        capabilities: Whose orders to carry out; everybody's when left out.
        durable: Name under which NATS remembers which orders were read, so that none is lost while nobody reads. Who
            carries out the orders of other capabilities needs another one.
        drain_timeout: Seconds that an agent gets to finish and leave, before the launcher stops it.
        say: Told in words what is done, and why nothing is; logged when left out.
        watch: Told of an act whenever it has come to another phase. What this or `say` raises is logged once, and the
            work goes on.

    Raises:
        ValueError: If `capabilities` is a lone string.
    """

    def __init__(
        self,
        registry: RegistryClient,
        launcher: Launcher | None = None,
        capabilities: Iterable[str] | None = None,
        *,
        durable: str = "orchestrator",
        drain_timeout: float = DRAIN_TIMEOUT,
        say: Callable[[str], None] = logger.info,
        watch: Callable[[Act], None] = lambda _: None,
    ) -> None:
        if isinstance(capabilities, str):
            raise ValueError(f"capabilities: must be several names; got {capabilities!r}")  # noqa: TRY004 - as elsewhere
        self._registry = registry
        self._say = unfailing(say)
        self._watch = unfailing(watch)
        self._carrier = None if launcher is None else Carrier(registry, launcher, drain_timeout, self._say)
        self._capabilities = None if capabilities is None else frozenset(map(str.lower, capabilities))
        self._durable = durable
        self._handlers: dict[ScalingAction, OrderHandler] = {}
        self._acts: deque[Act] = deque(maxlen=KEPT_ACTS)
        self._lanes: dict[tuple[str, bool], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._expired: Counter[str] = Counter()

    @property
    def acts(self) -> tuple[Act, ...]:
        """What is being done and was done last, oldest first."""
        return tuple(self._acts)

    def on(self, action: str) -> Callable[[HandlerT], HandlerT]:
        """Have the decorated function carry out the orders of one action, in place of what is done otherwise.

        It gets the order. While it runs the order is held, however long that takes, and when it returns the order is
        done. What it raises is logged, and it is called again, after waits that grow, until the order expires. It is
        cancelled when a newer order of the capability is there, and after a crash it may be called once more for the
        same order: what it does has to be safe to repeat, as by acting on `desired`.

        Args:
            action: `scale_up`, `scale_down`, `replace` or `rebalance`.

        Raises:
            ValueError: If there is no such action, or it has a handler.
        """
        known = ScalingAction(action) if action in list(ScalingAction) else None
        if known is None:
            raise ValueError(f"action: {action!r} is none of {', '.join(ScalingAction)}")
        if known in self._handlers:
            raise ValueError(f"action: {action!r} has a handler already")

        def add(handler: HandlerT) -> HandlerT:
            self._handlers[known] = handler
            return handler

        return add

    async def run(self) -> None:
        """Carry out orders until cancelled; what is not done then is given back at once.

        Raises:
            UnavailableError: If JetStream cannot be reached, or the client is closed.
            InvalidRequestError: If the durable exists and reads other events.
        """
        try:
            async with aclosing(self._registry.held_events("scaling", durable=self._durable)) as events:
                async for held in events:
                    await self._take(held)
        finally:
            for task in tuple(self._tasks):
                await cancel(task)
            if self._carrier is not None:
                await self._carrier.close()

    async def carry_out(self, order: ScalingOrder) -> Act:
        """Do what an order asks for, wherever it came from, and return what was done."""
        lane = self._begin(order, None)
        await asyncio.shield(lane.task)
        return lane.act

    async def _take(self, held: Held) -> None:
        order = held.event
        if not isinstance(order, ScalingOrder) or not self._is_ours(order):
            await held.acknowledge()
        elif time.time() > order.expires_at:
            await self._pass_over(order, held)
        elif (lane := self._lanes.get(_lane_of(order))) is None or _is_newer(order, lane.act.order):
            self._begin(order, held)
        elif order.order_id == lane.act.order.order_id and lane.act.outcome is None and lane.held is not None:
            lane.held.let_go()  # the server had not heard that it is held
            lane.held = held
        else:
            await held.acknowledge()

    def _is_ours(self, order: ScalingOrder) -> bool:
        return self._capabilities is None or order.capability in self._capabilities

    async def _pass_over(self, order: ScalingOrder, held: Held) -> None:
        """Leave an order that has expired alone: if it still matters, it has been issued again."""
        act = Act(order, self._watch)
        self._acts.append(act)
        act.end("expired before it was read")
        if not self._expired:
            asyncio.get_running_loop().call_later(TOLD_AFTER, self._tell_expired)
        self._expired[order.capability] += 1
        await held.acknowledge()

    def _tell_expired(self) -> None:
        total, of_whom = (
            self._expired.total(),
            ", ".join(f"{amount} of {name}" for name, amount in self._expired.items()),
        )
        self._expired.clear()
        self._say(f"{total} {'order' if total == 1 else 'orders'} had expired before anybody read: {of_whom}")

    def _begin(self, order: ScalingOrder, held: Held | None) -> _Lane:
        act = Act(order, self._watch)
        self._acts.append(act)
        act.enter(Phase.WAITING)
        before = self._lanes.get(_lane_of(order))
        if before is not None:
            before.act.supersede()
        lane = self._lanes[_lane_of(order)] = _Lane(act, held)
        lane.task = asyncio.create_task(self._act(lane, None if before is None else before.act))
        self._tasks.add(lane.task)
        lane.task.add_done_callback(self._tasks.discard)
        return lane

    async def _act(self, lane: _Lane, before: Act | None) -> None:
        act = lane.act
        try:
            if before is not None:
                await before.left()
            act.enter(Phase.WORKING)
            outcome = await self._until_done(act)
            if lane.held is not None:
                await lane.held.acknowledge()
        except BaseException:
            act.end("given back")  # whatever has happened: the next order of the capability waits for that
            if lane.held is not None:
                await lane.held.give_back()
            raise
        self._say(f"{act.order.capability}: {outcome}")
        act.end(outcome)

    async def _until_done(self, act: Act) -> str:
        """Carry an order out, again if it fails, until that is done or moot; return how it ended."""
        order, backoff = act.order, Backoff(0.5, 10.0)
        while not act.is_moot:
            try:
                return await self._do(act)
            except (RegistryError, LaunchError) as error:
                why = str(error)
            except Exception as error:  # the user's own: no reason to hear no more orders
                logger.exception("carrying out %s of %s failed", order.action, order.capability)
                why = repr(error)
            pause = backoff.next()
            self._say(f"cannot carry out {order.action} of {order.capability}: {why}; tries again in {pause:.1f} s")
            act.enter(Phase.RETRYING)
            await act.pause(pause)
            act.enter(Phase.WORKING)
        return SUPERSEDED if act.is_superseded else "expired before it was done"

    async def _do(self, act: Act) -> str:
        order, carrier = act.order, self._carrier
        handler = self._handlers.get(order.action)
        if handler is not None:
            return await _handled(handler, act)
        if carrier is not None:
            match order.action:
                case ScalingAction.SCALE_UP:
                    return await carrier.scale_up(act)
                case ScalingAction.SCALE_DOWN:
                    return await carrier.scale_down(act)
                case ScalingAction.REPLACE:
                    return await carrier.replace(act)
                case ScalingAction.REBALANCE:
                    pass  # moves what is tied to one agent, which only its application knows
        return f"nothing done, {order.action} has no handler"


async def _handled(handler: OrderHandler, act: Act) -> str:
    """Have a handler run, until it returns or a newer order is there."""
    working = asyncio.ensure_future(handler(act.order))
    waiting = asyncio.ensure_future(act.superseded())
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return SUPERSEDED
        working.result()
        return "done"
    finally:
        await cancel(waiting)
        await cancel(working)


def _lane_of(order: ScalingOrder) -> tuple[str, bool]:
    """Return which orders an order waits for, or takes the place of: a proposal to move agents stands beside them."""
    return order.capability, order.action is ScalingAction.REBALANCE


def _is_newer(order: ScalingOrder, known: ScalingOrder) -> bool:
    """Return whether an order is newer than one that is known.

    One that has expired says nothing any more: the registry's buckets may have been made anew, and so its numbers.
    """
    return time.time() > known.expires_at or _age(order) > _age(known)


def _age(order: ScalingOrder) -> tuple[int, int, int]:
    return order.epoch, order.generation, order.attempt
