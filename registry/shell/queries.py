"""Answers to queries, from memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from agents_sdk.protocol.conflicts import ConflictQuery
from agents_sdk.protocol.discovery import REVISION_WAIT, ServiceQuery
from agents_sdk.protocol.registration import AgentQuery
from agents_sdk.protocol.scaling import ScalingQuery
from agents_sdk.protocol.schema.query import SchemaQuery
from agents_sdk.protocol.statistics import Empty
from registry.core.errors import RefusedError
from registry.core.query import Query
from registry.core.ruling import rules_report
from registry.core.scaling import scaling_report
from registry.shell.evidence import evidence_fields
from registry.shell.wire import encode_agent, encode_listing, to_query

if TYPE_CHECKING:
    from registry.core.state import RegistryState
    from registry.shell.bucket_log import BucketLog


class Queries:
    """Answers what is asked.

    Args:
        state: What is known.
        bucket_log: Says up to which revision it is known.
        statistics: Returns what `stats` answers.
        presence: Returns what `replicas` answers.
        replica_id: Who answers.
        from_leader: Returns what the leader answers, None if it does not.
        contract: Returns what `schema` answers.
    """

    def __init__(
        self,
        state: RegistryState,
        bucket_log: BucketLog,
        statistics: Callable[[], dict[str, Any]],
        presence: Callable[[], dict[str, Any]],
        replica_id: str,
        from_leader: Callable[[AgentQuery], Awaitable[bytes | None]],
        contract: Callable[[SchemaQuery], dict[str, Any]],
    ) -> None:
        self._state = state
        self._log = bucket_log
        self._statistics = statistics
        self._presence = presence
        self._replica_id = replica_id
        self.ask_leader = from_leader
        self._contract = contract

    async def discover(self, query: ServiceQuery, at: float) -> bytes:
        """Return the agents that match.

        Raises:
            RefusedError: For an unknown capability, or a wrong version specifier.
        """
        wanted = self._plan(query)
        agents, total = self._state.find(wanted)
        misses = self._state.catalog.near_misses(wanted) if query.explain else None
        return encode_listing(agents, total, self._log.revision, at, misses)

    def _plan(self, query: ServiceQuery) -> Query:
        """Return the core's form of a query, made once for each."""
        plan: Query | None = query.__dict__.get("_plan")
        if plan is None:
            plan = query.__dict__["_plan"] = to_query(query)
        return plan

    def must_wait(self, revision: int) -> bool:
        """Return whether a revision is not known yet."""
        return revision > self._log.revision

    async def reach(self, revision: int) -> None:
        """Wait for a revision.

        Raises:
            RefusedError: `unavailable`, if it does not come within `REVISION_WAIT`.
        """
        if not await self._log.reached(revision, REVISION_WAIT):
            known = self._log.revision
            raise RefusedError(
                "unavailable",
                f"min_revision: {revision} is not known here yet, {known} is; try again",
                ("min_revision", f"{known} is known here"),
            )

    async def get(self, query: AgentQuery, at: float) -> bytes:
        """Return one agent, and the evidence on it.

        Raises:
            RefusedError: `not_found`.
        """
        agent = self._state.get(query.agent_id)
        evidence = evidence_fields(self._state, agent, at, self._replica_id)
        return encode_agent(agent, at)[:-1] + b',"evidence":' + orjson.dumps(evidence) + b"}"

    async def stats(self, _query: Empty, _at: float) -> bytes:
        """Return the statistics of this replica."""
        return orjson.dumps(self._statistics())

    async def presence(self, _query: Empty, _at: float) -> bytes:
        """Return who this replica is and how far it is."""
        return orjson.dumps(self._presence())

    async def capabilities(self, _query: Empty, _at: float) -> bytes:
        """Return the vocabulary, with how many agents have each capability now."""
        vocabulary, counts = self._state.vocabulary, self._state.catalog.capabilities
        names = sorted(set(vocabulary.names) | {name for name, count in counts.items() if count})
        listed = [{"name": name, "agents": counts[name], "builtin": name in vocabulary.builtin} for name in names]
        return orjson.dumps({"capabilities": listed, "open": vocabulary.open})

    async def scaling(self, query: ScalingQuery, _at: float) -> bytes:
        """Return the scaler's view.

        Raises:
            RefusedError: For an unknown capability.
        """
        return orjson.dumps(scaling_report(self._state, query.capability))

    async def schema(self, query: SchemaQuery, _at: float) -> bytes:
        """Return the contract, for programs.

        Raises:
            InvalidRequestError: If there is no message of the name asked for.
        """
        return orjson.dumps(self._contract(query))

    async def conflicts(self, query: ConflictQuery, _at: float) -> bytes:
        """Return the rules, and who breaks them."""
        return orjson.dumps(rules_report(self._state, query.name))
