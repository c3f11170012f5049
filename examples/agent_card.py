"""An agent that brings its A2A agent card, and is found by a skill in it:

python examples/agent_card.py
agent-registry discover --skill spot-quote
"""

from agents_sdk import Agent

CARD = {
    "name": "Quoter",
    "description": "Quotes prices of crypto currencies.",
    "version": "1.0.0",
    "supportedInterfaces": [
        {"url": "https://quoter.example.com/a2a", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    ],
    "capabilities": {},
    "defaultInputModes": ["application/json"],
    "defaultOutputModes": ["application/json"],
    "skills": [
        {
            "id": "spot-quote",
            "name": "Spot quote",
            "description": "The price of a currency now.",
            "tags": ["prices"],
        }
    ],
}

agent = Agent("quoter", capabilities=["trading"], metadata={"a2a_card": CARD})


@agent.handle("quote")
def quote(request: dict) -> dict:
    return {"symbol": request["symbol"], "price": 42.0}


agent.run()
