"""A worker: does the tasks that it is assigned, so many at once and no more.

python examples/tasks/worker.py [AGENT_ID] [--at-once N]
"""

import argparse
import asyncio

from agents_sdk import Agent, InvalidRequestError, assigned_work

REMEMBERED = 10_000
"""Tasks whose token is kept."""

options = argparse.ArgumentParser(description="Do backtests.")
options.add_argument("agent_id", nargs="?", help="made up when left out")
options.add_argument("--at-once", type=int, default=4, help="how many to do at once")
given = options.parse_args()

agent = Agent(
    "backtester",
    capabilities=["backtesting"],
    agent_id=given.agent_id,
    heartbeat_interval=2,
    max_concurrency=given.at_once,
)

newest: dict[str, int] = {}
"""Task to the highest fencing token that came with it."""


def fence(task_id: str) -> int:
    """Return the token of this request; refuse it if the task has been assigned anew since, and came here again.

    This tells only what this worker has seen. What several workers write to has to do the same with their tokens.
    """
    work = assigned_work()
    if work is None or work.fencing_token is None:
        raise InvalidRequestError("a task is taken only with its assignment")
    token = work.fencing_token
    known = newest.pop(task_id, token)
    newest[task_id] = max(known, token)  # the last one asked for is the last one forgotten
    if len(newest) > REMEMBERED:
        del newest[next(iter(newest))]
    if token < known:
        raise InvalidRequestError(f"fencing_token: {token} is older than {known}")
    return token


@agent.handle("backtest")
async def backtest(request: dict) -> dict:
    """Answer {"task_id", "seconds"} with what came out of it."""
    fence(request["task_id"])
    if request["seconds"] < 0:
        raise InvalidRequestError("seconds: must be 0 or more")
    await asyncio.sleep(request["seconds"])  # the work
    fence(request["task_id"])  # before an effect that others would see: it may have been assigned anew meanwhile
    return {"profit": len(request["task_id"])}


agent.run()
