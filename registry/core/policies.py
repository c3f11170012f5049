"""Scaling policies: what capabilities set over the default, as the bucket has it, and changes on their way there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from registry.core.errors import RefusedError
from registry.core.events import PolicyRequested
from registry.core.limits import MAX_WAITING
from registry.core.policy import Policy

Fields = Mapping[str, Any]
"""What a capability's own policy sets."""


@dataclass(slots=True)
class PolicyWrite:
    """A change of a capability's policy on its way.

    Attributes:
        request: Who asked for what.
        policy: What is being written; None when the capability is to have no policy of its own.
        expected: Revision of the policy that it was decided on.
        attempts: How often it was decided.
        waiting: Changes for the same capability that came meanwhile, oldest first.
        known: Revision that was known when the bucket was asked how the write ended.
    """

    request: PolicyRequested
    policy: Fields | None
    expected: int
    attempts: int
    waiting: list[PolicyRequested] = field(default_factory=list)
    known: int = 0

    def wait(self, request: PolicyRequested) -> None:
        """Let a change wait until this one has ended.

        Raises:
            RefusedError: `overloaded` when too many wait already.
        """
        if len(self.waiting) >= MAX_WAITING:
            message = f"{MAX_WAITING} changes wait for the policy of {request.capability!r}; try again later"
            raise RefusedError("overloaded", f"capability: {message}", ("capability", message))
        self.waiting.append(request)


class Policies:
    """What is known of the policies.

    Args:
        default: The policy of capabilities that have none of their own.
    """

    def __init__(self, default: Policy) -> None:
        self.default = default
        self.own: dict[str, Fields] = {}
        """What a capability's own policy sets, over the default."""
        self.writes: dict[str, PolicyWrite] = {}
        """By capability. One at a time: of two changes decided on the same policy, one would be lost."""
        self._revisions: dict[str, int] = {}
        self._unreadable: set[str] = set()

    def of(self, capability: str) -> Policy:
        """Return the policy that holds for a capability."""
        return self._over_default(self.own.get(capability, {}))

    def revision(self, capability: str) -> int:
        """Return the revision at which the bucket has what is known of a capability's policy; 0 if it never had one."""
        return self._revisions.get(capability, 0)

    def fault(self, capability: str) -> str | None:
        """Return why a capability's policy cannot be acted on, or None if it can."""
        if capability in self._unreadable:
            return "its policy in the bucket cannot be read; set it anew"
        try:
            self.of(capability).check()
        except RefusedError as refused:  # set over another default than the one that holds here and now
            return f"its policy contradicts itself: {refused.message}"
        return None

    def changed(self, capability: str, changes: Fields, reset: bool) -> Fields | None:
        """Return what a capability's own policy would be after a change; None when it would have none.

        Raises:
            RefusedError: If the policy would not do.
        """
        own = {**({} if reset else self.own.get(capability, {})), **changes}
        self._over_default(own).check()
        return own or None

    def is_already(self, capability: str, own: Fields | None) -> bool:
        """Return whether the bucket is known to have just that policy for a capability."""
        return own is not None and own == self.own.get(capability)

    def learn(self, capability: str, own: Fields | None, revision: int, readable: bool = True) -> bool:
        """Take what the bucket has at a revision, unless something newer is known; return whether it was news.

        Acknowledgements, answers to reads and the log overtake each other; the revision decides.
        """
        if revision <= self.revision(capability):
            return False
        self.put(capability, own, revision, readable)
        return True

    def put(self, capability: str, own: Fields | None, revision: int, readable: bool = True) -> None:
        """Take what the bucket has, whatever is known."""
        self._revisions[capability] = revision
        self._unreadable.discard(capability)
        self.own.pop(capability, None)
        if not readable:
            self._unreadable.add(capability)
        elif own is not None:
            self.own[capability] = own

    def begin_anew(self) -> None:
        """Know no policy."""
        self.own.clear()
        self._revisions.clear()
        self._unreadable.clear()

    def _over_default(self, own: Fields) -> Policy:
        """Return a policy; a target that it does not set lies in the middle of its bounds."""
        policy = replace(self.default, **own)
        if "target_load" not in own and ("low_load" in own or "high_load" in own):
            policy = replace(policy, target_load=round((policy.low_load + policy.high_load) / 2, 4))
        return policy
