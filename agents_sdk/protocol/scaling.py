"""Scaling: policies, what is observed and wanted, orders."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, Field

from agents_sdk.protocol.events import EVENT_VERSION
from agents_sdk.protocol.fields import Capability, Score
from agents_sdk.protocol.model import Command, Reply
from agents_sdk.protocol.vocabulary import ScalingAction

Agents = Annotated[int, Field(strict=True, ge=0, le=10_000)]
Step = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Share = Score
Duration = Annotated[float, Field(strict=True, ge=0.0, le=86_400.0, allow_inf_nan=False)]


class ScalingQuery(Command):
    """Which capability's scaling to show."""

    capability: Capability | None = None
    """All when left out."""


class PolicyChange(Command):
    """A change of one capability's policy: what is left out keeps its value."""

    capability: Capability
    min_agents: Agents | None = None
    max_agents: Agents | None = None
    high_load: Score | None = None
    low_load: Score | None = None
    health_degraded: Score | None = None
    target_load: Score | None = None
    tolerance: Share | None = None
    looks: Annotated[int, Field(strict=True, ge=2, le=1_000)] | None = None
    stabilisation_up: Duration | None = None
    stabilisation_down: Annotated[
        Duration | None, Field(validation_alias=AliasChoices("stabilisation_down", "stabilisation"))
    ] = None
    panic_load: Annotated[float, Field(strict=True, ge=0.0, le=1_000.0, allow_inf_nan=False)] | None = None
    step_up: Step | None = None
    step_down: Step | None = None
    warm_up: Duration | None = None
    queue_weight: Annotated[float, Field(strict=True, ge=0.0, le=1_000.0, allow_inf_nan=False)] | None = None
    replace_share: Share | None = None
    dry_run: Annotated[bool, Field(strict=True)] | None = None
    order_timeout: Annotated[float, Field(strict=True, ge=1.0, le=3600.0, allow_inf_nan=False)] | None = None
    reset: Annotated[bool, Field(strict=True)] = False
    """Drop the capability's own policy first, so that the defaults hold again."""


class ScalingPolicy(Reply):
    """How a capability is scaled; the defaults are the API reference's."""

    capability: str
    min_agents: int = 2
    max_agents: int = 10
    high_load: float = 0.8
    """Scale up when the mean load is above."""
    low_load: float = 0.3
    """Scale down when the mean load is below."""
    health_degraded: float = 0.6
    """Replace agents whose health is below."""
    target_load: float = 0.55
    """The mean load to aim at, between low and high."""
    tolerance: float = 0.1
    """A mean load off the target by no more than this share of it is right, wherever the thresholds are."""
    looks: int = 4
    """Looks over which loads are averaged."""
    stabilisation_up: float = 0.0
    """Seconds for which load must stay high before scaling up."""
    stabilisation_down: float = 300.0
    """Seconds for which load must stay low before scaling down."""
    panic_load: float = 0.9
    """Mean load from which on agents are full: two looks are enough, and there is no step limit."""
    step_up: int | None = None
    """Agents that one order adds at most; None for as many as there are, or four."""
    step_down: int | None = None
    """Agents that one order removes at most; None for half of them."""
    warm_up: float = 30.0
    """Seconds after its registration for which an agent counts as capacity, and its load not in the mean."""
    queue_weight: float = 1.0
    """What a piece of waiting work (metric `queue_depth`) counts as, against one that an agent works on."""
    replace_share: float = 0.1
    """Share of the agents that is replaced at a time; one at least."""
    dry_run: bool = False
    """Whether orders are only shown."""
    order_timeout: float = 120.0
    """Seconds until an order expires and is issued again."""
    source: str = "default"
    """`default`, or `policy` when the capability has its own."""


class Observed(Reply):
    """What the scaler sees of a capability."""

    agents: int
    """Agents that can take work: active or degraded."""
    pending: int
    """Agents ordered and not yet seen."""
    mean_load: float | None
    """None when no agent has reported a load that is fresh enough."""
    mean_health: float | None
    sample_age: float | None
    """Seconds since the oldest load report that counts."""
    reporting: int = 0
    """Agents whose load counts in the mean."""
    missing: int = 0
    """Agents that should have reported a load and have not."""
    starting: int = 0
    """Agents that registered a short while ago."""


class ScalingOrder(Reply):
    """An order to an orchestrator; the payload of a scaling event."""

    v: int = EVENT_VERSION
    """Version of this form; see `events.EVENT_VERSION`."""
    order_id: str
    capability: str
    action: ScalingAction
    observed: Observed
    desired: int
    """How many agents there should be; act on this, not on `delta`, and a lost event costs nothing."""
    delta: int
    agents: list[str]
    """Whom to drain or replace."""
    reason: str
    generation: int
    """Grows with each new decision for the capability."""
    attempt: int
    """Grows with each repetition of the same decision."""
    issued_at: float
    expires_at: float
    epoch: int
    """Of the leader that issued it."""


class EndedOrder(Reply):
    """The order that ended last."""

    order_id: str
    action: ScalingAction
    desired: int
    agents: list[str]
    outcome: str
    """`fulfilled`, `expired`, `withdrawn` (by another policy) or `superseded` (by a more urgent one)."""
    ended_at: float


class CapabilityScaling(Reply):
    """The scaler's view of one capability."""

    capability: str
    policy: ScalingPolicy
    observed: Observed
    desired: int
    orders: list[ScalingOrder]
    """Open orders."""
    last_order: EndedOrder | None = None
    """The order that ended last."""
    reason: str
    """What was decided last and why, also when that was to do nothing."""


class ScalingReport(Reply):
    """The scaler's view of every capability."""

    enabled: bool
    capabilities: list[CapabilityScaling]
