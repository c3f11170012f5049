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

from agents_sdk import Orchestrator, RegistryClient


class Processes:
    """Starts agents as processes on this machine. Elsewhere this would talk to Kubernetes, Nomad or systemd."""

    def __init__(self, commands: dict[str, str]) -> None:
        self.commands = commands
        self.started: dict[str, tuple[str, asyncio.subprocess.Process]] = {}

    async def start(self, capability: str) -> str:
        agent_id = f"{capability}-{secrets.token_hex(4)}"
        command = shlex.split(self.commands[capability].replace("{agent_id}", agent_id))
        # A session of its own: Ctrl-C is for us, and we end the agents in order.
        process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
        self.started[agent_id] = (capability, process)
        return agent_id

    def running(self, capability: str) -> list[str]:
        return [
            agent_id
            for agent_id, (able_to, process) in self.started.items()
            if able_to == capability and process.returncode is None
        ]

    async def close(self) -> None:
        """End what was started here; the agents finish their work first."""
        running = [process for _, process in self.started.values() if process.returncode is None]
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
    processes = Processes(commands)
    async with RegistryClient() as registry:
        vocabulary = await registry.capabilities()
        unknown = set(commands) - {capability.name for capability in vocabulary.capabilities}
        if unknown and not vocabulary.open:  # nothing would ever be ordered
            options.error(
                f"the registry knows no capability {', '.join(sorted(unknown))}; see: agent-registry capabilities"
            )
        # Durable: NATS remembers what was read, so orders given while this was away come now.
        orchestrator = Orchestrator(registry, processes, commands, durable="example-orchestrator", say=say)
        say(f"orchestrating {', '.join(commands)}")
        try:
            await orchestrator.run()
        finally:
            await processes.close()


def say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())
