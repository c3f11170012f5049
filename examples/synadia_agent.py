import asyncio
from collections.abc import AsyncGenerator

from agents_sdk import Agent, Synadia

agent = Agent("trading_agent", capabilities=["trading"], agent_id="desk-1", speak=Synadia(owner="acme"))


@agent.prompt
async def answer(text: str) -> AsyncGenerator[str, None]:
    yield f"You asked: {text}\n"
    await asyncio.sleep(0.5)  # pretend to think
    yield "I would wait."


@agent.handle("quote")
async def quote(request: dict) -> dict:
    return {"symbol": request["symbol"], "price": 42.0}


agent.run()
