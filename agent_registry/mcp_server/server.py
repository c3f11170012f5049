"""The server: tools listed and called, whatever fails told as the protocol has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, cast

import mcp_types as types
import orjson
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from agent_registry.mcp_server.calling import CALL_AGENT
from agent_registry.mcp_server.incoming import Incoming
from agent_registry.mcp_server.looking import LOOKING
from agent_registry.mcp_server.reach import Reach
from agent_registry.mcp_server.tool import Tool
from agent_registry.target import Target
from agents_sdk.protocol.errors import RegistryError
from agents_sdk.replies import AgentCallError
from agents_sdk.signals import on_stop_signal

INSTRUCTIONS = (
    "A registry of software agents that can be found by what they can do. list_capabilities says which abilities there "
    "are; discover_agents finds agents by them, best first; get_agent shows one agent, whether it is alive and why the "
    "registry thinks so, and the topics it answers. Scores and loads go from 0 to 1. An error is one sentence that "
    "begins with its code: unavailable and overloaded may pass, everything else needs another request."
)

logger = logging.getLogger(__name__)


async def serve(target: Target, *, allow_calls: bool) -> None:
    """Serve one client on standard input and output, until it has gone or a signal asks to end.

    What is printed meanwhile goes to standard error: the SDK sees to that.

    Args:
        target: Which registry.
        allow_calls: Whether agents may be made to act.
    """
    reach = Reach(target)
    try:
        server, incoming = made(reach, allow_calls=allow_calls), Incoming()
        with on_stop_signal(asyncio.get_running_loop(), lambda _: incoming.end()):
            async with stdio_server(stdin=cast("Any", incoming)) as (reading, writing):
                await server.run(reading, writing, server.create_initialization_options())
    except* BrokenPipeError:
        logger.debug("the client has gone before it had every answer")
    finally:
        await reach.close()


def made(reach: Reach, *, allow_calls: bool) -> Server[Any]:
    """Return the server.

    Args:
        reach: The way to the registry.
        allow_calls: Whether agents may be made to act.
    """
    tools = {tool.name: tool for tool in (*LOOKING, *((CALL_AGENT,) if allow_calls else ()))}

    async def list_tools(_context: Any, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool.listed() for tool in tools.values()])

    async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = tools.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, _no_such_tool(params.name))
        return await _result(tool, reach, params.arguments or {})

    return Server(
        "agent-registry",
        version=version("agent-registry"),
        title="Agent registry",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _result(tool: Tool, reach: Reach, given: Mapping[str, Any]) -> types.CallToolResult:
    """Call a tool; what the registry or an agent refuses is for the LLM to read, and no fault of the protocol's."""
    try:
        answer = await tool.call(reach, given)
    except RegistryError as error:
        return _told(f"{error.code}: {error.message}", is_error=True)
    except AgentCallError as error:
        return _told(str(error), is_error=True)
    return _told(orjson.dumps(answer).decode(), answer)


def _told(text: str, structured: dict[str, Any] | None = None, *, is_error: bool = False) -> types.CallToolResult:
    content: list[types.ContentBlock] = [types.TextContent(type="text", text=text)]
    return types.CallToolResult(content=content, structured_content=structured, is_error=is_error)


def _no_such_tool(name: str) -> str:
    if name == CALL_AGENT.name:
        return f"{name} is not offered: agent-registry mcp was started without --allow-calls"
    return f"there is no tool {name!r}"
