"""Writes on their way: one an agent, with those who wait for its end."""

from __future__ import annotations

import pytest

from registry.core import writes as writes_module
from registry.core.errors import RefusedError
from registry.core.events import CommandRequested, Verb
from registry.core.limits import MAX_WAITING
from registry.core.writes import Write, Writes
from tests.core.make import make_record


def command(note: str = "") -> CommandRequested:
    return CommandRequested(0.0, None, None, Verb.SUSPEND, "a", note)


def test_bookkeeping():
    """A write is there from its start to its end; who waited is returned, oldest first."""
    writes, write = Writes(), Write(make_record())
    assert "a" not in writes
    assert writes.get("a") is None
    writes.start(write)
    assert "a" in writes
    assert writes.get("a") is write
    assert len(writes) == 1
    waiting = [command("first"), command("second")]
    for waiter in waiting:
        writes.wait("a", waiter)
    writes.validate()
    assert writes.end("a") == waiting
    assert len(writes) == 0


def test_agents_do_not_wait_for_each_other():
    """Each agent has its own write."""
    writes = Writes()
    writes.start(Write(make_record("a")))
    writes.start(Write(make_record("b")))
    writes.wait("b", command())
    assert writes.end("a") == []
    assert len(writes.end("b")) == 1


def test_waiting_is_bounded():
    """At most so many wait for one agent; the next is told that it is too much."""
    writes = Writes()
    writes.start(Write(make_record()))
    for _ in range(MAX_WAITING):
        writes.wait("a", command())
    with pytest.raises(RefusedError) as refused:
        writes.wait("a", command())
    assert refused.value.code == "overloaded"
    assert "'a'" in refused.value.message
    assert len(writes.end("a")) == MAX_WAITING


def test_writes_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """At most so many agents have a write on its way at once."""
    monkeypatch.setattr(writes_module, "MAX_WRITES", 2)
    writes = Writes()
    for agent_id in ("a", "b"):
        writes.check_room()
        writes.start(Write(make_record(agent_id)))
    with pytest.raises(RefusedError) as refused:
        writes.check_room()
    assert refused.value.code == "overloaded"
    writes.end("a")
    writes.check_room()


def test_claims_to_come():
    """Claims of other agents' writes are known; those of removals and of one's own are not counted."""
    writes = Writes()
    writes.start(Write(make_record("a", claims=("db", "disk"))))
    writes.start(Write(make_record("b", claims=("net",))))
    writes.start(Write(make_record("c", claims=("gone",)), removed=True))
    assert dict(writes.claims("b")) == {"db": "a", "disk": "a"}
    assert dict(writes.claims("x")) == {"db": "a", "disk": "a", "net": "b"}


def test_validate_sees_a_misfiled_write():
    """`validate` fails for a write under another agent's id."""
    writes = Writes()
    writes._writes["b"] = Write(make_record("a"))
    with pytest.raises(AssertionError, match="b"):
        writes.validate()
