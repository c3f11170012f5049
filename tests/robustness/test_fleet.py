"""A thousand agents: no outage of the registry or of NATS is taken for theirs, and whoever is gone is found out.

`OUTAGE` is how many seconds an outage of the registry lasts: `OUTAGE=30 make test ARGS='-k test_fleet'`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.wire import listening
from tests.robustness.fleet import AGENTS, Fleet

LEASE = 4.5
"""Seconds: three beats."""

LONG_LEASE = 9.0
"""For those who are silent for a while."""

LONGER_LEASE = 60.0
"""For those whose silence nothing but probing is to notice."""

OUTAGE = float(os.environ.get("OUTAGE", "6"))

SILENCE = 6.0
"""Seconds."""

FOUND_OUT = 10.0
"""Seconds within which whoever is gone must be told to be gone, even when so many go at once that NATS is suspected."""

ALIVE = {"active", "degraded"}

pytestmark = pytest.mark.timeout(120 + OUTAGE)


@pytest.fixture
def lease() -> float:
    return LEASE


@pytest.fixture
async def fleet(tmp_path: Path, lease: float) -> AsyncIterator[Fleet]:
    fleet = Fleet(tmp_path, lease)
    try:
        await fleet.start()
        yield fleet
    finally:
        await fleet.stop()


async def nobody_was_given_up(fleet: Fleet) -> None:
    await fleet.is_heard()
    moves = await fleet.moves()
    told = {move for each in moves.values() for move in each}
    wrong = {move for move in told if move.partition("/")[0] not in ALIVE}
    given_up = sum(any(move in wrong for move in each) for each in moves.values())
    assert not wrong, f"{given_up} of {AGENTS} agents: {wrong}"
    await fleet.is_active()


@pytest.mark.parametrize("lease", [LONG_LEASE])
async def test_nobody_is_given_up_who_is_silent_for_less_than_a_lease(fleet: Fleet) -> None:
    for crowd in fleet.crowds:
        crowd.pause()
    await asyncio.sleep(SILENCE)
    for crowd in fleet.crowds:
        crowd.resume()
    await nobody_was_given_up(fleet)


async def test_nobody_is_given_up_because_the_registry_stood_still(fleet: Fleet) -> None:
    fleet.replica.pause()
    await asyncio.sleep(OUTAGE)
    fleet.replica.resume()
    await nobody_was_given_up(fleet)


async def test_nobody_is_given_up_because_the_registry_was_away(fleet: Fleet) -> None:
    await fleet.replica.kill()
    await asyncio.sleep(OUTAGE)
    await fleet.replica.serving()
    await nobody_was_given_up(fleet)


async def test_nobody_is_given_up_because_nats_was_started_again(fleet: Fleet) -> None:
    await fleet.server.kill()
    await fleet.server.start()
    await nobody_was_given_up(fleet)


@pytest.mark.parametrize("lease", [LONGER_LEASE])
async def test_half_of_them_are_killed_at_once_and_those_alone_are_offline_soon(fleet: Fleet) -> None:
    dead, alive = fleet.crowds[: len(fleet.crowds) // 2], fleet.crowds[len(fleet.crowds) // 2 :]
    gone = {agent_id for crowd in dead for agent_id in crowd.options.agents()}
    async with listening(fleet.nc, "registry.events.status.offline.>") as events:
        for crowd in dead:
            crowd.kill()
        found = set[str]()
        async with asyncio.timeout(FOUND_OUT):
            while len(found) < len(gone):
                found.add((await events.next(FOUND_OUT)).subject.rpartition(".")[2])
    assert found == gone
    await asyncio.gather(*(crowd.ended() for crowd in dead))
    await fleet.is_heard()
    moves = await fleet.moves()
    assert {tuple(moves[agent_id]) for agent_id in gone} <= {("offline/no_responders",), ("offline/disconnected",)}
    assert not [moves[agent_id] for crowd in alive for agent_id in crowd.options.agents() if moves[agent_id]]
    await fleet.is_active()
