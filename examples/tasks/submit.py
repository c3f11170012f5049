"""Submits tasks, waits for their results, and says what became of them.

agent-registry up                              (in another terminal)
python examples/tasks/worker.py                (as many as you like)
python examples/tasks/orchestrator.py          (as many as you like)
python examples/tasks/submit.py 200
"""

import argparse
import asyncio
import json
import secrets
import sys
import time
from typing import Any

from nats.js.api import ConsumerConfig
from work_queue import RESULTS, Task, connected, fetch, open_streams, read, submit

FORGOTTEN = 300.0
"""Seconds after which the server forgets who waits for results, if it is not heard of."""


async def results_of(tasks: list[Task], batch: str) -> dict[str, dict[str, Any]]:
    """Submit tasks and return the result of each, by its id."""
    async with connected() as client:
        jetstream = await open_streams(client)
        own = ConsumerConfig(
            durable_name=f"submit-{batch}", filter_subject=f"tasks.result.{batch}.*", inactive_threshold=FORGOTTEN
        )
        subscription = await read(jetstream, RESULTS, own)
        for task in tasks:
            await submit(jetstream, task)
        print(f"submitted {len(tasks)} tasks as {batch}", flush=True)
        results: dict[str, dict[str, Any]] = {}
        while len(results) < len(tasks):
            for msg in await fetch(subscription, 100):
                result = json.loads(msg.data)
                results[result["task_id"]] = result  # one that comes again, for its acknowledgement was lost, is equal
                await msg.ack()
        return results


def main() -> None:
    options = argparse.ArgumentParser(description="Submit tasks and wait for their results.")
    options.add_argument("tasks", type=int, nargs="?", default=200, help="how many")
    options.add_argument("--seconds", type=float, default=0.05, help="how long each takes")
    given = options.parse_args()
    batch, started = secrets.token_hex(4), time.monotonic()
    tasks = [
        Task(f"{batch}.{number}", "backtesting", "backtest", {"seconds": given.seconds})
        for number in range(1, given.tasks + 1)
    ]
    results = asyncio.run(results_of(tasks, batch)).values()
    failed = [result for result in results if result["state"] == "failed"]
    reassigned = sum(result["reassigned"] > 0 for result in results)
    again = sum(result["delivered"] > 1 for result in results)
    print(f"{len(results)} results in {time.monotonic() - started:.1f} s: {len(failed)} failed")
    print(f"{reassigned} tasks were reassigned, {again} were taken from the queue again")
    for result in failed[:10]:
        print(f"{result['task_id']}: {result['error']}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
