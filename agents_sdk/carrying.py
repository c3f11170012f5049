"""What is done about an order unless the user has a handler: agents are started, replaced, seen off."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from agents_sdk.act import Act, Phase
from agents_sdk.launcher import Launcher, LauncherFullError
from agents_sdk.leaving import Leaving
from agents_sdk.protocol.fields import AGENT_ID_PATTERN
from agents_sdk.protocol.vocabulary import AgentStatus
from agents_sdk.roster import Roster

if TYPE_CHECKING:
    from agents_sdk.client import RegistryClient
    from agents_sdk.protocol.discovery import AgentInfo

SETTLE = 1.0
"""Seconds after which it is believed that nothing is to be done: an order may be here before what it was decided on."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks at what the launcher runs; of agents the registry tells."""

START_TIMEOUT = 30.0
"""Seconds for which one that runs has to be seen offline before it counts as hung, and not as coming back."""

SUPERSEDED = "superseded by a newer order"

_ON_ITS_WAY = (None, AgentStatus.REGISTERING, AgentStatus.OFFLINE)
"""Statuses of an agent that runs and may yet serve: its program is being started, or started again."""


class Carrier:
    """Carries orders out with a launcher.

    What is wanted is compared with what is there, so that an order that is lost, late or repeated does no harm.

    Args:
        registry: Says who is there.
        launcher: Starts and stops agents.
        drain_timeout: Seconds that an agent gets to finish and leave.
        say: Told in words what is done, and why nothing is.
    """

    def __init__(
        self, registry: RegistryClient, launcher: Launcher, drain_timeout: float, say: Callable[[str], None]
    ) -> None:
        self._registry = registry
        self._launcher = launcher
        self._say = say
        self._leaving = Leaving(registry, launcher, drain_timeout, say)
        self._offline: dict[str, dict[tuple[str, float | None], float]] = {}
        """By capability: who runs and is offline, with its `status_since`; and since when (monotonic) that is seen."""
        self._full: set[str] = set()
        """Capabilities of which it was said that no more may run."""

    async def close(self) -> None:
        """Wait for nobody any more."""
        await self._leaving.close()

    async def scale_up(self, act: Act) -> str:
        """Start as many agents as are missing, and wait until they serve."""
        async with Roster(self._registry, act.order.capability) as roster:
            return await self._fill(act, roster, frozenset()) or f"{len(roster.serving)} serve"

    async def scale_down(self, act: Act) -> str:
        """See off as many of the named as are too many, and those that are going already."""
        order = act.order
        async with Roster(self._registry, order.capability) as roster:
            going = await self._going(act, roster)
            if not going:
                await act.pause(SETTLE)
                going = await self._going(act, roster)
        if not going:
            return "nobody had to go"
        return await self._see_off(act, going) or f"{', '.join(going)} left"

    async def replace(self, act: Act) -> str:
        """See off the named once there are enough others, so that capacity never drops."""
        order = act.order
        named = frozenset(order.agents)
        async with Roster(self._registry, order.capability) as roster:
            lacking = await self._fill(act, roster, named)
            if lacking:
                return f"{', '.join(order.agents)} not replaced: {lacking}"
            running = await self._launcher.running(order.capability)
            going = [
                agent_id
                for agent_id in order.agents
                if agent_id in roster.agents or (agent_id in running and await self._may_end(act, agent_id))
            ]
        return await self._see_off(act, going) or f"{', '.join(order.agents)} replaced"

    async def _going(self, act: Act, roster: Roster) -> list[str]:
        """Return whom an order to scale down sends off: no more than are too many; whoever has begun to go goes on."""
        order, serving = act.order, roster.serving
        running = await self._launcher.running(order.capability)
        too_many = max(0, len(serving) - order.desired)
        chosen = [agent_id for agent_id in order.agents if agent_id in serving][:too_many]
        begun = [
            agent_id
            for agent_id in order.agents
            if roster.status(agent_id) is AgentStatus.DEREGISTERING
            or (agent_id in running and roster.status(agent_id) is None and await self._may_end(act, agent_id))
        ]
        return chosen + begun

    async def _may_end(self, act: Act, agent_id: str) -> bool:
        """Return whether one that runs, and is not among the capability's agents, has nothing else to do."""
        known, capability = await self._registry.get_agent_info(agent_id), act.order.capability
        if known is None or capability in known.capabilities or known.status is AgentStatus.DEREGISTERING:
            return True
        if agent_id not in act.spared:
            act.spared.append(agent_id)
            self._say(f"{agent_id} stays: it has {_listed(known)} by now, and not {capability}")
        return False

    async def _see_off(self, act: Act, agent_ids: list[str]) -> str:
        """Have agents leave; return why not, or nothing."""
        if act.is_superseded:
            return SUPERSEDED
        act.drained += agent_ids
        act.enter(Phase.DRAINING)
        order = act.order
        await self._leaving.see_off(agent_ids, order.capability, f"{order.action} {order.order_id}")
        return ""

    async def _fill(self, act: Act, roster: Roster, leaving: frozenset[str]) -> str:
        """Start agents until as many serve as are wanted, `leaving` not counted; return why they do not, or nothing."""
        order = act.order
        # Who is silent is told of while the order holds: when it expires, its repetition is there at once.
        patience = time.monotonic() + min(START_TIMEOUT, (order.expires_at - time.time()) / 2)
        filling = _Filling(act, roster, leaving)
        while True:
            if filling.enough:
                if act.started or not await self._is_doubtful(filling):
                    return ""
                continue
            if act.is_moot:
                return await self._lacking(filling)
            running = frozenset(await self._launcher.running(order.capability)) - leaving
            coming = frozenset(each for each in running if roster.status(each) in _ON_ITS_WAY)
            missing = order.desired - len(filling.serving | coming | filling.failed(running))
            if missing > 0 and not filling.is_full:
                if not roster.is_complete:
                    return f"there are more than the {len(roster.agents)} agents that it can see"
                await self._start(filling, missing, running)
                continue
            if not coming:
                return await self._lacking(filling)
            await self._end_hung(coming, roster, order.capability)
            if time.monotonic() > patience:
                patience = time.monotonic() + START_TIMEOUT
                await self._tell_silent(coming, roster, order.capability)
            await roster.change(LOOK_INTERVAL)

    async def _is_doubtful(self, filling: _Filling) -> bool:
        """Return whether there are too few after all, when a moment ago nothing was to be done."""
        await filling.act.pause(SETTLE)
        return not filling.enough

    async def _start(self, filling: _Filling, missing: int, running: frozenset[str]) -> None:
        act, started = filling.act, []
        if act.phase is not Phase.STARTING:
            act.enter(Phase.STARTING)
        try:
            for agent_id in itertools.islice(filling.names(running), missing):
                if act.is_superseded:
                    break
                known_as = await self._launcher.start(agent_id, act.order.capability)
                if known_as is not None:
                    filling.tried.add(known_as)
                act.started.append(known_as or agent_id)
                started.append(known_as or "one more")
            if started:
                self._full.discard(act.order.capability)
        except LauncherFullError as error:
            filling.is_full = True
            if act.order.capability not in self._full:  # it is ordered again and again
                self._full.add(act.order.capability)
                self._say(f"starts no more for {act.order.capability}: {error}")
        finally:
            if started:
                self._say(f"starts {', '.join(started)} for {act.order.capability}")

    async def _end_hung(self, coming: frozenset[str], roster: Roster, capability: str) -> None:
        """Stop who runs and has been seen offline for long, for it hangs; for that an order may be too short."""
        now, seen = time.monotonic(), self._offline.get(capability, {})
        offline = [
            (agent_id, roster.agents[agent_id].status_since)
            for agent_id in sorted(coming)
            if roster.status(agent_id) is AgentStatus.OFFLINE
        ]
        self._offline[capability] = {each: seen.get(each, now) for each in offline}
        for agent_id, since in offline:
            if now - self._offline[capability][agent_id, since] > START_TIMEOUT:
                self._say(f"{agent_id} runs, but stays offline: it is stopped")
                await self._launcher.stop(agent_id)

    async def _tell_silent(self, coming: frozenset[str], roster: Roster, capability: str) -> None:
        """Say why some that run are not there."""
        for agent_id in sorted(coming):
            if roster.status(agent_id) is None:
                self._say(await self._why_silent(agent_id, capability))

    async def _lacking(self, filling: _Filling) -> str:
        """Return why there are fewer than are wanted."""
        act, order = filling.act, filling.act.order
        if act.is_superseded:
            return SUPERSEDED
        running = await self._launcher.running(order.capability)
        silent = [agent_id for agent_id in running if filling.roster.status(agent_id) is None]
        words = f"{len(filling.serving)} of {order.desired} serve"
        if silent:
            words += f"; {await self._why_silent(silent[0], order.capability)}"
        elif filling.failed(frozenset(running)):
            words += f"; {', '.join(sorted(filling.failed(frozenset(running))))} ended"
        return words

    async def _why_silent(self, agent_id: str, capability: str) -> str:
        if re.fullmatch(AGENT_ID_PATTERN, agent_id) is None:  # it has no name yet
            return f"{agent_id} has not come up"
        known = await self._registry.get_agent_info(agent_id)
        if known is None:
            return (
                f"{agent_id} runs, but nobody has registered under that id: if it has started by now, "
                "its program must take AGENT_REGISTRY_AGENT_ID, or {agent_id}, and give itself no other"
            )
        return f"{agent_id} is registered without the capability {capability}: it has {_listed(known)}"


def _listed(agent: AgentInfo) -> str:
    return ", ".join(sorted(map(str, agent.capabilities)))


class _Filling:
    """An attempt to have as many agents as are wanted."""

    def __init__(self, act: Act, roster: Roster, leaving: frozenset[str]) -> None:
        self.act = act
        self.roster = roster
        self.leaving = leaving
        self.tried: set[str] = set()
        """Whom this attempt has started: none is started twice, though it may have ended."""
        self.is_full = False

    @property
    def serving(self) -> frozenset[str]:
        return self.roster.serving - self.leaving

    @property
    def enough(self) -> bool:
        return len(self.serving) >= self.act.order.desired

    def failed(self, running: frozenset[str]) -> frozenset[str]:
        """Return who was started, and neither runs nor is there."""
        return frozenset(self.tried - running - set(self.roster.agents))

    def names(self, running: frozenset[str]) -> Iterator[str]:
        """Yield ids for agents to be started: made from the order, so that it has the same ones when it is repeated."""
        order, taken = self.act.order, self.tried | running | set(self.roster.agents)
        candidates = (f"{order.capability}-{order.generation}-{index}" for index in itertools.count())
        return (candidate for candidate in candidates if candidate not in taken)
