"""The tasks and their results, as all of this example sees them: two JetStream streams.

`TASKS` is a work queue: a task stays in it until an orchestrator acknowledges it, and comes again when nobody does.
`TASK_RESULTS` has a subject for each task and takes one message on each: the server refuses the second one.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig
from nats.js.errors import APIError, NotFoundError

TASKS = StreamConfig(name="TASKS", subjects=["tasks.todo.>"], retention=RetentionPolicy.WORK_QUEUE)
RESULTS = StreamConfig(
    name="TASK_RESULTS",
    subjects=["tasks.result.>"],
    max_msgs_per_subject=1,
    discard=DiscardPolicy.NEW,
    discard_new_per_subject=True,  # else the second result would replace the first
)


@dataclass(frozen=True)
class Task:
    """What an agent is to do."""

    task_id: str
    """Tokens of a subject: letters, digits, `-`, `_`, with dots between them."""
    capability: str
    """What the agent must be able to do."""
    topic: str
    request: dict[str, Any]


SUBJECT_IS_FULL = 10077
"""JetStream's error code for a message that the limit of its subject keeps out."""

FETCH = 2.0
"""Seconds that one request for messages waits at the server."""

T = TypeVar("T")


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    """Be connected to NATS; when it is away the connection comes back by itself."""
    url = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
    client = await nats.connect(url, error_cb=complain, max_reconnect_attempts=-1, reconnect_time_wait=0.2)
    try:
        yield client
    finally:
        with contextlib.suppress(OSError):  # of a connection that is lost already
            await client.close()


async def complain(error: Exception) -> None:
    """Say in one line what troubles the connection; it comes back by itself."""
    print(f"NATS: {str(error) or repr(error)}", file=sys.stderr, flush=True)


async def open_streams(client: Client) -> JetStreamContext:
    """Make the streams unless they are there."""
    jetstream = client.jetstream(timeout=2.0)
    for stream in (TASKS, RESULTS):
        await insist(lambda stream=stream: jetstream.add_stream(stream))
    return jetstream


async def read(jetstream: JetStreamContext, stream: StreamConfig, consumer: ConsumerConfig):
    """Return a subscription to a durable consumer, made unless it is there. Who uses the same name shares it."""
    await insist(lambda: jetstream.add_consumer(stream.name, consumer))
    return await jetstream.pull_subscribe_bind(consumer=consumer.durable_name, stream=stream.name)


async def fetch(subscription: JetStreamContext.PullSubscription, batch: int) -> list[Msg]:
    """Return the next messages; none if there are none for a while, or NATS is away."""
    try:
        return await subscription.fetch(batch, timeout=FETCH)
    except TimeoutError:
        return []
    except NatsError as error:
        await complain(error)
        await asyncio.sleep(random.uniform(0.1, 0.5))
        return []


async def submit(jetstream: JetStreamContext, task: Task) -> None:
    """Put a task into the queue, once: JetStream drops a second copy of the same id for two minutes."""
    payload, headers = json.dumps(asdict(task)).encode(), {"Nats-Msg-Id": task.task_id}
    await insist(lambda: jetstream.publish(f"tasks.todo.{task.task_id}", payload, headers=headers))


async def put_result(jetstream: JetStreamContext, result: dict[str, Any]) -> bool:
    """Write the result of a task; return whether it is the first one, else it is refused."""

    async def put() -> bool:
        try:
            await jetstream.publish(f"tasks.result.{result['task_id']}", json.dumps(result).encode())
        except APIError as error:
            if error.err_code == SUBJECT_IS_FULL:
                return False
            raise
        return True

    return await insist(put)


async def has_result(jetstream: JetStreamContext, task_id: str) -> bool:
    """Return whether a task has its result."""

    async def look() -> bool:
        try:
            await jetstream.get_last_msg(RESULTS.name, f"tasks.result.{task_id}")
        except NotFoundError:
            return False
        return True

    return await insist(look)


async def insist(action: Callable[[], Awaitable[T]]) -> T:
    """Do what may be done twice, again when NATS is away, some seconds long; then raise what went wrong."""
    for pause in pauses():
        try:
            return await action()
        except (NatsError, TimeoutError):
            await asyncio.sleep(pause)
    return await action()


def pauses(attempts: int = 7, shortest: float = 0.1, longest: float = 2.0) -> Iterator[float]:
    """Yield how many seconds to wait before each further attempt: ever longer, at random, for all fail together."""
    for attempt in range(attempts):
        yield random.uniform(shortest / 2, min(longest, shortest * 2**attempt))
