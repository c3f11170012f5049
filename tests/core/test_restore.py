"""What a record of a backup becomes, given what the bucket has of its id by now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from registry.core.effects import PutRecord
from registry.core.record import RECORD_VERSION, Change, Record, event_of
from registry.core.restore import Found, Kept, Why, restore
from registry.core.status import Status
from tests.core.make import make_record
from tests.core.shell import Shell, World

NOW = 5000.0

SAVED = make_record(
    status=Status.SUSPENDED,
    status_reason="operator",
    held=True,
    status_since=1000.0,
    registered_at=900.0,
    incarnation=3,
    instance_id="run-3",
    metadata={"desk": 7},
    claims=("db",),
    health_score=0.9,
    performance_metrics={"requests_served": 7.0},
    last_heartbeat=1100.0,
    change=Change(Status.ACTIVE, "operator", 1000.0, 41),
    write_id="w-1",
)


def decide(
    saved: Record = SAVED, known: Record | None = None, revision: int = 0, overwrite: bool = False, **claimed: str
) -> PutRecord | Kept:
    return restore(saved, Found(known, revision), claimed, overwrite, NOW, "i-1")


def written(order: PutRecord | Kept) -> Record:
    assert isinstance(order, PutRecord), order
    assert not order.removed
    return order.record


def there(**fields: Any) -> Record:
    """The record of an agent that is there: the same id, another life."""
    known = {
        "incarnation": 5,
        "instance_id": "run-5",
        "registered_at": 3000.0,
        "change_revision": 60,
        "write_id": "w-9",
    }
    return make_record(**{**known, **fields})


# An id that is not there.


def test_what_is_not_there_is_put_back_as_it_was():
    order = decide()
    change = Change(Status.REGISTERING, "restored", NOW, 0)
    assert order == PutRecord(replace(SAVED, change=change, write_id="i-1"), expected=0)


def test_a_saved_checkpoint_is_a_change_once_it_is_put_back():
    record = written(decide(replace(SAVED, change=None, change_revision=41)))
    assert record.change is not None
    assert record.change_revision == 0


@pytest.mark.parametrize("status", list(Status)[1:])
def test_its_event_tells_of_a_new_life(status: Status):
    event = event_of(written(decide(replace(SAVED, status=status))), 77, "agents")
    assert event is not None
    assert (event["from"], event["to"], event["reason"]) == ("registering", status, "restored")
    assert (event["previous_revision"], event["incarnation"], event["removed"]) == (0, 3, False)


@pytest.mark.parametrize(("last", "expected"), [(2, 3), (3, 3), (8, 8)])
def test_who_was_removed_comes_back_with_no_lower_incarnation_than_it_had(last: int, expected: int):
    gone = there(incarnation=last, change=Change(Status.ACTIVE, "deregistered", 4000.0, 60, removed=True))
    order = decide(known=gone, revision=61)
    assert written(order).incarnation == expected
    assert isinstance(order, PutRecord)
    assert order.expected == 61
    assert order.record.change == Change(Status.REGISTERING, "restored", NOW, 0)


def test_a_key_without_a_record_is_written_over():
    """It was removed by hand, or what stands there is no record."""
    order = decide(revision=17)
    assert isinstance(order, PutRecord)
    assert order.expected == 17


# An agent that is there.


@pytest.mark.parametrize("status", list(Status)[1:])
def test_who_is_there_is_left_alone(status: Status):
    assert decide(known=there(status=status), revision=61) == Kept(Why.THERE)


def test_who_is_replaced_stays_who_it_is():
    """Its beats carry its own incarnation; a lower one in the record would have them refused, and old ones taken."""
    known = there(health_score=0.6, performance_metrics={"requests_served": 90.0}, last_heartbeat=4000.0)
    order = decide(known=known, revision=61, overwrite=True)
    record = written(order)
    assert isinstance(order, PutRecord)
    assert order.expected == 61
    assert (record.incarnation, record.instance_id, record.registered_at) == (5, "run-5", 3000.0)
    assert (record.health_score, record.performance_metrics, record.last_heartbeat) == (
        0.6,
        {"requests_served": 90.0},
        4000.0,
    )
    assert (record.metadata, record.claims) == ({"desk": 7}, ("db",))
    assert (record.status, record.status_reason, record.status_since) == (Status.SUSPENDED, "operator", 1000.0)


def test_a_higher_incarnation_of_the_backup_does_not_stop_who_is_there():
    assert written(decide(known=there(incarnation=1), revision=61, overwrite=True)).incarnation == 1


@pytest.mark.parametrize(("change_revision", "previous"), [(60, 60), (0, 61)], ids=["a checkpoint", "a change"])
def test_the_event_of_a_replacement_goes_on_with_the_chain(change_revision: int, previous: int):
    known = there(status=Status.DEGRADED, change_revision=change_revision)
    change = written(decide(known=known, revision=61, overwrite=True)).change
    assert change == Change(Status.DEGRADED, "restored", NOW, previous)


@pytest.mark.parametrize("ending", [Status.DEREGISTERING, Status.OFFLINE])
def test_an_end_that_was_saved_is_not_that_of_who_is_there(ending: Status):
    record = written(decide(replace(SAVED, status=ending), there(status_since=3500.0), 61, overwrite=True))
    assert (record.status, record.status_since) == (Status.ACTIVE, 3500.0)


@pytest.mark.parametrize("ending", [Status.DEREGISTERING, Status.OFFLINE])
def test_who_is_going_is_put_back_into_service(ending: Status):
    record = written(decide(replace(SAVED, status=Status.ACTIVE), there(status=ending), 61, overwrite=True))
    assert record.status is Status.ACTIVE


def test_what_is_the_same_already_is_not_written_again():
    """An import that was interrupted and is run again tells nothing twice; what was heard meanwhile does not count."""
    known = replace(written(decide()), health_score=0.5, last_heartbeat=6000.0)
    assert decide(known=known, revision=61, overwrite=True) == Kept(Why.SAME)
    replaced = written(decide(known=there(), revision=61, overwrite=True))
    assert decide(known=replaced, revision=62, overwrite=True) == Kept(Why.SAME)
    checkpointed = replace(replaced, change=None, change_revision=62, write_id="w-10", load_factor=0.4)
    assert decide(known=checkpointed, revision=63, overwrite=True) == Kept(Why.SAME)


def test_fields_of_a_newer_version_are_kept():
    """Those of the backup, and those that only the bucket has."""
    newer = RECORD_VERSION + 1
    saved = replace(SAVED, extra={"v": newer, "region": "eu"})
    assert written(decide(saved)).to_json()["region"] == "eu"
    known = there(extra={"v": newer, "zone": 3, "region": "us"})
    form = written(decide(saved, known, 61, overwrite=True)).to_json()
    assert (form["v"], form["zone"], form["region"]) == (newer, 3, "eu")
    form = written(decide(SAVED, known, 61, overwrite=True)).to_json()
    assert (form["v"], form["zone"]) == (newer, 3)


# Claims.


def test_a_claim_has_one_holder():
    assert decide(db="b") == Kept(Why.CLAIMED, "'db' is held by 'b'")
    assert decide(known=there(), revision=61, overwrite=True, db="b") == Kept(Why.CLAIMED, "'db' is held by 'b'")
    assert isinstance(decide(db=SAVED.agent_id), PutRecord)
    assert isinstance(decide(other="b"), PutRecord)


def test_an_offline_agent_holds_no_claim():
    assert isinstance(decide(replace(SAVED, status=Status.OFFLINE), db="b"), PutRecord)


# What a replica makes of it.


def put_back(world: World, saved: Record, overwrite: bool = False) -> None:
    """Restore a record into the world's bucket, as somebody who is no replica."""
    last = world.bucket.last.get(saved.agent_id)
    found = Found() if last is None else Found(last.record, last.revision)
    order = restore(saved, found, {}, overwrite, NOW, "import-1")
    assert isinstance(order, PutRecord)
    assert world.bucket.put(order)
    world.run()


