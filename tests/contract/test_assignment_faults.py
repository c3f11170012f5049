"""Assignments while replicas and NATS are killed: what was acknowledged stands, and no slot has two owners."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.api import DeliverPolicy

from registry.shell.assignment_log import RELEASED_KEPT
from tests.conftest import eventually
from tests.contract.test_exactly_once import Fleet
from tests.contract.wire import Answer, ask, told
from tests.sdk.outage import Server

SLOTS = 3
AGENTS = [f"worker-{number}" for number in range(3)]
CALLERS = 6


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    await server.start()
    yield server
    await server.kill()


@dataclass
class Crowd:
    """Callers that ask for assignments and release them, each for one task after the other."""

    nc: Client
    given: dict[str, set[tuple[str, int, str]]] = field(default_factory=lambda: defaultdict(set))
    """Task to the assignments that were acknowledged for it: id, token, agent."""
    released: set[str] = field(default_factory=set)
    """Assignments whose release was acknowledged, or whose end was."""
    abandoned: set[str] = field(default_factory=set)
    """Tasks that are left to expire."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    done: int = 0

    async def insist(self, subject: str, payload: dict[str, Any]) -> Answer:
        """Ask until there is an answer that does not say to ask again."""
        while True:
            try:
                answer = await ask(self.nc, subject, payload, within=1.5)
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.05)
                continue
            if "error" not in answer.body or not answer.body["error"]["retryable"]:
                return answer
            await asyncio.sleep(0.02)

    async def work(self, caller: int) -> None:
        for number in itertools.count():
            if self.stop.is_set():
                return
            task = f"{caller}-{number}"
            leaves = number % 10 == 9
            request = {"task_id": task, "ttl": 1.0 if leaves else 3600.0, "wait": 0.3, "slots": 1 + number % 2}
            for _ in range(2):
                answer = await self.insist("registry.assign", request)
                assert answer.code is None, answer.body
                won = answer.body
                self.given[task].add((won["assignment_id"], won["fencing_token"], won["agent"]["agent_id"]))
                if leaves:
                    break
            if leaves:
                self.abandoned.add(task)
            else:
                await self.insist("registry.release", {"assignment_id": won["assignment_id"]})
                self.released.add(won["assignment_id"])
            self.done += 1

    async def goes_on(self, tasks: int) -> None:
        wanted = self.done + tasks
        await eventually(lambda: self.done >= wanted, within=40.0)


async def contents(nc: Client, stream: str, subject: str) -> list[tuple[int, dict[str, Any]]]:
    js, found = nc.jetstream(), []
    newest = await js.get_last_msg(stream, subject)
    sub = await js.subscribe(subject, stream=stream, ordered_consumer=True, deliver_policy=DeliverPolicy.ALL)
    while True:
        msg = await sub.next_msg(timeout=5.0)
        found.append((msg.metadata.sequence.stream, json.loads(msg.data)))
        if msg.metadata.sequence.stream >= (newest.seq or 0):
            await sub.unsubscribe()
            return found


def assert_no_slot_has_two_owners(log: list[tuple[int, dict[str, Any]]]) -> None:
    """In the order in which they were made and ended, which is that of revisions."""
    changes = []
    for revision, form in log:
        ended = "ended" in form
        changes.append((form["fencing_token"] if ended else revision, form["slots"], form["agent_id"]))
        if ended:
            changes.append((revision, -form["slots"], form["agent_id"]))
    reserved: Counter[str] = Counter()
    for _, slots, agent_id in sorted(changes):
        reserved[agent_id] += slots
        assert reserved[agent_id] <= SLOTS, f"{agent_id} has {reserved[agent_id]} slots reserved"


async def test_whoever_is_killed_no_slot_is_given_twice_and_nothing_acknowledged_is_lost(
    server: Server, tmp_path: Path
) -> None:
    started = time.monotonic()
    nc = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    with ExitStack() as stack:
        fleet = Fleet(server.url, tmp_path, stack)
        await fleet.started()
        for agent_id in AGENTS:
            registration = {"agent_type": "worker", "capabilities": ["trading"], "heartbeat_interval": 600.0}
            await told(nc, "registry.register", {**registration, "agent_id": agent_id, "max_concurrency": SLOTS})
        crowd = Crowd(nc)
        working = [asyncio.ensure_future(crowd.work(number)) for number in range(CALLERS)]
        await crowd.goes_on(100)
        killed = await fleet.leader(nc)
        killed.process.kill()
        await crowd.goes_on(60)
        await server.kill()
        await server.start()
        await crowd.goes_on(60)
        still = await fleet.leader(nc)
        still.process.send_signal(signal.SIGSTOP)
        await crowd.goes_on(60)
        still.process.send_signal(signal.SIGCONT)
        await crowd.goes_on(60)
        crowd.stop.set()
        await asyncio.gather(*working)

        async def only_what_lasts() -> bool:
            return (await told(nc, "registry.assignments"))["total"] == 0

        await eventually(only_what_lasts, within=20.0)
        log = await contents(nc, "KV_registry_assignments", "$KV.registry_assignments.>")
        assert_no_slot_has_two_owners(log)
        final = {form["assignment_id"]: (revision, form) for revision, form in log}
        for task, acknowledged in crowd.given.items():
            assert len(acknowledged) == 1, f"{task} was answered with {acknowledged}"
            [(assignment_id, token, agent_id)] = acknowledged
            if assignment_id in crowd.released and time.monotonic() - started > RELEASED_KEPT - 10:
                continue  # on a slow machine its last form may have vanished
            _, form = final[assignment_id]
            assert (form["fencing_token"], form["agent_id"], form["task_id"]) == (token, agent_id, task)
            reason = form["ended"]["reason"]
            assert reason == ("expired" if task in crowd.abandoned else "released")
        lost = {revision for revision, form in log if form["ended"]["reason"] != "released"}
        assert lost

        async def told_of_all() -> bool:
            return {number for number, _ in await told_of(nc)} >= lost

        await eventually(told_of_all, within=20.0)
        numbers = [number for number, _ in await told_of(nc)]
        assert numbers == sorted(lost), "each once, in order"
    await nc.close()


async def told_of(nc: Client) -> list[tuple[int, dict[str, Any]]]:
    """The revisions whose loss the stream tells of, in its order."""
    events = await contents(nc, "REGISTRY_EVENTS", "registry.events.assignment.>")
    return [(int(event["event_id"].rpartition(":")[2]), event) for _, event in events]
