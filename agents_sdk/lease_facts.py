"""What can happen to an agent's lease, and what it orders then."""

from __future__ import annotations

from dataclasses import dataclass

from agents_sdk.protocol.errors import RegistryError


@dataclass(frozen=True, slots=True)
class Connected:
    """NATS is there."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """NATS is away."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The registration is durable."""

    incarnation: int
    interval: float
    """Seconds between two beats that the registry expects."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The registration failed."""

    error: RegistryError


@dataclass(frozen=True, slots=True)
class Answered:
    """A beat was taken."""

    grant: int
    status: str
    """The agent's status, as the registry knows it."""
    reserved: int = 0
    """Slots of it that assignments reserve."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A beat was refused, or nobody answered it."""

    grant: int
    error: RegistryError


@dataclass(frozen=True, slots=True)
class Mistaken:
    """A beat was refused for a newer instance, which is this one."""

    grant: int
    error: RegistryError


@dataclass(frozen=True, slots=True)
class Moved:
    """The agent has something new to say."""


@dataclass(frozen=True, slots=True)
class Doubted:
    """Something was heard that makes the lease doubtful; only the registry's answer to a beat decides."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The agent is on its way out: it beats on while it finishes, but does not register any more."""


@dataclass(frozen=True, slots=True)
class Released:
    """The agent gave its lease up."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`Lease.due` has come."""


Fact = (
    Connected
    | Disconnected
    | Granted
    | Refused
    | Answered
    | Failed
    | Mistaken
    | Moved
    | Doubted
    | Leaving
    | Released
    | Tick
)


@dataclass(frozen=True, slots=True)
class Register:
    """Register. Ends in `Granted` or `Refused`."""


@dataclass(frozen=True, slots=True)
class Beat:
    """Send a heartbeat. Ends in `Answered` or `Failed`, with the same `grant`."""

    grant: int
    """Which registration of this process it belongs to: an answer that comes after the next one says nothing."""
    incarnation: int
    seq: int


@dataclass(frozen=True, slots=True)
class Drain:
    """The registry wants the agent to finish and leave."""


@dataclass(frozen=True, slots=True)
class End:
    """Stop serving: the lease cannot be had, or another instance has it."""

    error: RegistryError


Order = Register | Beat | Drain | End
