"""An agent whose load follows the work that it gets, to watch it being scaled.

    agent-registry up                                             (in another terminal)
    agent-registry scaling set trading --min 2 --max 6 --stabilisation-down 20
    agent-registry orchestrate --launch 'python examples/worker.py' --capability trading
    python examples/load.py trading --shape sine

It does `--concurrency` requests at once, each of which takes `--seconds`; its load is the share that is taken.
"""

import argparse
import asyncio
import os
import random

from agents_sdk import Agent

options = argparse.ArgumentParser(description="Work, and be scaled.")
options.add_argument("--capability", default=os.environ.get("AGENT_REGISTRY_CAPABILITY", "trading"))
options.add_argument("--concurrency", type=int, default=4, help="requests at once; others are told to go elsewhere")
options.add_argument("--seconds", type=float, default=0.25, help="how long one takes, on average")
chosen = options.parse_args()

# No agent_id: whoever starts many of these names each by AGENT_REGISTRY_AGENT_ID.
agent = Agent(
    "worker",
    capabilities=[chosen.capability],
    max_concurrency=chosen.concurrency,
    heartbeat_interval=1.0,
    metadata={"pid": os.getpid()},
    prefix=os.environ.get("AGENT_REGISTRY_PREFIX", "registry"),
)


@agent.handle("work")
async def work(request: dict) -> dict:
    seconds = float(request.get("seconds", chosen.seconds))
    await asyncio.sleep(random.uniform(0.5, 1.5) * seconds)
    return {"done_by": agent.agent_id}


@agent.handle("ail")
def ail(request: dict) -> dict:
    """From now on it says of itself that it is not well: below 0.6 the registry orders another one in its place."""
    agent.report(health_score=float(request.get("health_score", 0.55)))
    return {}


agent.run()
