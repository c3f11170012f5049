"""Which agents a request for many goes to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from agents_sdk.protocol.discovery import MAX_LIMIT, AgentInfo, Listing, ServiceQuery
from agents_sdk.protocol.errors import Detail, InvalidRequestError, UnavailableError

SPARES = 2
"""Agents that are found for each one that is to be asked: the others take the places of those that are not there."""

Discover = Callable[[ServiceQuery], Awaitable[Listing]]


def query_for(wanted: ServiceQuery | str) -> ServiceQuery:
    """Return the query itself, or that for everybody in service who has a capability, however busy or unwell."""
    if isinstance(wanted, str):
        return ServiceQuery(capabilities={wanted}, min_health_score=0.0, max_load_factor=1.0)
    return wanted


async def whom(discover: Discover, wanted: ServiceQuery | str, n: int | None, within: float) -> list[AgentInfo]:
    """Return the agents that match, the best first: all of them, or with spares for the best `n`.

    Args:
        discover: Finds agents.
        wanted: A query, whose `limit` does not count, or the name of a capability.
        n: How many are to be asked, None for all.
        within: Seconds that this takes at most.

    Raises:
        InvalidRequestError: If all are wanted, and there are more than one listing can have.
        RegistryError: What the registry answers; `UnavailableError` if it does not in time.
    """
    limit = MAX_LIMIT if n is None else min(MAX_LIMIT, SPARES * n)
    try:
        async with asyncio.timeout(within):
            listing = await discover(replace(query_for(wanted), limit=limit))
    except TimeoutError as error:
        raise UnavailableError(f"agents cannot be found within {within:.2g} s") from error
    if n is None and listing.total > MAX_LIMIT:
        message = f"matches {listing.total} agents; at most {MAX_LIMIT} can be reached at once: narrow it, or give n"
        raise InvalidRequestError(f"query: {message}", [Detail("query", message)])
    return listing.agents
