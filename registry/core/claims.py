"""Claims: exclusive resources, one holder each.

The bucket guards each agent's key by itself, so two agents can come to claim the same through two replicas at once. The
log decides: the claim is whose write came first, and a replica that knows the log up to a claim's own revision knows
whether it did. Nobody is told that he holds a claim before that (`outcomes.revision_awaited`).
"""

from __future__ import annotations

from collections.abc import Iterator

from registry.core.record import Record


class Claims:
    """Who claims what, and since which revision."""

    def __init__(self) -> None:
        self._claimants: dict[str, dict[str, int]] = {}

    def add(self, record: Record, revision: int) -> None:
        """Note the claims of a record that has a revision."""
        for claim, since in record.since(revision).items():
            self._claimants.setdefault(claim, {})[record.agent_id] = since

    def discard(self, record: Record) -> None:
        """Forget an agent's claims, if they are known."""
        for claim in record.claims:
            claimants = self._claimants.get(claim)
            if claimants is not None:
                claimants.pop(record.agent_id, None)
                if not claimants:
                    del self._claimants[claim]

    def holder(self, claim: str) -> str | None:
        """Return the agent that holds a claim."""
        claimants = self._claimants.get(claim)
        return min(claimants, key=claimants.__getitem__) if claimants else None

    def lost(self, record: Record) -> Iterator[tuple[str, str]]:
        """Yield an agent's claims that another one holds, with the holder."""
        for claim in record.claims:
            holder = self.holder(claim)
            if holder is not None and holder != record.agent_id:
                yield claim, holder

    def holders(self) -> dict[str, str]:
        """Return every claim that is made, with who holds it."""
        return {claim: min(claimants, key=claimants.__getitem__) for claim, claimants in self._claimants.items()}

    def claimants(self) -> set[tuple[str, str, int]]:
        """Return every claim that is made, with who makes it and since when."""
        return {
            (claim, agent_id, revision)
            for claim, claimants in self._claimants.items()
            for agent_id, revision in claimants.items()
        }
