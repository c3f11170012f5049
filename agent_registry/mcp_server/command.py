"""The mcp command: the registry as a server of the Model Context Protocol, for as long as somebody speaks to it."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from agent_registry.failure import CommandError, Exit
from agent_registry.options import aimed
from agent_registry.target import Target


@aimed
def mcp(
    target: Target,
    *,
    allow_calls: Annotated[
        bool,
        typer.Option("--allow-calls", metavar="", help="Also offer call_agent, which has an agent do something."),
    ] = False,
) -> None:
    """Serve the registry to LLM agents: an MCP server on standard input and output.

    An MCP client starts this itself: give it the command.
    Its tools find agents, and show an agent, statistics, events and scaling.
    They change nothing, unless calls are allowed.

    It ends when standard input does, or on SIGTERM. While NATS is away the
    tools say so; they work again when it is back.
    """
    try:
        from agent_registry.mcp_server.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("mcp", "mcp_types"):
            raise
        raise CommandError(
            f"the MCP SDK is not installed: {error}", "pip install 'agent-registry[mcp]' brings it", Exit.USAGE
        ) from error
    if sys.stdin.isatty():
        sys.stderr.write("speaking MCP on standard input and output, as with a client that started this\n")
    asyncio.run(serve(target, allow_calls=allow_calls))
