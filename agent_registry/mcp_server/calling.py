"""The tool that has an agent do something."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from agent_registry.mcp_server.looking import Skills, Tags
from agent_registry.mcp_server.reach import Reach
from agent_registry.mcp_server.tool import Tool
from agents_sdk.caller import CANDIDATES
from agents_sdk.protocol.canary import Topic
from agents_sdk.protocol.codec import check_nesting
from agents_sdk.protocol.discovery import ServiceQuery
from agents_sdk.protocol.errors import Detail, InvalidRequestError
from agents_sdk.protocol.fields import Capability
from agents_sdk.protocol.model import Command
from agents_sdk.protocol.subjects import DRAIN


class Call(Command):
    """What is asked of whom."""

    capability: Capability
    """What the agent must be able to do; see list_capabilities."""
    topic: Topic
    """Which of the agent's topics to call; get_agent lists the topics of an agent."""
    payload: dict[str, Any] = Field(default_factory=dict)
    """The request, a JSON object of whatever the topic takes."""
    timeout: Annotated[float, Field(ge=0.1, le=300.0, allow_inf_nan=False)] = 10.0
    """Seconds to wait for the answer."""
    tags: Tags | None = None
    """Only an agent that has all of these tags."""
    skills: Skills | None = None
    """Only an agent whose A2A agent card names all of these skill ids."""


async def _call(reach: Reach, call: Call) -> dict[str, Any]:
    check_nesting("payload", call.payload)
    if call.topic == DRAIN:
        message = f"{DRAIN} is how the registry has an agent leave; call one of the agent's own"
        raise InvalidRequestError(f"topic: {message}", [Detail("topic", message)])
    query = ServiceQuery(tags=call.tags, skills=call.skills, limit=CANDIDATES)
    # Nothing is asked for twice: whether that does harm only the LLM can tell, if anybody.
    answer = await reach.registry.call(
        call.capability, call.topic, call.payload, timeout=call.timeout, query=query, at_most_once=True
    )
    return {"answer": answer}


CALL_AGENT = Tool(
    "call_agent",
    "Call an agent",
    "Have one agent that has a capability do something, and return its answer as `answer`. The registry chooses a good "
    "and idle one; another one is asked when that one has no time for it or is not there. This acts in the real world: "
    "call it only when the user wants the action. When the error says that it may have begun, do not call again "
    "without knowing that doing it twice does no harm.",
    Call,
    _call,
    acts=True,
)
