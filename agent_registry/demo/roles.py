"""The three kinds of agents in the demo. They know one another by what they can do, never by name."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents_sdk import Agent

HEARTBEAT_INTERVAL = 1.0
"""Seconds; short, so that a minute has much to show."""

CALL_TIMEOUT = 2.0

POSITION_LIMIT = 90
"""Larger orders are refused by risk."""

ROLES = {"research": "research", "risk": "risk_management", "trader": "trading"}
"""Role to the capability by which it is found."""

ROLE_OF = {capability: role for role, capability in ROLES.items()}


def make(role: str, agent_id: str) -> Agent:
    """Return an agent of a role, ready to run."""
    return {"research": _research, "risk": _risk, "trader": _trader}[role](agent_id)


def _research(agent_id: str) -> Agent:
    from agents_sdk import Agent

    agent = Agent(
        "market_data_agent",
        ["research"],
        agent_id=agent_id,
        heartbeat_interval=HEARTBEAT_INTERVAL,
        max_concurrency=16,
        tags=["demo"],
    )
    prices: dict[str, float] = {}

    @agent.handle("quote")
    async def quote(request: dict[str, Any]) -> dict[str, Any]:
        symbol = str(request["symbol"])
        await asyncio.sleep(0.03)
        prices[symbol] = prices.get(symbol, 100.0) * random.uniform(0.995, 1.005)
        return {"symbol": symbol, "price": round(prices[symbol], 2)}

    return agent


def _risk(agent_id: str) -> Agent:
    from agents_sdk import Agent

    agent = Agent(
        "risk_agent",
        ["risk_management"],
        agent_id=agent_id,
        heartbeat_interval=HEARTBEAT_INTERVAL,
        max_concurrency=16,
        tags=["demo"],
    )

    @agent.handle("check")
    async def check(request: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"approved": request["quantity"] <= POSITION_LIMIT, "checked_by": agent_id}

    return agent


def _trader(agent_id: str) -> Agent:
    from agents_sdk import Agent

    agent = Agent(
        "trading_agent",
        ["trading"],
        agent_id=agent_id,
        heartbeat_interval=HEARTBEAT_INTERVAL,
        max_concurrency=4,
        tags=["demo"],
    )

    @agent.handle("trade")
    async def trade(request: dict[str, Any]) -> dict[str, Any]:
        call = agent.client.call
        quote = await call("research", "quote", {"symbol": request["symbol"]}, timeout=CALL_TIMEOUT)
        risk = await call("risk_management", "check", {"quantity": request["quantity"]}, timeout=CALL_TIMEOUT)
        await asyncio.sleep(0.25)  # the exchange takes its time
        return {"filled": risk["approved"], "price": quote["price"], "traded_by": agent_id}

    return agent
