"""Canaries: requests with a known answer that agents declare, when each is due, and which of them fail.

A canary tells an agent that works from one that only beats. It is weak evidence: the canary itself may be wrong. So it
takes two fails in a row to count, one pass is enough to take them back, and what follows is never worse than degraded.

Only the leader runs canaries and knows how they ended. A new one knows of an agent that is degraded because of them,
but not which failed: all of its canaries count as failing until they pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from registry.core.deadlines import Deadlines
from registry.core.errors import invalid
from registry.core.health_subject import may_be_asked
from registry.core.record import Record
from registry.core.status import Status

FAILS = 2
"""Fails in a row that count: one may be a message that was lost, or an agent that was just started anew."""

REPEAT = 1.0
"""Seconds from a first fail to the next run."""

FAILING_PERIOD = 60.0
"""Seconds between two runs of a canary that fails, at most, so that who works again is not degraded for a day."""

UNJUDGED = 5.0
"""Seconds until what could not be judged is tried again."""

MAX_UNDER_WAY = 256
"""Canaries under way at once; the others wait for their turn."""

MAX_WHY = 200
"""Characters of what is said of a failure: answers are of any size."""

DEFAULT_TIMEOUT = 2.0
DEFAULT_PERIOD = 60.0
"""Seconds; of a record that does not say."""

_RUNS = (Status.ACTIVE, Status.DEGRADED, Status.SUSPENDED)
"""Who leaves takes no new work, and who is offline none."""

_NONE: Mapping[str, Failure] = {}


@dataclass(frozen=True, slots=True)
class Failure:
    """That a canary fails."""

    since: float
    """Unix time of the first of the fails in a row."""
    why: str
    """What was wrong the last time, for people."""


@dataclass(slots=True)
class Check:
    """One canary of one agent, as the leader knows it. Instants are monotonic seconds."""

    agent_id: str
    incarnation: int
    capability: str
    declared: Mapping[str, Any]
    due: float
    run: int = 0
    """The run that is under way; 0 if none is."""
    started: float = 0.0
    fails: int = 0
    """Fails in a row."""
    failure: Failure | None = None
    """Since when and why it fails; it counts from the `FAILS`th fail on."""
    inherited: bool = False
    """Whether it counts as failing because it did for the leader before."""

    @property
    def is_failing(self) -> bool:
        """Whether it counts as failing."""
        return self.failure is not None and (self.inherited or self.fails >= FAILS)

    @property
    def period(self) -> float:
        """Seconds between two runs."""
        return float(self.declared.get("period", DEFAULT_PERIOD))

    @property
    def timeout(self) -> float:
        """Seconds that the answer may take."""
        return float(self.declared.get("timeout", DEFAULT_TIMEOUT))

    @property
    def subject(self) -> str:
        """Where it is sent."""
        return subject_of(self.agent_id, self.declared["topic"])

    def passed(self, at: float) -> None:
        """Take note of a pass: whatever was before is forgotten."""
        self.fails, self.failure, self.inherited = 0, None, False
        self.due = max(at, self.started + self.period)

    def failed(self, at: float, wall: float, why: str) -> None:
        """Take note of a fail at an instant, with its Unix time."""
        self.fails += 1
        since = wall if self.failure is None else self.failure.since
        self.failure = Failure(since, why[:MAX_WHY])
        if self.is_failing:
            self.due = max(at + REPEAT, self.started + min(self.period, FAILING_PERIOD))
        else:
            self.due = at + REPEAT


class Canaries:
    """The canaries of the agents that have any, while this replica leads.

    Args:
        random: Returns a number from 0.0 up to but without 1.0.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._checks: dict[str, dict[str, Check]] = {}
        self._deadlines = Deadlines(self._due_at)
        self._under_way: set[int] = set()
        self._runs = 0

    def failing(self, agent_id: str) -> Mapping[str, Failure]:
        """Return the capabilities whose canary fails, with since when and why."""
        checks = self._checks.get(agent_id)
        if checks is None:
            return _NONE
        failing = ((name, check.failure) for name, check in checks.items() if check.is_failing)
        return {name: failure for name, failure in failing if failure is not None}

    def watch(self, record: Record, at: float) -> None:
        """Run the canaries of a record from now on, and no others of its agent. What is unchanged goes on."""
        known = self._checks.get(record.agent_id)
        if not record.canaries or record.status not in _RUNS:
            if known is not None:
                self.forget(record.agent_id)
            return
        checks = {}
        for capability, declared in record.canaries.items():
            check = None if known is None else known.get(capability)
            if check is None or check.incarnation != record.incarnation or check.declared != declared:
                check = self._begun(record, capability, declared, at)
            checks[capability] = check
        self._checks[record.agent_id] = checks
        self._deadlines.watch(record.agent_id)

    def _begun(self, record: Record, capability: str, declared: Mapping[str, Any], at: float) -> Check:
        """Return a canary that has not been run yet; the first time comes at random within its first period."""
        check = Check(record.agent_id, record.incarnation, capability, declared, due=at)
        period = check.period
        if record.status is Status.DEGRADED and record.status_reason == "canary":
            check.inherited = True
            check.failure = Failure(record.status_since, "not run yet since the agent was found failing")
            period = min(period, FAILING_PERIOD)
        check.due = at + self._random() * period
        return check

    def forget(self, agent_id: str) -> None:
        """Run none of an agent any more."""
        if self._checks.pop(agent_id, None) is not None:
            self._deadlines.watch(agent_id)

    def clear(self) -> None:
        """Run none any more, of nobody."""
        self._checks.clear()
        self._deadlines.clear()

    def due(self, at: float) -> Iterator[Check]:
        """Yield canaries whose time has come, as far as there is room; each is to be begun or given a later instant."""
        for agent_id in self._deadlines.due(at, MAX_UNDER_WAY - len(self._under_way)):
            waiting = (check for check in self._checks[agent_id].values() if not check.run)
            yield min(waiting, key=lambda check: check.due)
            self._deadlines.watch(agent_id)

    def begin(self, check: Check, at: float) -> int:
        """Take note that a canary is under way, and return the number of this run."""
        self._runs += 1
        check.run, check.started = self._runs, at
        self._under_way.add(check.run)
        return check.run

    def end(self, agent_id: str, capability: str, run: int) -> Check | None:
        """Take note that a run has ended; return its canary, None if that was changed or is gone meanwhile."""
        self._under_way.discard(run)
        check = self._checks.get(agent_id, {}).get(capability)
        if check is None or check.run != run:
            return None
        check.run = 0
        return check

    def schedule(self, check: Check) -> None:
        """Look at a canary that has ended when it is due."""
        self._deadlines.watch(check.agent_id)

    def _due_at(self, agent_id: str) -> float | None:
        checks = self._checks.get(agent_id, {}).values()
        return min((check.due for check in checks if not check.run), default=None)

    def validate(self, records: Mapping[str, Record], leading: bool) -> None:
        """Check that the canaries of these records are watched, and no others.

        Raises:
            AssertionError: If not.
        """
        self._deadlines.validate()
        wanted = {name: record.canaries for name, record in records.items() if record.status in _RUNS and leading}
        watched = {
            name: {check.capability: check.declared for check in checks.values()}
            for name, checks in self._checks.items()
        }
        assert watched == {name: canaries for name, canaries in wanted.items() if canaries}
        for name, checks in self._checks.items():
            is_waiting = any(not check.run for check in checks.values())
            assert not is_waiting or name in self._deadlines, f"no canary of {name} will be run"
            under_way = {check.run for check in checks.values() if check.run}
            assert under_way <= self._under_way, f"runs {under_way} of {name} are not known to be under way"


