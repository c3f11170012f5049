"""The words of the wire contract: statuses, capabilities, reasons, actions."""

from __future__ import annotations

from enum import StrEnum


class AgentStatus(StrEnum):
    """Where an agent is in its life."""

    REGISTERING = "registering"
    ACTIVE = "active"
    DEGRADED = "degraded"
    SUSPENDED = "suspended"
    DEREGISTERING = "deregistering"
    OFFLINE = "offline"


class AgentCapability(StrEnum):
    """The built-in capabilities; a deployment may add others."""

    TRADING = "trading"
    RESEARCH = "research"
    RISK_MANAGEMENT = "risk_management"
    SENTIMENT_ANALYSIS = "sentiment_analysis"
    CHART_ANALYSIS = "chart_analysis"
    FUNDING_ANALYSIS = "funding_analysis"
    LIQUIDATION_MONITORING = "liquidation_monitoring"
    WHALE_TRACKING = "whale_tracking"
    NEWS_ANALYSIS = "news_analysis"
    STRATEGY_OPTIMIZATION = "strategy_optimization"
    BACKTESTING = "backtesting"
    EXECUTION = "execution"


class Reason(StrEnum):
    """Why an agent has the status it has; in `reason` of events and `status_reason` of agents."""

    REGISTERED = "registered"
    UPDATED = "updated"
    TAKEOVER = "takeover"
    DEREGISTERED = "deregistered"
    DRAINING = "draining"
    OPERATOR = "operator"
    HEALTH = "health"
    RECOVERED = "recovered"
    NO_RESPONDERS = "no_responders"
    DISCONNECTED = "disconnected"
    PROBE_TIMEOUT = "probe_timeout"
    SLOW = "slow"
    BUSY = "busy"
    HEARTBEAT_TIMEOUT = "heartbeat_timeout"
    CANARY = "canary"
    FLAPPING = "flapping"
    RETENTION = "retention"
    RESTORED = "restored"


class SortBy(StrEnum):
    """How `discover` orders what it finds, best first."""

    PERFORMANCE = "performance"
    HEALTH = "health"
    LOAD = "load"
    RANDOM = "random"


class ScalingAction(StrEnum):
    """What a scaling order asks an orchestrator to do."""

    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    REPLACE = "replace"
    REBALANCE = "rebalance"


class ConflictKind(StrEnum):
    """What a conflict is about."""

    CLAIM = "claim"
    COMBINATION = "combination"
    VERSIONS = "versions"


class RuleKind(StrEnum):
    """What a rule forbids."""

    COMBINATION = "combination"
    """One agent with all of some capabilities."""
    VERSIONS = "versions"
    """Agents whose versions are of different ranges, at the same time."""


class RuleAction(StrEnum):
    """What becomes of a registration that would break a rule."""

    REFUSE = "refuse"
    REPORT = "report"
    """It is admitted, and told of."""
