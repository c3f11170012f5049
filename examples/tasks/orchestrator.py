"""Takes tasks from the queue and has agents do them. Run as many as you like; they share the queue.

python examples/tasks/orchestrator.py [--at-once N] [--timeout SECONDS]
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig
from work_queue import TASKS, Task, connected, fetch, has_result, open_streams, pauses, put_result, read

from agents_sdk import (
    AgentCallError,
    Assignment,
    AssignmentLost,
    NotBegunError,
    RegistryClient,
    RegistryError,
    ServiceQuery,
    UnavailableError,
)

ACK_WAIT = 5.0
"""Seconds after which the queue gives a task to another orchestrator, unless it hears that it is worked on."""

MAX_ERRORS = 3
"""Answers with an error after which a task has failed."""

MAX_LOSSES = 5
"""Agents that may be lost over a task: it may be what kills them."""

WAIT = 10.0
"""Seconds to wait in line for an agent, before the task goes back to the queue."""

WAIT_FOR_OTHERS = 2.0
"""Seconds of them to wait for another agent than those that were lost over the task."""

REMEMBERED = 1000
"""Lost assignments that are remembered, should the event come before the answer that it is about."""

QUEUE = ConsumerConfig(durable_name="orchestrators", ack_wait=ACK_WAIT, max_ack_pending=1000)


class LostError(Exception):
    """The assignment has ended, for its agent is gone or its time is over."""


class Losses:
    """Knows which assignments the registry has ended, so that nobody waits for an answer of who is gone."""

    def __init__(self) -> None:
        self.lost: dict[str, str] = {}
        self.waiting: dict[str, asyncio.Future[str]] = {}

    async def listen(self, registry: RegistryClient) -> None:
        async with contextlib.aclosing(registry.events("assignment")) as events:
            async for event in events:
                if isinstance(event, AssignmentLost):
                    self.note(event.assignment_id, event.reason)

    def note(self, assignment_id: str, reason: str) -> None:
        self.lost[assignment_id] = reason
        if len(self.lost) > REMEMBERED:
            del self.lost[next(iter(self.lost))]
        waiting = self.waiting.get(assignment_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(reason)

    async def unless_lost(self, assignment: Assignment, work: Awaitable[Any]) -> Any:
        """Return what comes of some work, or raise `LostError` as soon as its assignment has ended."""
        key = assignment.assignment_id
        lost = self.waiting[key] = asyncio.get_running_loop().create_future()
        if key in self.lost:
            lost.set_result(self.lost[key])
        answer = asyncio.ensure_future(work)
        try:
            await asyncio.wait((answer, lost), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise LostError(f"{assignment.agent.agent_id} is lost: {lost.result()}")
        finally:
            answer.cancel()
            del self.waiting[key]


class Orchestrator:
    """Carries tasks from the queue to agents, and what comes of them to the results."""

    def __init__(self, jetstream: JetStreamContext, registry: RegistryClient, at_once: int, timeout: float) -> None:
        self.jetstream = jetstream
        self.registry = registry
        self.at_once = at_once
        self.timeout = timeout
        self.losses = Losses()
        self.under_way: set[asyncio.Task[None]] = set()
        self.here: set[str] = set()
        """Tasks that this orchestrator has; the queue gives one again when it did not hear of it in time."""
        self.in_line: set[asyncio.Task[None]] = set()
        """Those of them that have no agent yet."""

    async def run(self) -> None:
        """Take tasks until cancelled, and no more at once than there is room for."""
        listening = asyncio.create_task(self.losses.listen(self.registry))
        room = asyncio.Semaphore(self.at_once)
        subscription = await read(self.jetstream, TASKS, QUEUE)
        say("takes tasks")
        try:
            while not listening.done():
                await room.acquire()
                msgs = await fetch(subscription, 1)
                if not msgs:
                    room.release()
                for msg in msgs:
                    task = asyncio.create_task(self.carry(msg))
                    self.under_way.add(task)
                    task.add_done_callback(self.under_way.discard)
                    task.add_done_callback(lambda _: room.release())
            await listening  # raises what ended it
        finally:
            await subscription.unsubscribe()  # so that the queue gives us no more
            await self.finish()
            listening.cancel()

    async def finish(self) -> None:
        """Finish what agents work on; what has no agent yet, or is not done in time, goes back to the queue."""
        for task in self.in_line:  # which gives up its place in line, too
            task.cancel()
        if self.under_way:
            await asyncio.wait(self.under_way, timeout=self.timeout)
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)

    async def carry(self, msg: Msg) -> None:
        """See to it that a task has its result, and only then take it out of the queue."""
        try:
            task = Task(**json.loads(msg.data))
        except (ValueError, TypeError) as error:
            say(f"{msg.subject} is no task: {error}")
            await settle(msg, msg.term)
            return
        task_id = task.task_id
        if task_id in self.here:  # the acknowledgement of the one that is here counts for both
            return
        self.here.add(task_id)
        try:
            async with worked_on(msg):
                if await has_result(self.jetstream, task_id):
                    say(f"{task_id} has its result already")
                else:
                    await self.complete(task, msg.metadata.num_delivered)
                await settle(msg, msg.ack)
        except BaseException as error:
            await settle(msg, lambda: msg.nak(delay=random.uniform(0.1, 1.0)))
            if not isinstance(error, RegistryError | NatsError | TimeoutError):
                raise
            say(f"{task_id} goes back to the queue: {error}")
        finally:
            self.here.discard(task_id)

    async def complete(self, task: Task, delivered: int) -> None:
        try:
            result = await self.result_of(task)
        except RegistryError as error:
            if error.retryable:
                raise
            result = {"state": "failed", "error": error.message, "reassigned": 0}  # it asks for what there never is
        if not await put_result(self.jetstream, {"task_id": task.task_id, "delivered": delivered, **result}):
            say(f"{task.task_id} was done twice; the first result stands")

    async def result_of(self, task: Task) -> dict[str, Any]:
        """Have an agent do a task, another one when that is lost, and return what came of it.

        Raises:
            RegistryError: If no agent can be had now.
        """
        errors = losses = reassigned = 0
        avoid: set[str] = set()
        again = pauses(MAX_ERRORS)
        while errors < MAX_ERRORS and losses < MAX_LOSSES:
            assignment = await self.assign(task, avoid)
            agent_id = assignment.agent.agent_id
            came = {"agent_id": agent_id, "fencing_token": assignment.fencing_token, "reassigned": reassigned}
            try:
                async with assignment:
                    value = await self.call(assignment, task)
                return {"state": "done", "value": value, **came}
            except AgentCallError as error:
                errors, why = errors + 1, str(error)
                await asyncio.sleep(next(again))
                continue
            except NotBegunError as error:
                if agent_id in avoid:  # there is nobody else now
                    raise
                why = str(error)
            except (LostError, UnavailableError) as error:
                losses, why = losses + 1, str(error)
            reassigned += 1
            avoid.add(agent_id)  # the registry may not know yet, and would give us the same agent again
            say(f"{task.task_id} is assigned anew: {why}")
        return {"state": "failed", "error": why, **came}

    async def assign(self, task: Task, avoid: set[str]) -> Assignment:
        """Get an agent for a task: the one that it has, if another orchestrator got it and was lost."""
        # It ends by itself just after we give up: an orchestrator that is killed keeps no slots for long.
        wanted = {"task_id": task.task_id, "ttl": self.timeout + 1.0}
        query = ServiceQuery(capabilities={task.capability})
        here = asyncio.current_task()
        self.in_line.add(here)
        try:
            if avoid:
                with contextlib.suppress(UnavailableError):  # then there may be nobody else
                    return await self.registry.assign(replace(query, exclude=avoid), wait=WAIT_FOR_OTHERS, **wanted)
            return await self.registry.assign(query, wait=WAIT, **wanted)
        finally:
            self.in_line.discard(here)

    async def call(self, assignment: Assignment, task: Task) -> Any:
        request = {"task_id": task.task_id, **task.request}
        work = assignment.call(task.topic, request, timeout=self.timeout)
        return await self.losses.unless_lost(assignment, work)


@contextlib.asynccontextmanager
async def worked_on(msg: Msg) -> AsyncIterator[None]:
    """Have the queue know that a task is worked on, for as long as that takes."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(ACK_WAIT / 3)
            await settle(msg, msg.in_progress)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()


async def settle(msg: Msg, answer: Callable[[], Awaitable[Any]]) -> None:
    """Tell the queue about a task; if that is lost the task comes again, and has its result."""
    try:
        await answer()
    except NatsError as error:
        say(f"{msg.subject} may come again: {error}")


def say(words: str) -> None:
    print(words, flush=True)


async def main() -> None:
    options = argparse.ArgumentParser(description="Have agents do the tasks in the queue.")
    options.add_argument("--at-once", type=int, default=16, help="how many tasks to have under way")
    options.add_argument("--timeout", type=float, default=30.0, help="seconds that an agent may take over one")
    given = options.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asyncio.current_task().cancel)
    async with connected() as client, RegistryClient(client) as registry:
        await Orchestrator(await open_streams(client), registry, given.at_once, given.timeout).run()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())
