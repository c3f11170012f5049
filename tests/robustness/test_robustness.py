"""A short run; `make robustness` has minutes of it. And the checks see what they are there for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.robustness.checks import CHECKS, breaches_of
from tests.robustness.history import Entry, History, Listing, Operation, Outcome
from tests.robustness.run import Plan, run

SHORT = Plan(
    seed=20261124, operations=1200, faults=5, clients=24, beating=60, interval=1.0, longest_stop=3.0, seconds=60.0
)


@pytest.mark.timeout(180)
async def test_a_short_run_keeps_every_promise(tmp_path: Path) -> None:
    result = await run(SHORT, tmp_path, lambda line: None)
    assert not breaches_of(result.history)
    assert result.counts["done"] >= SHORT.operations
    assert sum(result.faults.values()) >= SHORT.faults
    assert result.beats > 0


def entry(revision: int, agent_id: str, status: str = "active", removed: bool = False, **fields: Any) -> Entry:
    change = {"reason": "registered", **fields.pop("change", {})}
    record = {"status": status, "incarnation": 1, "capabilities": ["research"], "change": change, **fields}
    return Entry(revision, agent_id, record, removed)


def event(revision: int, agent_id: str, previous: int = 0, to: str = "active", removed: bool = False) -> dict[str, Any]:
    return {
        "event_id": f"b:{revision}", "revision": revision, "agent_id": agent_id, "to": to, "removed": removed,
        "previous_revision": previous,
    }  # fmt: skip


def done(revision: int, agent_id: str, name: str = "register", at: float = 0.0, **fields: Any) -> Operation:
    claims = fields.pop("claims", ())
    answer = {"revision": revision, "incarnation": 1, **fields}
    return Operation(0, name, agent_id, f"c{revision}", at, claims, at + 0.5, Outcome.DONE, answer)


def history(log: list[Entry], **fields: Any) -> History:
    events = [event(one.revision, one.agent_id, to=one.record["status"], removed=one.removed) for one in log]
    return History("b", log=log, **{"events": events, **fields})


BROKEN: dict[str, History] = {
    "acknowledged_is_kept": history([], operations=[done(1, "a")]),
    "each_command_takes_place_once": history(
        [entry(n, "a", commands=["x", "y"][: n % 2 + 1] if n < 3 else ["x", "y", "x"]) for n in (2, 1, 3)], events=[]
    ),
    "acknowledgements_are_in_order": history(
        [entry(1, "a"), entry(2, "a")], operations=[done(2, "a", at=1.0), done(1, "a", at=2.0)]
    ),
    "nobody_is_denied": history(
        [entry(1, "a")], operations=[done(1, "a", at=1.0), done(0, "a", "deregister", at=2.0, deregistered=False)]
    ),
    "listings_are_of_their_revision": history(
        [entry(1, "a", removed=True)], listings=[Listing("research", 0, 1, frozenset({"a"}), 0.0)]
    ),
    "each_change_is_one_event": history([entry(1, "a")], events=[event(1, "a"), event(1, "a")]),
    "events_are_in_order": history([entry(1, "a"), entry(2, "a")], events=[event(2, "a"), event(1, "a")]),
    "the_living_are_not_buried": history(
        [entry(1, "a", "offline", change={"reason": "heartbeat_timeout"})], beating=frozenset("a")
    ),
    "a_claim_has_one_holder": history(
        [entry(1, "a", claims=["db"]), entry(2, "b", claims=["db"])],
        operations=[done(1, "a", claims=("db",)), done(2, "b", claims=("db",))],
    ),
    "incarnations_grow": history([entry(1, "a", incarnation=2), entry(2, "a")]),
    "a_watch_ends_where_the_registry_is": history([], watched=frozenset("a"), listed=frozenset("b")),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_each_check_sees_its_breach(check: Any) -> None:
    assert check(BROKEN[check.__name__])


def test_a_history_without_a_breach_has_none() -> None:
    log = [entry(1, "a", claims=["db"]), entry(2, "a", removed=True), entry(3, "b", claims=["db"])]
    events = [event(1, "a"), event(2, "a", previous=1, removed=True), event(3, "b")]
    operations = [
        done(1, "a", at=1.0, claims=("db",)), done(2, "a", "deregister", at=2.0, deregistered=True),
        done(3, "b", at=3.0, claims=("db",)),
    ]  # fmt: skip
    kept = history(log, events=events, operations=operations, beating=frozenset("a"))
    assert not breaches_of(kept)
