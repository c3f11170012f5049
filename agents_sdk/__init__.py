"""The SDK of the agent registry: write an agent with `Agent`, find and call agents with `RegistryClient`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents_sdk.act import Act
    from agents_sdk.agent import Agent
    from agents_sdk.answers import Answer, Answers, Outcome, QuorumError
    from agents_sdk.assigned import AssignedWork, assigned_work
    from agents_sdk.assignment import Assignment
    from agents_sdk.canary import Canary, is_canary
    from agents_sdk.client import RegistryClient
    from agents_sdk.directory import Change, Changed, Joined, Left, Snapshot
    from agents_sdk.group import Group
    from agents_sdk.launcher import Launcher, LauncherFullError, LaunchError
    from agents_sdk.orchestrator import Orchestrator
    from agents_sdk.process_launcher import ProcessLauncher
    from agents_sdk.protocol.assignments import AssignmentListing
    from agents_sdk.protocol.conflicts import ConflictReport
    from agents_sdk.protocol.discovery import AgentInfo, Listing, ServiceQuery
    from agents_sdk.protocol.errors import (
        AlreadyRegisteredError,
        ConflictError,
        ForbiddenError,
        InternalError,
        InvalidRequestError,
        NotFoundError,
        OverloadedError,
        PayloadTooLargeError,
        RegistryError,
        StaleIncarnationError,
        UnavailableError,
    )
    from agents_sdk.protocol.events import AssignmentLost, ConflictEvent, RegistryEvent, StatusEvent
    from agents_sdk.protocol.registration import Receipt
    from agents_sdk.protocol.scaling import ScalingOrder, ScalingReport
    from agents_sdk.protocol.statistics import Statistics
    from agents_sdk.protocol.vocabulary import AgentCapability, AgentStatus, Reason, ScalingAction, SortBy
    from agents_sdk.replies import AgentCallError, NotBegunError
    from agents_sdk.synadia import Synadia

__all__ = [
    "Act",
    "Agent",
    "AgentCallError",
    "AgentCapability",
    "AgentInfo",
    "AgentStatus",
    "AlreadyRegisteredError",
    "Answer",
    "Answers",
    "AssignedWork",
    "Assignment",
    "AssignmentListing",
    "AssignmentLost",
    "Canary",
    "Change",
    "Changed",
    "ConflictError",
    "ConflictEvent",
    "ConflictReport",
    "ForbiddenError",
    "Group",
    "InternalError",
    "InvalidRequestError",
    "Joined",
    "LaunchError",
    "Launcher",
    "LauncherFullError",
    "Left",
    "Listing",
    "NotBegunError",
    "NotFoundError",
    "Orchestrator",
    "Outcome",
    "OverloadedError",
    "PayloadTooLargeError",
    "ProcessLauncher",
    "QuorumError",
    "Reason",
    "Receipt",
    "RegistryClient",
    "RegistryError",
    "RegistryEvent",
    "ScalingAction",
    "ScalingOrder",
    "ScalingReport",
    "ServiceQuery",
    "Snapshot",
    "SortBy",
    "StaleIncarnationError",
    "Statistics",
    "StatusEvent",
    "Synadia",
    "UnavailableError",
    "assigned_work",
    "is_canary",
]

# Where each name lives. Imported on first use: pydantic and nats take longer to import than many a command runs.
_HOMES = {
    "act": ("Act",),
    "agent": ("Agent",),
    "answers": ("Answer", "Answers", "Outcome", "QuorumError"),
    "assigned": ("AssignedWork", "assigned_work"),
    "assignment": ("Assignment",),
    "canary": ("Canary", "is_canary"),
    "client": ("RegistryClient",),
    "directory": ("Change", "Changed", "Joined", "Left", "Snapshot"),
    "group": ("Group",),
    "launcher": ("LaunchError", "Launcher", "LauncherFullError"),
    "orchestrator": ("Orchestrator",),
    "process_launcher": ("ProcessLauncher",),
    "protocol.assignments": ("AssignmentListing",),
    "protocol.conflicts": ("ConflictReport",),
    "protocol.discovery": ("AgentInfo", "Listing", "ServiceQuery"),
    "protocol.errors": (
        "AlreadyRegisteredError",
        "ConflictError",
        "ForbiddenError",
        "InternalError",
        "InvalidRequestError",
        "NotFoundError",
        "OverloadedError",
        "PayloadTooLargeError",
        "RegistryError",
        "StaleIncarnationError",
        "UnavailableError",
    ),
    "protocol.events": ("AssignmentLost", "ConflictEvent", "RegistryEvent", "StatusEvent"),
    "protocol.registration": ("Receipt",),
    "protocol.scaling": ("ScalingOrder", "ScalingReport"),
    "protocol.statistics": ("Statistics",),
    "protocol.vocabulary": ("AgentCapability", "AgentStatus", "Reason", "ScalingAction", "SortBy"),
    "replies": ("AgentCallError", "NotBegunError"),
    "synadia": ("Synadia",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
