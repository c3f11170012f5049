import asyncio
import random
import statistics
from contextlib import AsyncExitStack

from agents_sdk import Agent, RegistryClient


def analyst(number: int) -> Agent:
    agent = Agent("analyst", capabilities=["research"], agent_id=f"analyst-{number}")

    @agent.handle("estimate")
    async def estimate(request: dict) -> float:
        await asyncio.sleep(random.uniform(0.0, 0.3))  # pretend to think
        return random.gauss({"BTC": 42.0}[request["symbol"]], 1.0)

    @agent.handle("agreed")
    async def agreed(request: dict) -> None:
        print(f"{agent.agent_id} was told {request['price']:.1f}")

    return agent


async def main() -> None:
    async with RegistryClient() as registry, registry.group("research") as group, AsyncExitStack() as running:
        swarm = [await running.enter_async_context(analyst(number)) for number in range(1, 6)]
        await group.until(lambda members: len(members) >= 5)

        answers = await group.scatter("estimate", {"symbol": "BTC"}, quorum="majority", deadline=2.0)
        price = statistics.median(answers.values)
        print(f"{len(answers.good)} of {len(answers.everybody)} analysts say {price:.1f}")

        await swarm[0].stop()
        await group.until(lambda members: "analyst-1" not in {agent.agent_id for agent in members})
        await group.broadcast("agreed", {"price": price})


asyncio.run(main())
