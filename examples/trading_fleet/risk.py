"""Risk: approves trades. Serves `check` to whoever looks for the capability `risk_management`.

python examples/trading_fleet/risk.py [AGENT_ID]
"""

import sys

from agents_sdk import Agent, InvalidRequestError

agent = Agent(
    "risk_agent",
    capabilities=["risk_management"],
    agent_id=sys.argv[1] if len(sys.argv) > 1 else None,
    metadata={"limit": 5_000},
    heartbeat_interval=2,
)

LIMIT = 5_000.0


@agent.handle("check")
async def check(request: dict) -> dict:
    """Answer {"quantity", "price"} with whether the trade may be done, and why not."""
    if request["quantity"] <= 0:
        raise InvalidRequestError("quantity: must be above 0")  # the caller gets to read this
    value = request["quantity"] * request["price"]
    if value > LIMIT:
        return {"approved": False, "reason": f"{value:.2f} is above the limit of {LIMIT:.0f}"}
    return {"approved": True, "reason": "within the limit"}


if __name__ == "__main__":
    agent.run()
