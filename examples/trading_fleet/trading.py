"""Trading: asks research for a price and risk for approval, then trades. Serves `trade` under the capability `trading`.

It knows the others by what they can do: any agent with the capability will do, and when one is gone another is asked.

    python examples/trading_fleet/trading.py [AGENT_ID]
"""

import asyncio
import sys

from agents_sdk import Agent

agent = Agent(
    "trading_agent",
    capabilities=["trading", "execution"],
    agent_id=sys.argv[1] if len(sys.argv) > 1 else None,
    tags=["crypto", "perpetuals"],
    heartbeat_interval=2,
    max_concurrency=4,
)


@agent.handle("trade")
async def trade(request: dict) -> dict:
    """Do the trade {"symbol", "quantity"}, if it is approved."""
    quote = await agent.client.call("research", "quote", {"symbol": request["symbol"]})
    order = {"quantity": request["quantity"], "price": quote["price"]}
    risk = await agent.client.call("risk_management", "check", order)
    if not risk["approved"]:
        return {"status": "refused", "reason": risk["reason"], "agent": agent.agent_id}
    await asyncio.sleep(0.1)  # the exchange takes its time
    return {"status": "filled", "price": quote["price"], "agent": agent.agent_id}


if __name__ == "__main__":
    agent.run()
