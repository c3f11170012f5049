"""Writes that lose, or whose outcome nobody hears: each entry is put back once, or says why not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import orjson
import pytest

from agent_registry.backup.restorer import ATTEMPTS, IN_FLIGHT, Outcome, Restorer
from registry.shell.acks import Ack
from registry.shell.entry import Entry
from registry.shell.jetstream_nats import StoreError
from registry.shell.store import Store
from tests.backup.lines import agent, header, policy, rule, saved, stored


class Bucket:
    """Two buckets in memory, in the place of a store; what goes wrong is for a test to say."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.revision = 0
        self.before: Callable[[], None] = lambda: None
        """Called before each write takes place."""
        self.unheard = 0
        """Writes to come that take place, and nobody says so."""
        self.lost = 0
        """Writes to come that never arrive."""
        self.reads = 0
        self.under_way = 0
        self.most = 0

    def write(self, key: str, value: bytes, removed: bool = False) -> int:
        self.revision += 1
        self.entries[key] = Entry(key, self.revision, value, removed, False, 0)
        return self.revision

    def _compared_and_set(self, key: str, value: bytes, expected: int) -> int:
        self.before()
        found = self.entries.get(key)
        return self.write(key, value) if expected == (0 if found is None else found.revision) else 0

    async def put(
        self, key: str, value: bytes, expected: int, removed: bool, on_ack: Callable[[Ack], Awaitable[None]]
    ) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.lost:
            self.lost -= 1
            await on_ack(Ack())
            return
        revision = self._compared_and_set(key, value, expected)
        if self.unheard:
            self.unheard -= 1
            await on_ack(Ack())
            return
        await on_ack(Ack(seq=revision, err_code=0 if revision else 10071))

    async def read(self, key: str) -> Entry | None:
        self.reads += 1
        return self.entries.get(key)

    async def read_control(self, key: str) -> Entry | None:
        return self.entries.get(key)

    async def put_control(self, key: str, value: Any, expected: int) -> int | None:
        return self._compared_and_set(key, orjson.dumps(value), expected) or None


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


async def outcomes(bucket: Bucket, *lines: bytes, overwrite: bool = False, dry_run: bool = False) -> list[Outcome]:
    restorer = Restorer(cast("Store", bucket), "import-1", {}, overwrite=overwrite, dry_run=dry_run)
    found: list[Outcome] = []
    await restorer.run(lines_of(*lines), lambda _, result: found.append(result.outcome))
    return found


def lines_of(*lines: bytes) -> Any:
    counts = (sum(f'"kind": "{kind}"'.encode() in line for line in lines) for kind in ("agent", "policy", "rule"))
    return saved(header(*counts), *lines)


async def test_what_is_not_there_costs_one_write(bucket: Bucket) -> None:
    assert await outcomes(bucket, agent("a"), agent("b")) == [Outcome.RESTORED] * 2
    assert (bucket.revision, bucket.reads) == (2, 0)


async def test_a_write_that_nobody_heard_of_is_not_done_twice(bucket: Bucket) -> None:
    bucket.unheard = 1
    assert await outcomes(bucket, agent("a")) == [Outcome.RESTORED]
    assert bucket.revision == 1


async def test_a_write_that_got_lost_is_done_again(bucket: Bucket) -> None:
    bucket.lost = 2
    assert await outcomes(bucket, agent("a")) == [Outcome.RESTORED]
    assert bucket.revision == 1


async def test_who_comes_meanwhile_is_there(bucket: Bucket) -> None:
    def register() -> None:
        bucket.before = lambda: None
        bucket.write("a", json.dumps({**stored(), "agent_id": "a"}).encode())

    bucket.before = register
    assert await outcomes(bucket, agent("a")) == [Outcome.THERE]
    assert bucket.revision == 1


async def test_who_changes_meanwhile_is_replaced_as_it_is_then(bucket: Bucket) -> None:
    bucket.write("a", json.dumps({**stored(), "agent_id": "a", "tags": ["x"]}).encode())

    def take_over() -> None:
        bucket.before = lambda: None
        bucket.write("a", json.dumps({**stored(), "agent_id": "a", "incarnation": 9, "instance_id": "run-9"}).encode())

    bucket.before = take_over
    assert await outcomes(bucket, agent("a", metadata={"desk": 1}), overwrite=True) == [Outcome.REPLACED]
    record = json.loads(bucket.entries["a"].value)
    assert (record["incarnation"], record["instance_id"], record["metadata"]) == (9, "run-9", {"desk": 1})
    assert record["change"]["previous_revision"] == 2


@pytest.mark.parametrize("refusal", ["others", "jetstream"])
async def test_attempts_have_an_end(bucket: Bucket, refusal: str) -> None:
    if refusal == "others":
        bucket.before = lambda: cast("None", bucket.write("a", b"not a record"))
    else:
        bucket.lost = 10**6
    with pytest.raises(StoreError, match="a cannot be written"):
        await outcomes(bucket, agent("a"))
    assert bucket.reads == ATTEMPTS


async def test_many_are_under_way_but_not_all(bucket: Bucket) -> None:
    count = 4 * IN_FLIGHT
    assert await outcomes(bucket, *(agent(f"a-{number}") for number in range(count))) == [Outcome.RESTORED] * count
    assert 1 < bucket.most <= IN_FLIGHT


async def test_what_was_put_back_before_is_looked_up_first(bucket: Bucket) -> None:
    """After an interruption the first ones are there: writes that must fail are not worth a try."""
    lines = [agent(f"a-{number}") for number in range(2 * IN_FLIGHT)]
    await outcomes(bucket, *lines[: IN_FLIGHT + 10])
    found = await outcomes(bucket, *lines)
    assert found == [Outcome.THERE] * (IN_FLIGHT + 10) + [Outcome.RESTORED] * (IN_FLIGHT - 10)
    assert bucket.revision == 2 * IN_FLIGHT


async def test_a_dry_run_writes_nothing(bucket: Bucket) -> None:
    bucket.write("a", json.dumps({**stored(), "agent_id": "a"}).encode())
    lines = agent("a"), agent("b"), policy(min_agents=3)
    assert await outcomes(bucket, *lines, dry_run=True) == [Outcome.THERE, Outcome.RESTORED, Outcome.RESTORED]
    assert bucket.revision == 1


async def test_policies(bucket: Bucket) -> None:
    lines = policy("trading", min_agents=3), policy("research", max_agents=4)
    assert await outcomes(bucket, *lines) == [Outcome.RESTORED] * 2
    changed = policy("trading", min_agents=2), policy("research", max_agents=4)
    assert await outcomes(bucket, *changed) == [Outcome.THERE, Outcome.SAME]
    assert await outcomes(bucket, *changed, overwrite=True) == [Outcome.REPLACED, Outcome.SAME]
    bucket.write("policy.trading", b"", removed=True)
    assert await outcomes(bucket, policy("trading", min_agents=5)) == [Outcome.RESTORED]


async def test_rules(bucket: Bucket) -> None:
    assert await outcomes(bucket, rule()) == [Outcome.RESTORED]
    assert json.loads(bucket.entries["conflict.four-eyes"].value)["kind"] == "combination"
    assert await outcomes(bucket, rule()) == [Outcome.SAME]
