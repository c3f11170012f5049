"""The settings of a registry process: environment variables `AGENT_REGISTRY_<NAME>`, each with its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from agents_sdk.protocol.subjects import DEFAULT_PREFIX

Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every setting; the defaults suit one machine."""

    model_config = SettingsConfigDict(env_prefix="AGENT_REGISTRY_", use_attribute_docstrings=True, extra="ignore")

    prefix: str = DEFAULT_PREFIX
    """First token of every subject; two registries with different prefixes share an account without meeting."""
    credentials: Path | None = None
    """NATS credentials file."""
    kv_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Copies of bucket and event stream; more survive the loss of more servers and make each write slower."""
    capabilities: str = ""
    """Capabilities of this deployment beside the built-in ones, comma-separated; `*` accepts any well-formed name."""
    heartbeat_interval: Seconds = 30.0
    """Seconds between heartbeats for agents that do not say theirs; more saves traffic and finds silence later."""
    health_check_interval: Seconds = 30.0
    """Seconds between two probes of an agent; more saves traffic and finds a crash of a silent agent later."""
    probe_timeout: Seconds = 2.0
    """Seconds an agent may take to answer a probe; more is kinder to slow agents and finds hung ones later."""
    reconnect_grace: Annotated[float, Field(ge=0.0, le=3600.0)] = 5.0
    """Seconds after NATS came back for which an agent that is not there is not given up, for it may be on its way back;
    more is kinder to slow clients and finds the dead of an outage later."""
    offline_retention: Seconds = 3600.0
    """Seconds for which the record of an offline agent is kept; more shows longer who went, and keeps more records."""
    drain_timeout: Seconds = 300.0
    """Seconds a draining agent may take to finish; more lets longer work end, and keeps a stuck agent longer."""
    checkpoint_interval: Seconds = 30.0
    """Seconds between two saves of an agent's vitals; more writes less, and restarts with older numbers."""
    identity: Literal["none", "request-info"] = "none"
    """`request-info` trusts the `Nats-Request-Info` header; only behind a service import with `share: true`."""
    auto_scaling_enabled: bool = True
    """Whether scaling orders are issued."""
    min_agents_per_capability: Annotated[int, Field(ge=0)] = 2
    """Fewer agents than this are ordered up."""
    max_agents_per_capability: Annotated[int, Field(ge=1)] = 10
    """More agents than this are ordered down; load never asks for more."""
    scale_up_load: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Mean load above which agents are added; higher runs hotter."""
    scale_down_load: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    """Mean load below which agents are removed; lower keeps more spare."""
    replace_below_health: Annotated[float, Field(ge=0.0, le=1.0)] = 0.6
    """Agents with a health below are replaced; higher replaces sooner."""
    scale_down_stabilisation: Annotated[float, Field(ge=0.0)] = 300.0
    """Seconds for which load must stay low before an agent is removed; more flaps less and saves later."""
    scaling_interval: Seconds = 5.0
    """Seconds between two looks at a capability; less reacts sooner and costs more."""
    leader_lease: Seconds = 10.0
    """Seconds after which a leader that is silent but not provably gone is replaced; less fails over sooner, and more
    often without need."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged, to standard error."""
    log_format: Literal["text", "json"] = "text"
    """`text` for people, `json` for machines."""

    def extra_capabilities(self) -> list[str]:
        """Return the deployment's own capabilities."""
        return [name.strip().lower() for name in self.capabilities.split(",") if name.strip()]
