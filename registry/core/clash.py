"""A clash: a registration that is refused for what another agent has, or for what a rule forbids."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from registry.core.errors import RefusedError

CLAIM = "claim"
"""Kind of a clash over a claim; those over rules have the kind of the rule."""

QUIET = 60.0
"""Seconds without the same clash after which it is news again: who tries again and again is told of once."""

MAX_CLASHES = 1000
"""Clashes told apart; while there are more, further ones are counted and not told."""


@dataclass(frozen=True, slots=True)
class Clash:
    """Who was refused, and why.

    Attributes:
        kind: `claim`, `combination` or `versions`.
        name: The claim, or the rule.
        agent_id: Who was refused.
        other: Who holds the claim, or runs another version; None where nobody else is needed for it.
        message: The same for people.
    """

    kind: str
    name: str
    agent_id: str
    other: str | None
    message: str


class ClashError(RefusedError):
    """A registration is refused for a clash.

    Args:
        clash: Which.
        field: The field of the registration that is at fault.
    """

    def __init__(self, clash: Clash, field: str) -> None:
        super().__init__("conflict", f"{field}: {clash.message}", (field, clash.message))
        self.clash = clash


class Refusals:
    """Clashes that there were, and which of them are news."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Registrations refused here since the start, by kind."""
        self._seen: OrderedDict[tuple[str, str, str, str | None], float] = OrderedDict()
        """When each was seen last, the one that was not for the longest first."""

    def is_news(self, clash: Clash, at: float) -> bool:
        """Return whether a clash at an instant is to be told of."""
        while self._seen and next(iter(self._seen.values())) <= at - QUIET:
            self._seen.popitem(last=False)
        key = (clash.kind, clash.name, clash.agent_id, clash.other)
        is_known = key in self._seen
        if not is_known and len(self._seen) >= MAX_CLASHES:
            return False
        self._seen[key] = at
        self._seen.move_to_end(key)
        return not is_known
