"""The agent of this suite, in Python; `agent.js` is the same."""

import asyncio
import json
import os
import time
from pathlib import Path

from agents_sdk import Agent, Canary, InvalidRequestError, assigned_work, is_canary

options = json.loads(os.environ["OPTIONS"])
canary = options.pop("canary", None)
health = options.pop("health", None)
agent = Agent("test_agent", **options)


@agent.handle("echo", canary=None if canary is None else Canary(**canary))
async def echo(request):
    return request


@agent.handle("hold")
async def hold(request):
    Path(request["begun"]).touch()
    while not Path(request["until"]).exists():
        await asyncio.sleep(0.02)
    return "done"


@agent.handle("block")
async def block(request):
    while not Path(request["until"]).exists():
        time.sleep(0.02)  # noqa: ASYNC251 - as a handler does that computes
    return "done"


@agent.handle("refuse")
async def refuse(request):
    raise InvalidRequestError("symbol: no price of DOGE is known")


@agent.handle("fail")
async def fail(request):
    raise KeyError("secret")


@agent.handle("work")
async def work(request):
    assigned = assigned_work()
    named = None if assigned is None else [assigned.assignment_id, assigned.fencing_token]
    return {"canary": is_canary(), "assigned": named}


@agent.handle("release")
async def release(request):
    return await agent.release(request["assignment_id"])


@agent.handle("report")
async def report(request):
    agent.report(**request)


if health is not None:

    @agent.health
    async def score():
        return float(Path(health).read_text())


agent.run()
