"""The settings of a registry process: environment variables `AGENT_REGISTRY_<NAME>`, each with its unit."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agents_sdk.protocol.faults import fault_in_words
from agents_sdk.protocol.fields import CAPABILITY_PATTERN, PATTERN_IN_WORDS
from agents_sdk.protocol.subjects import DEFAULT_PREFIX, Subjects
from registry.core.capabilities import ANY
from registry.core.errors import RefusedError
from registry.core.policy import Policy
from registry.core.service import PROTOCOLS

ENV_PREFIX = "AGENT_REGISTRY_"

_BESIDE = ("NATS_SERVER", "NATS_CLI", "AGENT_ID", "CAPABILITY")
"""Variables of the same prefix that are no settings: which nats-server to start, which `nats` to test with, and what a
launcher tells an agent that it starts."""

_OF_POLICY = {
    "min_agents": "min_agents_per_capability",
    "max_agents": "max_agents_per_capability",
    "high_load": "scale_up_load",
    "low_load": "scale_down_load",
    "health_degraded": "replace_below_health",
    "stabilisation_down": "scale_down_stabilisation",
    "stabilisation_up": "scale_up_stabilisation",
}
"""Field of the default scaling policy to the setting that fills it."""


class SettingsError(ValueError):
    """The settings cannot be used; the message names the variable, what it says, and what would be accepted."""


def _names(text: str) -> list[str]:
    return [name.strip().lower() for name in text.split(",") if name.strip()]


def _check_capabilities(text: str) -> str:
    for name in _names(text):
        if name != ANY and re.fullmatch(CAPABILITY_PATTERN, name) is None:
            raise ValueError(f"{name!r} must be {PATTERN_IN_WORDS[CAPABILITY_PATTERN]}; or * for any such name")
    return text


def _check_prefix(prefix: str) -> str:
    try:
        return Subjects(prefix).prefix
    except ValueError as error:
        raise ValueError(str(error).removeprefix("prefix: ")) from None


def _check_protocols(text: str) -> str:
    for name in _names(text):
        if name not in PROTOCOLS:
            raise ValueError(f"{name!r} must be one of {', '.join(PROTOCOLS)}")
    return text


def _check_patterns(text: str) -> str:
    for name in text.split(","):
        if re.fullmatch(r"[A-Za-z0-9_*?-]+", name.strip()) is None:
            raise ValueError(f"{name.strip()!r} must be letters, digits, _ and -, and * or ? for what may be any")
    return text


def _check_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    return path


Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every setting; the defaults suit one machine."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, use_attribute_docstrings=True, extra="forbid"
    )

    prefix: Annotated[str, AfterValidator(_check_prefix)] = DEFAULT_PREFIX
    """First token of every subject; two registries with different prefixes share an account without meeting."""
    credentials: Annotated[Path, AfterValidator(_check_file)] | None = None
    """NATS credentials file."""
    kv_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Copies of bucket and event stream; more survive the loss of more servers and make each write slower."""
    capabilities: Annotated[str, AfterValidator(_check_capabilities)] = ""
    """Capabilities of this deployment beside the built-in ones, comma-separated; `*` accepts any well-formed name."""
    heartbeat_interval: Seconds = 30.0
    """Seconds between heartbeats for agents that do not say theirs; more saves traffic and finds silence later."""
    health_check_interval: Seconds = 30.0
    """Seconds between two probes of an agent; more saves traffic and finds a crash of a silent agent later."""
    probe_timeout: Seconds = 2.0
    """Seconds an agent may take to answer a probe; more is kinder to slow agents and finds hung ones later."""
    reconnect_grace: Annotated[float, Field(ge=0.0, le=3600.0)] = 5.0
    """Seconds after NATS came back for which an agent that is not there is not given up, for it may be on its way back;
    more is kinder to slow clients and finds the dead of an outage later. Loads scale nothing for as long, either."""
    protection_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    """Part of the agents, 0 to 1: when more of at least 10 are silent or unreachable together, the way to them is the
    suspect and verdicts are held back; more protects less, 1 never does."""
    suspicion_below: Annotated[float, Field(ge=0.0, le=3600.0)] = 5.0
    """Seconds: agents that beat at least this often are suspected, and ranked lower, when they are late by their own
    rhythm; more watches more agents and costs more memory, 0 watches none."""
    warm_up: Annotated[float, Field(ge=0.0, le=3600.0)] = 30.0
    """Seconds within which the rank of an agent that came back rises to what it would be; more is more careful."""
    offline_retention: Seconds = 3600.0
    """Seconds for which the record of an offline agent is kept; more shows longer who went, and keeps more records."""
    drain_timeout: Seconds = 300.0
    """Seconds a draining agent may take to finish; more lets longer work end, and keeps a stuck agent longer."""
    checkpoint_interval: Seconds = 30.0
    """Seconds between two saves of an agent's vitals; more writes less, and restarts with older numbers."""
    identity: Literal["none", "request-info"] = "none"
    """`request-info` trusts the `Nats-Request-Info` header; only behind a service import with `share: true`."""
    adopt: Annotated[str, AfterValidator(_check_protocols)] = ""
    """`micro` makes agents of NATS micro services, `synadia` of agents of the Synadia Agent Protocol; both with a comma
    between."""
    adopt_services: Annotated[str, AfterValidator(_check_patterns)] = "*"
    """Names of the micro services that become agents, comma-separated; `*` stands for any part of a name."""
    adopt_interval: Seconds = 10.0
    """Seconds between two calls for services, and two looks at the work of each; more saves traffic and knows them
    later. With more than 1,000 of them it grows by itself."""
    auto_scaling_enabled: bool = True
    """Whether scaling orders are issued."""
    auto_scaling_dry_run: bool = False
    """Whether orders are only shown, by `agent-registry scaling`; a capability's own policy may say otherwise."""
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
    scale_up_stabilisation: Annotated[float, Field(ge=0.0)] = 0.0
    """Seconds for which load must stay high before agents are added; more ignores longer peaks. Full agents
    never wait for it."""
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
        return _names(self.capabilities)

    def adopted_protocols(self) -> list[str]:
        """Return as what services are adopted."""
        return _names(self.adopt)

    def adopted_services(self) -> list[str]:
        """Return patterns of the names of micro services that are."""
        return [name.strip() for name in self.adopt_services.split(",") if name.strip()]

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        """Refuse what `scaling.set` would refuse."""
        try:
            default_policy(self).check()
        except RefusedError as refused:
            raise ValueError(_in_settings(refused.message)) from None
        return self


