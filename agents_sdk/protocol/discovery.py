"""Finding agents: the query, the agent as others see it, the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from agents_sdk.protocol.fields import AgentId, Capability, Count, Flag, JsonObject, Name, Score, Text, Timestamp
from agents_sdk.protocol.model import Reply
from agents_sdk.protocol.subjects import agent_topic
from agents_sdk.protocol.vocabulary import AgentCapability, AgentStatus, SortBy

MAX_LIMIT = 1000

AGENT_CARD = "a2a_card"
"""Where in its metadata an agent keeps its A2A agent card."""

REVISION_WAIT = 1.0
"""Seconds that the registry waits at most for the revision that a query asks for; replicas lag by milliseconds."""


@dataclass
class ServiceQuery:
    """Which agents to find, and in which order.

    Names, types and defaults of the first seven fields are the API reference's.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    capabilities: Annotated[AbstractSet[Capability], Field(max_length=64)] | None = None
    """All of these must be there."""
    agent_type: Name | None = None
    min_health_score: Score = 0.5
    max_load_factor: Score = 0.8
    tags: Annotated[AbstractSet[Name], Field(max_length=64)] | None = None
    """All of these must be there."""
    limit: Annotated[int, Field(strict=True, ge=1, le=MAX_LIMIT)] = 10
    """How many agents to return at most, 1 to 1000; `total` counts all that match."""
    sort_by: SortBy = SortBy.PERFORMANCE
    """Best first; agents that are nearly equal (within 0.02) come shuffled."""
    version: Text | None = None
    """A version specifier such as `>=2,<3`."""
    metadata: JsonObject | None = None
    """Fields that the agent's metadata must have with equal values."""
    skills: Annotated[AbstractSet[Text], Field(max_length=64)] | None = None
    """Ids of skills, all of which the A2A agent card in its metadata must name."""
    prefer_tags: Annotated[AbstractSet[Name], Field(max_length=64)] | None = None
    """Agents with more of these come first."""
    exclude: Annotated[AbstractSet[AgentId], Field(max_length=MAX_LIMIT)] | None = None
    """Agents to leave out."""
    statuses: Annotated[AbstractSet[AgentStatus], Field(min_length=1)] | None = None
    """Statuses to find; `active` and `degraded` when left out."""
    explain: Flag = False
    """Also say of each near miss why it was left out."""
    min_revision: Count = 0
    """Answer only from a state at least this new, or with 503 `unavailable`."""

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form: what differs from the defaults, sets as sorted arrays."""
        wire: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and value != item.default:
                wire[item.name] = sorted(value) if isinstance(value, AbstractSet) else value
        return wire


class FailingCanary(Reply):
    """A canary that an agent fails."""

    since: Timestamp
    """Of the first fail in a row."""
    why: str
    """What was wrong the last time."""


class Evidence(Reply):
    """What is known of an agent beside its own reports, and the verdict that follows from it."""

    verdict: str
    """`alive`, `busy`, `slow`, `hung`, `silent`, `gone`, or `partitioned`: it would be one of the last three, but
    the way to it, or a server on that way, is the suspect."""
    since: Timestamp
    silence: float
    """Seconds since the last sign of life."""
    lease_left: float
    """Seconds until its lease ends if it stays silent."""
    busy_until: Timestamp | None = None
    """Until when it said that it would be busy."""
    probed_at: Timestamp | None = None
    """When the last health check was sent that has ended."""
    probe_outcome: str | None = None
    """`answered`, `no_responders` or `timeout`."""
    probe_took: float | None = None
    """Seconds until it ended."""
    probes_missed: int = 0
    """Health checks in a row that found nobody; two are enough."""
    unanswered_since: Timestamp | None = None
    """Since when it does not answer health checks."""
    slow_since: Timestamp | None = None
    """When it first answered late, until it has been in time twice in a row."""
    disconnected_at: Timestamp | None = None
    """When a connection was closed that calls itself the agent's, if nothing was heard of it since."""
    disconnect_reason: str | None = None
    """The NATS server's words."""
    reports: int = 0
    """Problems that callers reported."""
    reported_at: Timestamp | None = None
    problem: str | None = None
    """The last one."""
    returns: int = 0
    """How often it came back after it was gone, silent or hung."""
    flapping_until: Timestamp | None = None
    """Until when it is kept degraded because of that."""
    failing_canaries: dict[str, FailingCanary] = Field(default_factory=dict)
    """Capability to what is known of its canary, for those that fail."""
    held_back_by: list[str] = Field(default_factory=list)
    """Why verdicts are held back now; see `protection` in the statistics."""
    judged_by: str
    """The replica that says so."""


class Adopted(Reply):
    """A service that knows nothing of the registry, and is an agent all the same."""

    protocol: str
    """`micro` for a NATS micro service, `synadia` for an agent of the Synadia Agent Protocol."""
    service: str
    """Its name; its id is the agent's."""
    endpoints: dict[str, str] = Field(default_factory=dict)
    """Topic to the subject on which it is served, instead of `agent.<agent_id>.<topic>`. Instances of the same service
    may share one, and any of them then answers."""


