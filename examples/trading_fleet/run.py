"""Starts the fleet, each agent in a process of its own, drives some trades, and ends the fleet.

agent-registry up                          (in another terminal)
python examples/trading_fleet/run.py       (NATS_URL says where NATS is)
"""

import argparse
import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from pathlib import Path

from agents_sdk import AgentCallError, Joined, RegistryClient, ServiceQuery, Snapshot

HERE = Path(__file__).parent
FLEET = {"research": 1, "risk": 2, "trading": 2}
AGENTS = [(kind, f"{kind}-{number}") for kind, amount in FLEET.items() for number in range(1, amount + 1)]


async def everybody_is_there(registry: RegistryClient) -> None:
    """Wait until all of the fleet have registered."""
    missing = {agent_id for _, agent_id in AGENTS}
    async with contextlib.aclosing(registry.watch()) as changes:
        async for change in changes:  # who is there, then everything that changes
            match change:
                case Snapshot(agents=agents):
                    missing -= {agent.agent_id for agent in agents}
                case Joined(agent=agent):
                    missing.discard(agent.agent_id)
            if not missing:
                return


async def trade(registry: RegistryClient, number: int) -> str:
    symbol, quantity = random.choice(["BTC", "ETH", "SOL"]), random.randint(1, 80)
    try:
        result = await registry.call("trading", "trade", {"symbol": symbol, "quantity": quantity})
    except AgentCallError as error:
        return f"trade {number}: {symbol} x {quantity}: {error}"
    outcome = f"at {result['price']}" if result["status"] == "filled" else f"because {result['reason']}"
    return f"trade {number}: {symbol} x {quantity} {result['status']} {outcome} by {result['agent']}"


async def drive(trades: int) -> None:
    async with RegistryClient() as registry:
        async with asyncio.timeout(30):
            await everybody_is_there(registry)
        for done in asyncio.as_completed([trade(registry, number) for number in range(1, trades + 1)]):
            print(await done, flush=True)
        for agent in await registry.discover_agents(ServiceQuery(max_load_factor=1.0, limit=100)):
            served = agent.performance_metrics.get("requests_served", 0)
            print(f"{agent.agent_id}: {agent.status}, load {agent.load_factor:.2f}, {served:.0f} requests served")


def main() -> None:
    options = argparse.ArgumentParser(description="Run a small trading fleet.")
    options.add_argument("--trades", type=int, default=12)
    trades = options.parse_args().trades
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends us as Ctrl-C does
    processes = [
        # A session of its own each: Ctrl-C is for us, and we end them in order.
        subprocess.Popen([sys.executable, HERE / f"{kind}.py", agent_id], start_new_session=True)
        for kind, agent_id in AGENTS
    ]
    try:
        asyncio.run(drive(trades))
    except KeyboardInterrupt:
        print("stopped")
    finally:
        for process in processes:
            process.terminate()  # they finish their work and deregister
        for process in processes:
            process.wait(timeout=30)


if __name__ == "__main__":
    main()
