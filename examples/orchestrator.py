"""An orchestrator: starts and stops agents as the registry's scaling orders say.

For each capability it is given a command that starts one agent; `{agent_id}` in it becomes the id to register under.

    agent-registry up                          (in another terminal)
    python examples/orchestrator.py trading 'python examples/trading_fleet/trading.py {agent_id}'

The registry wants two agents of a capability by default as soon as it knows of one, or has a policy for it:

    agent-registry scaling set trading --min 3
    agent-registry watch
"""

import argparse
import asyncio
import contextlib
import secrets
import shlex
import signal
import time

from agents_sdk import AgentStatus, NotFoundError, RegistryClient, ScalingOrder, ServiceQuery

IN_SERVICE = (AgentStatus.ACTIVE, AgentStatus.DEGRADED)


class Orchestrator:
    """Acts on the number of agents that an order wants, compared with what is there now.

    An order is never taken as "two more": lost, late or repeated, it would then start too few or too many.
    """

    def __init__(self, registry: RegistryClient, commands: dict[str, str]) -> None:
        self.registry = registry
        self.commands = commands
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    async def run(self) -> None:
        # Durable: NATS remembers what was read, so orders given while this was away come now.
        async for order in self.registry.events("scaling", durable="example-orchestrator"):
            if isinstance(order, ScalingOrder):
                await self.carry_out(order)

    async def carry_out(self, order: ScalingOrder) -> None:
        said = f"{order.action} {order.capability} {order.observed.agents} -> {order.desired}: {order.reason}"
        known = order.capability in self.commands
        current = time.time() < order.expires_at  # else it has been issued again, if it still matters
        print(said if known and current else f"{'too old' if known else 'not mine'}: {said}", flush=True)
        if known and current:
            await self.adjust(order)

    async def adjust(self, order: ScalingOrder) -> None:
        query = ServiceQuery(
            {order.capability}, statuses=set(AgentStatus), min_health_score=0.0, max_load_factor=1.0, limit=1000
        )
        agents = await self.registry.discover_agents(query)
        serving = [agent.agent_id for agent in agents if agent.status in IN_SERVICE]
        if order.action == "scale_up":
            coming = self.running(order.capability) - {agent.agent_id for agent in agents}
            for _ in range(order.desired - len(serving) - len(coming)):
                await self.start(order.capability)
        elif order.action == "scale_down":
            for agent_id in order.agents[: max(0, len(serving) - order.desired)]:
                await self.drain(agent_id)
        elif order.action == "replace":
            for agent_id in order.agents:
                await self.start(order.capability)  # first the new one, so that capacity does not drop
                await self.drain(agent_id)

    def running(self, capability: str) -> set[str]:
        """Ids of a capability's agents that were started here and have not ended."""
        return {
            agent_id
            for agent_id, process in self.processes.items()
            if process.returncode is None and agent_id.startswith(f"{capability}-")
        }

    async def start(self, capability: str) -> None:
        agent_id = f"{capability}-{secrets.token_hex(4)}"
        command = shlex.split(self.commands[capability].replace("{agent_id}", agent_id))
        # A session of its own: Ctrl-C is for us, and we end the agents in order.
        self.processes[agent_id] = await asyncio.create_subprocess_exec(*command, start_new_session=True)
        print(f"started {agent_id}", flush=True)

    async def drain(self, agent_id: str) -> None:
        """Have an agent finish its work and leave, wherever it runs; an agent of the SDK ends by itself then."""
        try:
            await self.registry.drain_agent(agent_id, "scaling")
            print(f"draining {agent_id}", flush=True)
        except NotFoundError:
            print(f"{agent_id} has left already", flush=True)

    async def close(self) -> None:
        """End what was started here; the agents finish their work first."""
        running = [process for process in self.processes.values() if process.returncode is None]
        for process in running:
            process.terminate()
        await asyncio.gather(*(process.wait() for process in running))


async def main() -> None:
    options = argparse.ArgumentParser(description="Carry out the registry's scaling orders.")
    options.add_argument("commands", nargs="+", metavar="CAPABILITY COMMAND", help="what starts an agent of what kind")
    words = options.parse_args().commands
    if len(words) % 2:
        options.error("each CAPABILITY needs a COMMAND")
    commands = dict(zip(words[::2], words[1::2], strict=True))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asyncio.current_task().cancel)
    async with RegistryClient() as registry:
        vocabulary = await registry.capabilities()
        unknown = set(commands) - {capability.name for capability in vocabulary.capabilities}
        if unknown and not vocabulary.open:  # nothing would ever be ordered
            options.error(
                f"the registry knows no capability {', '.join(sorted(unknown))}; see: agent-registry capabilities"
            )
        orchestrator = Orchestrator(registry, commands)
        print(f"orchestrating {', '.join(commands)}", flush=True)
        try:
            await orchestrator.run()
        finally:
            await orchestrator.close()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())
