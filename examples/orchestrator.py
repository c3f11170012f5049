"""An orchestrator of one's own: processes by the SDK's launcher, and an action that only the application can carry out.

    agent-registry up                          (in another terminal)
    agent-registry scaling set trading --min 2
    python examples/orchestrator.py trading 'python examples/worker.py'

For one command and nothing else there is `agent-registry orchestrate`. Elsewhere than on this machine, agents are
started by another launcher: `kubernetes` beside this file has one.
"""

import argparse
import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path

from agents_sdk import LaunchError, Orchestrator, ProcessLauncher, RegistryClient, RegistryError, ScalingOrder


async def main(options: argparse.Namespace) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asyncio.current_task().cancel)
    launcher = ProcessLauncher(options.command, folder=options.folder, max_processes=options.max, say=say)
    async with RegistryClient() as registry, launcher:
        await registry.scaling(options.capability)  # refused, if there is no such capability
        # Durable: NATS remembers what was done, so orders given while this was away are carried out now.
        orchestrator = Orchestrator(
            registry, launcher, [options.capability], durable=f"example-{options.capability}", say=say
        )

        @orchestrator.on("rebalance")
        async def rebalance(order: ScalingOrder) -> None:
            say(f"to be moved between {', '.join(order.agents)}: whatever is tied to one agent here")

        say(f"orchestrating {options.capability}")
        await orchestrator.run()


def say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description="Carry out the registry's scaling orders.")
    words.add_argument("capability")
    words.add_argument("command", help="what starts an agent; {agent_id} and {capability} are filled in")
    words.add_argument("--max", type=int, default=10, help="processes at most")
    words.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir(), "example-agents"), help="where their logs go"
    )
    chosen = words.parse_args()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(main(chosen))
    except (ValueError, LaunchError, RegistryError) as error:
        words.error(str(error))
