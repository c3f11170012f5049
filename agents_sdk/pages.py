"""Finding more agents than one answer holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents_sdk.protocol.discovery import MAX_LIMIT, Listing, ServiceQuery
from agents_sdk.protocol.errors import PayloadTooLargeError
from agents_sdk.protocol.subjects import DISCOVER
from agents_sdk.requester import Requester


class Pages:
    """Finds agents in as many requests as it takes.

    An answer is one message, and a NATS server limits the size of those; how many agents fit depends on what they say
    of themselves. So it is tried, and half as many are asked for when they do not fit.

    Args:
        requester: The way to the registry.
    """

    def __init__(self, requester: Requester) -> None:
        self._requester = requester
        self._size = MAX_LIMIT
        """Agents in one answer, at most; less once that was too much."""

    async def discover(self, fields: Mapping[str, Any]) -> Listing:
        """Return the agents that match, best first.

        `revision` and `total` are those of the first page; later ones are at least as new. There are none beyond the
        first thousand agents: a query cannot leave out more than that.

        Args:
            fields: A query, as in `ServiceQuery.to_wire`.

        Raises:
            PayloadTooLargeError: If not even one agent fits, or the query itself is too large.
        """
        found = last = await self._page(fields)
        wanted = fields.get("limit", ServiceQuery.limit)
        while last.agents and last.total > len(last.agents) and len(found.agents) < wanted:
            exclude = {*fields.get("exclude", ()), *(agent.agent_id for agent in found.agents)}
            if len(exclude) > MAX_LIMIT:
                break
            rest = {"exclude": sorted(exclude), "limit": wanted - len(found.agents), "min_revision": found.revision}
            last = await self._page({**fields, **rest, "explain": False})
            found.agents += last.agents
        return found

    async def _page(self, fields: Mapping[str, Any]) -> Listing:
        while True:
            limit = fields.get("limit", ServiceQuery.limit)
            # What is no limit, or too high a one, is the registry's to refuse.
            cut = isinstance(limit, int) and self._size < limit <= MAX_LIMIT
            try:
                return Listing.from_wire(
                    await self._requester.ask(DISCOVER, {**fields, "limit": self._size} if cut else fields)
                )
            except PayloadTooLargeError:
                size = min(limit, self._size) // 2
                if size == 0:
                    raise
                self._size = size
