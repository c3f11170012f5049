"""What a NATS server forbade a user. It says so out of band: whoever asked only waits in vain."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from agents_sdk.protocol.errors import ForbiddenError

MAX_KEPT = 1000
"""Denials that are remembered; one more and all are forgotten."""

PUBLISH = "publish"
SUBSCRIPTION = "subscription"

_DENIAL = re.compile(r'permissions violation for (\w+) to "([^"]+)"', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Denial:
    """One refusal of the server."""

    kind: str
    """`PUBLISH` or `SUBSCRIPTION`."""
    subject: str
    """In lower case, as nats-py passes it on."""

    def __str__(self) -> str:
        return f"{self.kind} to {self.subject}"


class Denials:
    """Remembers what was denied, and when. Instants are those of `time.monotonic`."""

    def __init__(self) -> None:
        self._denied: dict[Denial, float] = {}

    def read(self, error: Exception) -> Denial | None:
        """Take note of an error if it is a denial, and return it as such."""
        found = _DENIAL.search(str(error))
        if found is None:
            return None
        denial = Denial(found[1].lower(), found[2].lower())
        if len(self._denied) >= MAX_KEPT:
            self._denied.clear()
        self._denied[denial] = time.monotonic()
        return denial

    def forget(self) -> None:
        """Forget everything: what holds on the next connection, the server says anew."""
        self._denied.clear()

    def since(self, instant: float, kind: str, prefix: str) -> bool:
        """Return whether one of the subjects below `prefix` was denied since an instant."""
        start = f"{prefix.lower()}."
        return any(
            denial.kind == kind and denial.subject.startswith(start) and at >= instant
            for denial, at in self._denied.items()
        )

    def check_publish(self, subject: str, instant: float) -> None:
        """Raise if a message that was sent at an instant was not let out; known once the server has answered a ping.

        Raises:
            ForbiddenError: If so.
        """
        if self._denied.get(Denial(PUBLISH, subject.lower()), 0.0) >= instant:
            raise ForbiddenError(f"NATS does not allow this user to publish to {subject}")

    def check(self, subject: str, inbox: str, instant: float) -> None:
        """Raise if a denial explains why a request that was sent at an instant has no reply.

        Args:
            subject: Where it was sent.
            inbox: Any subject on which the client could receive replies.
            instant: When it was sent.

        Raises:
            ForbiddenError: If the server let the request not out, or the reply not in.
        """
        self.check_publish(subject, instant)
        prefix = inbox.rpartition(".")[0]
        # Of any time: replies are subscribed to once. A denied publish is another matter: that was a reply of ours to
        # somebody else's inbox, too late for `allow_responses`.
        if self.since(0.0, SUBSCRIPTION, prefix):
            hint = "set inbox_prefix to the one it may use"
            raise ForbiddenError(f"NATS does not allow this user replies on {prefix}.>; {hint}")