def read(**changes: Any) -> Settings:
    """Return the settings that the environment makes.

    Args:
        changes: Settings that are known otherwise, and are not looked for there.

    Raises:
        SettingsError: If one cannot be used, several contradict each other, or a name is not one.
    """
    _check_names(os.environ)
    try:
        return Settings(**changes)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        words = fault_in_words(fault)
        raise SettingsError(f"{_variable(str(fault['loc'][0]))}: {words}" if fault["loc"] else words) from None


def default_policy(settings: Settings) -> Policy:
    """Return the scaling policy of capabilities that have none of their own."""
    return Policy(
        min_agents=settings.min_agents_per_capability,
        max_agents=settings.max_agents_per_capability,
        high_load=settings.scale_up_load,
        low_load=settings.scale_down_load,
        health_degraded=settings.replace_below_health,
        target_load=round((settings.scale_up_load + settings.scale_down_load) / 2, 4),
        stabilisation_up=settings.scale_up_stabilisation,
        stabilisation_down=settings.scale_down_stabilisation,
        dry_run=settings.auto_scaling_dry_run,
    )


def _check_names(variables: Iterable[str]) -> None:
    """Refuse variables that look like settings and are none: a typo must not be silently lost.

    Raises:
        SettingsError: For the first one.
    """
    known = [name.upper() for name in (*Settings.model_fields, *_BESIDE)]
    for variable in variables:
        name = variable.upper().removeprefix(ENV_PREFIX)
        if variable.upper().startswith(ENV_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {_variable(near[0])}?" if near else f"after {ENV_PREFIX} comes {', '.join(known)}"
            raise SettingsError(f"{variable}: is not a setting; {meant}")


def _variable(setting: str) -> str:
    return f"{ENV_PREFIX}{setting.upper()}"


def _in_settings(message: str) -> str:
    """Return what is wrong with a policy, with the names of the settings that make it."""
    for field, setting in _OF_POLICY.items():
        message = re.sub(rf"\b{field}\b", _variable(setting), message)
    return message
