"""More agents than one answer holds."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from agents_sdk import InvalidRequestError, PayloadTooLargeError, RegistryClient, ServiceQuery, Snapshot, SortBy, watch
from agents_sdk.cancelling import cancel
from agents_sdk.pages import Pages
from agents_sdk.protocol.discovery import MAX_LIMIT
from agents_sdk.protocol.subjects import Subjects
from tests.conftest import eventually

ROOMY = {"note": "x" * 15_000}


async def register(client: RegistryClient, *names: str) -> None:
    fields = {"agent_type": "t", "capabilities": ["trading"], "metadata": ROOMY, "heartbeat_interval": 3600.0}
    await asyncio.gather(*(client.register({**fields, "agent_id": name}) for name in names))


def names(count: int) -> list[str]:
    return [f"a{n}" for n in range(count)]


async def test_all_agents_come_best_first_however_many_requests_it_takes(client: RegistryClient) -> None:
    await register(client, *names(100))
    for n, name in enumerate(names(100)):
        await client.update_agent_health(name, {"health_score": 1.0 if n % 2 else 0.9})
    everyone = ServiceQuery(limit=MAX_LIMIT, sort_by=SortBy.HEALTH, exclude={"a0"})
    for _ in range(2):
        listing = await client.discover(everyone)
        assert {agent.agent_id for agent in listing.agents} == {*names(100)} - {"a0"}
        assert len(listing.agents) == listing.total == 99
        scores = [agent.health_score for agent in listing.agents]
        assert scores == sorted(scores, reverse=True)
    listing = await client.discover(ServiceQuery(limit=90))
    assert (len({agent.agent_id for agent in listing.agents}), listing.total) == (90, 100)


async def test_a_watch_sees_all_of_them_and_goes_on_when_they_become_too_many(
    client: RegistryClient, monkeypatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_AGAIN", 0.2)
    await register(client, *names(40))
    known: set[str] = set()

    async def follow() -> None:
        async with aclosing(client.watch()) as changes:
            async for change in changes:
                if isinstance(change, Snapshot):
                    known.update(agent.agent_id for agent in change.agents)
                else:
                    known.add(change.agent_id if hasattr(change, "agent_id") else change.agent.agent_id)

    following = asyncio.create_task(follow())
    await eventually(lambda: known == {*names(40)})
    await register(client, *names(100)[40:])
    await eventually(lambda: known == {*names(100)})
    ask, asked = client._requester.ask, []

    async def count(operation, fields, **options):
        asked.append(operation)
        return await ask(operation, fields, **options)

    client._requester.ask = count  # type: ignore[method-assign]
    await eventually(lambda: asked.count("discover") > 4)
    assert not following.done()
    await cancel(following)


class Small:
    """A registry whose answers hold one agent, or none."""

    subjects = Subjects()

    def __init__(self, agents: int, holds: int) -> None:
        self.agents, self.holds = names(agents), holds
        self.asked: list[int] = []

    async def ask(self, operation, fields, **options):
        self.asked.append(fields.get("limit", 10))
        if self.asked[-1] > MAX_LIMIT:
            raise InvalidRequestError("limit: must be at most 1000")
        left = [name for name in self.agents if name not in fields.get("exclude", ())]
        if min(self.asked[-1], len(left)) > self.holds:
            raise PayloadTooLargeError("too large")
        agents = [{"agent_id": each, "agent_type": "t", "capabilities": []} for each in left[: self.asked[-1]]]
        return {"agents": [{**each, "status": "active"} for each in agents], "total": len(left), "revision": 1}


async def test_what_fits_is_remembered() -> None:
    small = Small(5, holds=1)
    pages = Pages(small)  # type: ignore[arg-type]
    assert len((await pages.discover({"limit": 8})).agents) == 5
    assert small.asked == [8, 4, 2, 1, 1, 1, 1, 1]
    assert len((await pages.discover({"limit": 2})).agents) == 2
    assert small.asked[8:] == [1, 1]


async def test_one_agent_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(PayloadTooLargeError):
        await Pages(Small(5, holds=0)).discover({})  # type: ignore[arg-type]


async def test_a_query_leaves_out_a_thousand_agents_at_most() -> None:
    small = Small(1500, holds=600)
    listing = await Pages(small).discover({"limit": MAX_LIMIT})  # type: ignore[arg-type]
    assert (len(listing.agents), listing.total) == (1000, 1500)
    with pytest.raises(InvalidRequestError):
        await Pages(small).discover({"limit": 2000})  # type: ignore[arg-type]
