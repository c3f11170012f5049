"""The task orchestrator keeps its word while agents, an orchestrator, the registry and NATS are killed under it."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from agents_sdk import AgentCallError, RegistryClient, ServiceQuery, UnavailableError
from tests.cli.running import Running, Up, until
from tests.conftest import eventually
from tests.examples.conftest import Example

TASKS = 200
AT_ONCE = 16
"""Tasks that an orchestrator has under way at most."""


@pytest.fixture
async def nc(up: Up) -> AsyncIterator[Client]:
    client = await nats.connect(up.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    yield client
    await client.close()


@pytest.fixture
def jetstream(nc: Client) -> JetStreamContext:
    return nc.jetstream()


@pytest.fixture
def again(up: Up, tmp_path: Path) -> Iterator[ExitStack]:
    """What is started anew in a test, to be ended with it."""
    with ExitStack() as stack:
        yield stack


async def ended(process: Running, within: float = 45.0) -> int:
    return await asyncio.to_thread(process.process.wait, within)


async def results(jetstream: JetStreamContext) -> int:
    try:
        return (await jetstream.stream_info("TASK_RESULTS")).state.messages
    except NotFoundError:
        return 0


async def there_are(jetstream: JetStreamContext, number: int) -> None:
    async def enough() -> bool:
        return await results(jetstream) >= number

    await eventually(enough, within=30.0)


async def serving(client: RegistryClient) -> None:
    """Wait until a worker has registered, and takes calls, which is a moment later."""

    async def takes_calls() -> bool:
        try:
            await client.call("backtesting", "backtest", {}, timeout=1.0)
        except AgentCallError:  # it wants an assignment
            return True
        except UnavailableError:
            return False
        raise AssertionError("it works without an assignment")

    await eventually(takes_calls, within=30.0)


async def stopped_at_work(client: RegistryClient, worker: Running, agent_id: str) -> None:
    """Stop a worker at a moment when it is assigned a task, so that it is lost with the task for sure."""
    worker.process.send_signal(signal.SIGSTOP)

    async def has_work() -> bool:
        return (await client.assignments(agent_id=agent_id)).total > 0

    await eventually(has_work)


@pytest.mark.timeout(150)
async def test_each_task_has_one_result_whoever_is_killed(
    up: Up, again: ExitStack, client: RegistryClient, jetstream: JetStreamContext, example: Example, tmp_path: Path
) -> None:
    workers = [example("tasks/worker.py", f"worker-{number}", "--at-once", "1") for number in range(4)]
    one, two = (example("tasks/orchestrator.py", "--at-once", str(AT_ONCE), "--timeout", "3") for _ in "ab")
    for process in (one, two):
        await asyncio.to_thread(until, lambda process=process: "takes tasks" in process.stdout)
    submitting = example("tasks/submit.py", str(TASKS))

    await there_are(jetstream, 20)
    await stopped_at_work(client, workers[0], "worker-0")
    workers[0].process.kill()
    await asyncio.to_thread(until, lambda: "is assigned anew: worker-0" in one.stdout + two.stdout)

    one.process.send_signal(signal.SIGSTOP)

    async def it_has_some() -> bool:  # more are under way than the other one may have
        return (await jetstream.consumer_info("TASKS", "orchestrators")).num_ack_pending > AT_ONCE

    await eventually(it_has_some)
    one.process.kill()

    await stopped_at_work(client, workers[1], "worker-1")
    assert await results(jetstream) < TASKS, "all of this was to happen on the way"
    workers[1].process.kill()
    up.process.kill()  # NATS, its child, ends with it
    await asyncio.to_thread(up.process.wait)
    port = urlsplit(up.url).port
    await asyncio.to_thread(lambda: again.enter_context(Up(tmp_path / "up", "--port", str(port))))

    assert await ended(submitting) == 0, submitting.stdout + submitting.stderr
    assert f"{TASKS} results in" in submitting.stdout
    said = re.search(r"(\d+) tasks were reassigned, (\d+) were taken from the queue again", submitting.stdout)
    assert said is not None
    assert int(said[1]) >= 1, "what the workers had"
    assert int(said[2]) >= 1, "what the orchestrator had"

    state = (await jetstream.stream_info("TASK_RESULTS")).state
    assert (state.messages, state.last_seq) == (TASKS, TASKS), "one for each task, and none was ever replaced"
    with pytest.raises(APIError) as refused:
        await jetstream.publish((await jetstream.get_msg("TASK_RESULTS", 1)).subject, b"another one")
    assert refused.value.err_code == 10077

    async def is_empty() -> bool:
        return (await jetstream.stream_info("TASKS")).state.messages == 0

    await eventually(is_empty)
    for process in (two, *workers[2:]):
        process.process.terminate()
        assert await ended(process) == 0
        assert "Traceback" not in process.stderr


async def test_a_task_is_assigned_anew_as_soon_as_its_agent_is_known_to_be_gone(
    client: RegistryClient, nc: Client, example: Example
) -> None:
    worker = example("tasks/worker.py", "worker-1")
    await serving(client)
    called = await nc.subscribe("agent.worker-1.backtest")
    orchestrator = example("tasks/orchestrator.py", "--timeout", "60")
    submitting = example("tasks/submit.py", "1", "--seconds", "3")
    await called.next_msg(timeout=30.0)
    worker.process.kill()
    example("tasks/worker.py", "worker-2")
    assert await ended(submitting) == 0
    assert "is assigned anew: worker-1 is lost: no_responders" in orchestrator.stdout, "not by a time-out"
    assert "1 tasks were reassigned, 0 were taken from the queue again" in submitting.stdout


async def test_a_task_that_fails_is_tried_again_and_then_has_failed(
    client: RegistryClient, nc: Client, example: Example
) -> None:
    example("tasks/worker.py")
    await serving(client)
    calls = await nc.subscribe("agent.*.backtest")
    example("tasks/orchestrator.py")
    submitting = example("tasks/submit.py", "2", "--seconds", "-1")
    assert await ended(submitting) == 1, submitting.stderr
    assert "2 results in" in submitting.stdout
    assert submitting.stdout.count("answered invalid_request (400): seconds: must be 0 or more") == 2
    await nc.flush()
    assert calls.pending_msgs == 6, "three times each"


async def test_an_orchestrator_that_is_stopped_finishes_and_gives_back(
    client: RegistryClient, nc: Client, jetstream: JetStreamContext, example: Example
) -> None:
    example("tasks/worker.py", "worker-1", "--at-once", "1")
    await serving(client)
    called = await nc.subscribe("agent.worker-1.backtest")
    orchestrator = example("tasks/orchestrator.py")
    submitting = example("tasks/submit.py", "3", "--seconds", "1")
    await called.next_msg(timeout=30.0)
    await asyncio.to_thread(until, lambda: "submitted 3 tasks" in submitting.stdout)
    orchestrator.process.terminate()
    assert await ended(orchestrator) == 0, orchestrator.stderr
    assert await results(jetstream) == 1
    assert (await jetstream.stream_info("TASKS")).state.messages == 2
    example("tasks/orchestrator.py")
    assert await ended(submitting) == 0
    assert "3 results in" in submitting.stdout


async def test_a_worker_refuses_who_has_lost_the_task(client: RegistryClient, example: Example) -> None:
    example("tasks/worker.py", "worker-1")
    await serving(client)
    anyone, request = ServiceQuery(capabilities={"backtesting"}), {"task_id": "one", "seconds": 0.0}
    before = await client.assign(anyone, task_id="one")
    await before.release()
    async with await client.assign(anyone, task_id="one") as now:
        assert await now.call("backtest", request) == {"profit": 3}
        with pytest.raises(AgentCallError, match="is older than"):
            await before.call("backtest", request)


async def test_an_orchestrator_that_stood_still_replaces_no_result(
    client: RegistryClient, nc: Client, jetstream: JetStreamContext, example: Example
) -> None:
    example("tasks/worker.py", "worker-1")
    await serving(client)
    called = await nc.subscribe("agent.worker-1.backtest")
    late = example("tasks/orchestrator.py")
    submitting = example("tasks/submit.py", "1", "--seconds", "1")
    await called.next_msg(timeout=30.0)
    late.process.send_signal(signal.SIGSTOP)
    example("tasks/orchestrator.py")
    assert await ended(submitting) == 0
    late.process.send_signal(signal.SIGCONT)
    await asyncio.to_thread(until, lambda: "was done twice; the first result stands" in late.stdout)
    assert (await jetstream.stream_info("TASK_RESULTS")).state.last_seq == 1
    late.process.terminate()
    assert await ended(late) == 0