def subject_of(agent_id: str, topic: str) -> str:
    """Return the subject of an agent's topic."""
    return f"agent.{agent_id}.{topic}"


def check_declared(
    canaries: Mapping[str, Mapping[str, Any]], capabilities: Collection[str], agent_id: str, prefix: str
) -> None:
    """Check what an agent declares, beyond the form of it.

    Args:
        canaries: Capability to canary.
        capabilities: What the agent can do.
        agent_id: Its id.
        prefix: First token or tokens of the registry's own subjects.

    Raises:
        RefusedError: `invalid_request`.
    """
    for capability, canary in canaries.items():
        if capability not in capabilities:
            known = ", ".join(sorted(capabilities))
            raise invalid("canaries", f"must be for capabilities that the agent registers, {known}; got {capability!r}")
        subject = subject_of(agent_id, canary["topic"])
        if not may_be_asked(subject, prefix):
            message = f"must not lead to {prefix!r}, where the registry itself listens; got {subject!r}"
            raise invalid(f"canaries.{capability}.topic", message)


def difference(answer: Any, expect: Mapping[str, Any]) -> str | None:
    """Return how an answer differs from what is expected of it, None if it does not.

    Args:
        answer: What came, read as JSON.
        expect: Fields that must be there, with equal values; others may be.
    """
    if not expect:
        return None
    if not isinstance(answer, Mapping):
        return f"the answer is no object: {_shown(answer)}"
    for name, value in expect.items():
        if name not in answer:
            return f"{_shown(name)} is not in the answer"
        if not _equal(answer[name], value):
            return f"{_shown(name)} is {_shown(answer[name])}, not {_shown(value)}"
    return None


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values are the same in JSON, where 1 is 1.0 but not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _shown(value: Any) -> str:
    """Return a value as JSON, or the beginning of it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
