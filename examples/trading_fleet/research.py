"""Market data: knows a price for every symbol. Serves `quote` to whoever looks for the capability `research`.

python examples/trading_fleet/research.py [AGENT_ID]
"""

import random
import sys

from agents_sdk import Agent

agent = Agent(
    "market_data_agent",
    capabilities=["research", "chart_analysis"],
    agent_id=sys.argv[1] if len(sys.argv) > 1 else None,
    tags=["crypto"],
    heartbeat_interval=2,
)

prices: dict[str, float] = {}


@agent.handle("quote")
async def quote(request: dict) -> dict:
    """Answer {"symbol"} with its price and how it has moved: a random walk."""
    symbol = request["symbol"]
    before = prices.get(symbol, 100.0)
    prices[symbol] = before * random.uniform(0.98, 1.02)
    return {"symbol": symbol, "price": round(prices[symbol], 2), "change": round(prices[symbol] / before - 1, 4)}


if __name__ == "__main__":
    agent.run()