@dataclass
class AgentInfo:
    """An agent as the registry knows it.

    Names, types and defaults of the first twelve fields are the API reference's.
    """

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    agent_id: str
    agent_type: str
    capabilities: set[AgentCapability | str]
    """Built-in ones as `AgentCapability`, a deployment's own as plain strings."""
    status: AgentStatus = AgentStatus.REGISTERING
    registered_at: float = field(default_factory=time.time)
    """Unix time in seconds."""
    last_heartbeat: float = field(default_factory=time.time)
    """Unix time in seconds of the last sign of life."""
    metadata: dict[str, Any] = field(default_factory=dict)
    performance_metrics: dict[str, float] = field(default_factory=dict)
    health_score: float = 1.0
    """0.0 to 1.0."""
    load_factor: float = 0.0
    """0.0 to 1.0, the last report as it came."""
    version: str = "1.0.0"
    tags: set[str] = field(default_factory=set)
    status_reason: str | None = None
    """Why it has this status; see `Reason`."""
    status_note: str | None = None
    """What whoever asked for the status gave as the reason."""
    status_since: float | None = None
    """Unix time in seconds."""
    load_age: float | None = None
    """Seconds since the load was reported; None when it never was."""
    instance_id: str | None = None
    incarnation: int = 0
    revision: int = 0
    """Revision of its record in the bucket."""
    heartbeat_interval: float = 30.0
    """Seconds."""
    heartbeat_timeout: float = 90.0
    """Seconds."""
    health_subject: str | None = None
    max_concurrency: int | None = None
    claims: set[str] = field(default_factory=set)
    canaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Capability to its canary, as registered: `topic`, `payload`, `expect`, `timeout`, `period`."""
    adopted: Adopted | None = None
    """The service that the registry made this agent of; None if it registers itself."""
    reserved: int = 0
    """Slots that assignments reserve of it now."""
    suspicion: float = 0.0
    """0.0 to 1.0: how unusual its silence is for an agent that beats often; lowers its rank."""
    evidence: Evidence | None = None
    """What its status rests on; only `get` returns it."""

    @property
    def skills(self) -> set[str]:
        """Ids of the skills that the A2A agent card in its metadata names; empty when it has none."""
        card = self.metadata.get(AGENT_CARD)
        skills = card.get("skills") if isinstance(card, Mapping) else None
        named = (skill.get("id") for skill in skills if isinstance(skill, Mapping)) if isinstance(skills, list) else ()
        return {skill_id for skill_id in named if isinstance(skill_id, str)}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> AgentInfo:
        """Build from the JSON form; fields that this version does not know are left out."""
        known = {name: wire[name] for name in _AGENT_FIELDS if name in wire}
        known["capabilities"] = {_BUILTIN.get(name, name) for name in wire["capabilities"]}
        known["status"] = AgentStatus(wire["status"])
        known["tags"] = set(wire.get("tags", ()))
        known["claims"] = set(wire.get("claims", ()))
        if known.get("evidence") is not None:
            known["evidence"] = Evidence.model_validate(known["evidence"])
        if known.get("adopted") is not None:
            known["adopted"] = Adopted.model_validate(known["adopted"])
        return cls(**known)

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form, sets as sorted arrays."""
        wire = {name: getattr(self, name) for name in _AGENT_FIELDS}
        for name in ("capabilities", "tags", "claims"):
            wire[name] = sorted(wire[name])
        if self.evidence is not None:
            wire["evidence"] = self.evidence.model_dump(mode="json")
        if self.adopted is not None:
            wire["adopted"] = self.adopted.model_dump(mode="json")
        return wire

    def refusal(self, topic: str) -> str | None:
        """Return why one of its topics cannot be asked by one request with one answer; None if it can."""
        if self.adopted is None or (self.adopted.protocol, topic) != ("synadia", "prompt"):
            return None
        there = f"prompt it on {self.topic(topic)} with a client of the Synadia Agent Protocol"
        return f"prompts are answered by a stream; {there}"

    def topic(self, name: str) -> str:
        """Return the subject on which one of its topics is reached."""
        served = {} if self.adopted is None else self.adopted.endpoints
        return served.get(name) or agent_topic(self.agent_id, name)


_AGENT_FIELDS = tuple(item.name for item in fields(AgentInfo))
_BUILTIN = {str(capability): capability for capability in AgentCapability}


class NearMiss(Reply):
    """An agent that has the capabilities asked for but was left out."""

    agent_id: str
    reasons: list[str]
    """What did not fit, with what was wanted and what it has."""


@dataclass
class Listing:
    """The answer to a query."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    agents: list[AgentInfo]
    total: int
    """How many match, not only those returned."""
    revision: int
    """The bucket's revision that the answer is from."""
    near_misses: list[NearMiss] | None = None
    """With `explain`: at most 100 agents that were left out, and why."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Listing:
        """Build from the JSON form."""
        misses = wire.get("near_misses")
        return cls(
            agents=[AgentInfo.from_wire(agent) for agent in wire["agents"]],
            total=wire["total"],
            revision=wire["revision"],
            near_misses=None if misses is None else [NearMiss.model_validate(miss) for miss in misses],
        )


class CapabilityCount(Reply):
    """A capability of the vocabulary, and how many agents have it now."""

    name: str
    agents: int
    """Agents that are not offline."""
    builtin: bool


class Vocabulary(Reply):
    """The capabilities that this registry knows."""

    capabilities: list[CapabilityCount]
    open: bool
    """Whether any well-formed capability is accepted."""
