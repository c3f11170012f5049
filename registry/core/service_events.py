"""Facts about micro services, which know nothing of the registry; see `events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.core.service import Sample, Service

if TYPE_CHECKING:
    from registry.core.events import RegisterRequested


@dataclass(slots=True)
class ServiceSeen:
    """A micro service has answered a call, or has beaten; what is None it did not say."""

    at: float
    service: Service
    registers_itself: bool = False
    """Whether it is no stranger: an agent that registers, or a registry."""
    is_beat: bool = False
    health_score: float | None = None
    load_factor: float | None = None


@dataclass(slots=True)
class ServiceDescribed:
    """A service was asked what it is; None if it has not said so, or not what an agent could be made of."""

    at: float
    service_id: str
    registration: RegisterRequested | None


@dataclass(slots=True)
class ServiceMeasured:
    """An adopted agent was asked how much it has done."""

    at: float
    agent_id: str
    incarnation: int
    sample: Sample | None = None
    nobody: bool = False
    """Whether nobody listens."""
