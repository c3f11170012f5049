import asyncio

from agents_sdk import Agent

agent = Agent("trading_agent", capabilities=["trading"], max_concurrency=4)


@agent.handle("quote")
async def quote(request: dict) -> dict:
    await asyncio.sleep(request.get("work", 0))  # pretend to think
    return {"symbol": request["symbol"], "price": 42.0}


agent.run()
