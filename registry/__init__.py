"""The agent registry. In process, `AgentRegistry` is a replica like any other."""

from agents_sdk.protocol.discovery import AgentInfo, ServiceQuery
from agents_sdk.protocol.vocabulary import AgentCapability, AgentStatus
from registry.api import AgentRegistry
from registry.communication_bus import CommunicationBus

__all__ = ["AgentCapability", "AgentInfo", "AgentRegistry", "AgentStatus", "CommunicationBus", "ServiceQuery"]
