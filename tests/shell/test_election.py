"""A leader is sure of it only while a renewal proves it."""

from __future__ import annotations

from typing import Any

import pytest

from agents_sdk.protocol.subjects import Subjects
from registry.shell.election import Election
from registry.shell.jetstream_nats import StoreError

LEASE = 10.0


class Store:
    """The control bucket with nobody else in it."""

    def __init__(self) -> None:
        self.revision = 0
        self.away = False

    async def read_control(self, _: str) -> None:
        return None

    async def put_control(self, _key: str, _value: Any, expected: int, within: float = 5.0) -> int | None:
        if self.away:
            raise StoreError("away")
        if expected != self.revision:
            return None
        self.revision += 1
        return self.revision


class Bus:
    connected = True


async def changed(_leading: bool, _epoch: int) -> None:
    """Nobody minds."""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Also runs while the machine is suspended."""
    clock = Clock()
    monkeypatch.setattr("registry.shell.election.uptime", clock)
    return clock


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def election(store: Store, clock: Clock) -> Election:
    """Of a replica that leads."""
    election = Election(Bus(), store, Subjects(), "r", LEASE, changed)  # type: ignore[arg-type]
    assert not election.holds()
    await election._round()
    assert election.holds()
    return election


async def test_who_was_away_is_sure_again_when_the_lease_is_renewed(election: Election, store: Store) -> None:
    election.doubt()
    assert (election.leading, election.holds()) == (True, False)
    store.away = True
    await election._round()
    assert not election.holds()
    store.away = False
    await election._round()
    assert election.holds()


async def test_a_renewal_that_was_asked_for_before_proves_nothing(election: Election, store: Store) -> None:
    put = store.put_control

    async def slow(*arguments: Any) -> int | None:
        election.doubt()  # the connection is lost before the answer comes
        return await put(*arguments)

    store.put_control = slow  # type: ignore[method-assign]
    await election._round()
    assert not election.holds()


async def test_nobody_is_sure_of_a_lease_that_has_run_out(election: Election, clock: Clock) -> None:
    clock.now += LEASE + 1
    assert (election.leading, election.holds()) == (True, False)
    await election.check()
    assert not election.leading


async def test_who_lost_the_lease_is_sure_no_more(election: Election, store: Store) -> None:
    store.revision += 1  # somebody else took it
    await election._round()
    assert (election.leading, election.holds()) == (False, False)