def test_every_replica_knows_it_at_once_and_its_lease_is_full(world: World, shell: Shell):
    follower = world.replica("two")
    world.advance(20.0)
    put_back(world, replace(SAVED, heartbeat_interval=2.0, heartbeat_timeout=6.0))
    for replica in (shell, follower):
        agent = replica.state.get("a")
        assert (agent.status, agent.record.incarnation, agent.health) == (Status.SUSPENDED, 3, 0.9)
        assert agent.metrics == {"requests_served": 7.0}
    world.advance(5.5)
    assert shell.state.get("a").status is Status.SUSPENDED
    world.advance(1.0)
    assert follower.state.get("a").status is Status.OFFLINE


def test_beats_of_who_was_put_back_are_taken(world: World, shell: Shell):
    put_back(world, SAVED)
    assert shell.beat("a", incarnation=3)["status"] is Status.SUSPENDED
    assert shell.beat("a", incarnation=2).code == "stale_incarnation"


def test_who_is_replaced_has_its_full_lease_and_its_beats_are_taken(world: World, shell: Shell):
    shell.register("a", instance_id="run-1", heartbeat_interval=2.0)
    world.advance(4.0)
    put_back(world, replace(SAVED, heartbeat_interval=2.0, heartbeat_timeout=6.0, status=Status.ACTIVE), overwrite=True)
    world.advance(5.5)
    agent = shell.state.get("a")
    assert (agent.status, agent.record.metadata, agent.record.incarnation) == (Status.ACTIVE, {"desk": 7}, 1)
    assert shell.beat("a", incarnation=1)["status"] is Status.ACTIVE
    assert [event["reason"] for event in world.bucket.events()] == ["registered", "restored"]


def test_health_goes_on_to_move_it(world: World, shell: Shell):
    put_back(world, replace(SAVED, status=Status.ACTIVE, health_score=0.6))
    world.advance(0.5)
    assert shell.state.get("a").status is Status.DEGRADED


def test_who_was_offline_for_long_is_removed_and_not_before(world: World, shell: Shell):
    since = shell.state.wall(world.now) - 3000.0
    put_back(world, replace(SAVED, status=Status.OFFLINE, status_since=since))
    world.advance(599.0)
    assert shell.state.get("a").status is Status.OFFLINE
    world.advance(11.0)
    assert "a" not in shell.state.agents
    assert [event["reason"] for event in world.bucket.events()] == ["restored", "retention"]
