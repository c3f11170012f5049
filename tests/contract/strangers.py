"""A process that knows nothing of the registry: a NATS micro service and an agent of the Synadia Agent Protocol.

Run as `python -m tests.contract.strangers URL`; it prints the ids of both, one a line.
"""

from __future__ import annotations

import asyncio
import sys

import nats
from nats.micro import add_service
from nats.micro.request import Request
from synadia_ai.agent_service import AgentService, PromptStream
from synadia_ai.agents import Envelope


async def main(url: str) -> None:
    client = await nats.connect(url)
    service = await add_service(
        client, name="quotes", version="1.2.0", description="Prices", metadata={"capabilities": "trading", "tags": "eu"}
    )

    async def quote(request: Request) -> None:
        await asyncio.sleep(0.05)
        await request.respond(b'{"price": 42.0}')

    await service.add_endpoint(name="quote", subject="quotes.quote", handler=quote)
    agent = AgentService(
        nc=await nats.connect(url), agent="claude-code", owner="ada", session_name="main", heartbeat_interval_s=1
    )

    async def answer(envelope: Envelope, stream: PromptStream) -> None:
        await stream.send(f"you said {envelope.prompt}")

    agent.on_prompt(answer)
    await agent.start()
    print(service.id, flush=True)
    print(agent.instance_id, flush=True)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
