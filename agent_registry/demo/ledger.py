"""What is known of the demo at this moment: the one thing that is shown, live or in plain lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent_registry.demo.story import ENDING, OPENING, SCENES, Scene
from agents_sdk.protocol.events import StatusEvent
from agents_sdk.protocol.scaling import ScalingOrder

if TYPE_CHECKING:
    from agent_registry.demo.load import Load
    from agents_sdk.feed import Event
    from agents_sdk.protocol.discovery import AgentInfo
    from agents_sdk.protocol.scaling import CapabilityScaling

_OFFLINE = {
    "no_responders": "nobody listens on its health subject",
    "disconnected": "its connection closed",
    "heartbeat_timeout": "silent for longer than its lease",
}

MAX_HAPPENINGS = 50


@dataclass(frozen=True)
class Happening:
    """One thing that happened, in words."""

    at: float
    """Unix time."""
    who: str
    words: str
    style: str


@dataclass
class Ledger:
    """What is known now, and what was counted."""

    seconds: float
    nats: str = ""
    load: Load | None = None
    opened: float = field(default_factory=time.monotonic)
    """Instant at which the demo was started, by the monotonic clock."""
    begun: float | None = None
    """Instant at which the story began, by the monotonic clock; None while everything is being started."""
    scene: Scene = SCENES[0]
    ending: bool = False
    """Whether everything is being ended."""
    agents: list[AgentInfo] = field(default_factory=list)
    scaling: list[CapabilityScaling] = field(default_factory=list)
    happenings: deque[Happening] = field(default_factory=lambda: deque(maxlen=MAX_HAPPENINGS))
    victims: dict[str, str] = field(default_factory=dict)
    """Deed to the agent that it was done to."""
    killed_at: float | None = None
    """Unix time."""
    found_after: float | None = None
    """Seconds from the kill to the event that says so."""
    most: int = 0
    """The most traders that served at the same time."""
    orders: int = 0
    on_happening: Callable[[Happening], None] | None = None

    @property
    def age(self) -> float:
        """Seconds since the demo was started."""
        return time.monotonic() - self.opened

    @property
    def elapsed(self) -> float:
        """Seconds since the story began."""
        return 0.0 if self.begun is None else min(self.seconds, time.monotonic() - self.begun)

    @property
    def title(self) -> str:
        """What happens now, in a few words."""
        if self.ending:
            return "the end"
        return "starting" if self.begun is None else self.scene.title

    @property
    def caption(self) -> str:
        """What happens now, and why, in words."""
        if self.ending:
            return ENDING
        if self.begun is None:
            return OPENING
        return self.scene.caption.format(agent=self.victims.get(self.scene.deed or "", ""))

    def look(self, agents: list[AgentInfo], scaling: list[CapabilityScaling]) -> None:
        """Take what the registry says now."""
        self.agents = sorted(agents, key=_place)
        self.scaling = scaling
        self.most = max(self.most, self.serving("trading"))

    def serving(self, capability: str) -> int:
        """Return how many agents can take work of a kind."""
        return sum(capability in agent.capabilities and agent.status in ("active", "degraded") for agent in self.agents)

    def note(self, who: str, words: str, style: str = "", at: float | None = None) -> None:
        """Write down what happened."""
        happening = Happening(at or time.time(), who, words, style)
        self.happenings.append(happening)
        if self.on_happening is not None:
            self.on_happening(happening)

    def heard(self, event: Event) -> None:
        """Write down an event of the registry."""
        if isinstance(event, StatusEvent):
            self._status(event)
        elif isinstance(event, ScalingOrder):
            self.orders += 1
            what = f"{event.observed.agents} → {event.desired}" if event.delta else f"replace {', '.join(event.agents)}"
            self.note("registry", f"orders {event.capability} {what}: {event.reason}", "bold", event.issued_at)

    def _status(self, event: StatusEvent) -> None:
        agent, words, style = event.agent_id, "", ""
        if event.removed:
            words, style = "has left", "blue"
            if event.reason == "retention":
                words = "forgotten: it was offline for long enough"
        elif event.status == "offline":
            words, style = f"is offline: {_OFFLINE.get(event.reason, event.reason)}", "bold red"
            if agent == self.victims.get("crash") and self.killed_at is not None and self.found_after is None:
                self.found_after = event.at - self.killed_at
                words += f", {self.found_after:.1f} s after the kill"
        elif event.status == "deregistering":
            words, style = "drains: no new work, finishes what it has", "blue"
        elif event.reason == "operator":
            words = f"is {event.status}, by an operator" + (f": {event.note}" if event.note else "")
            style = "magenta"
        elif event.reason == "registered":
            words, style = f"registered for {', '.join(event.capabilities)}", "green"
        else:
            words, style = f"is {event.status}: {event.reason}", "yellow"
        self.note(agent, words, style, event.at)


def _place(agent: AgentInfo) -> tuple[bool, str, int]:
    """Return where an agent stands in the list: traders first, for they come and go; then by name and number."""
    role, _, number = agent.agent_id.rpartition("-")
    return "trading" not in agent.capabilities, role, int(number) if number.isdigit() else 0
