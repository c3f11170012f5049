"""What starts and stops agents for an orchestrator: the contract, whatever runs them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class LaunchError(Exception):
    """An agent cannot be started or stopped now. The orchestrator says so, and tries again while the order holds."""


class LauncherFullError(LaunchError):
    """As many agents run as may; trying again helps no sooner than one of them has ended."""


class Launcher(Protocol):
    """Starts and stops agents: as processes, containers, machines. Three methods, and this is all that is asked of it.

    It counts and names; whether an agent *serves* is the registry's to say. For one capability the orchestrator calls
    `start` one at a time, but `stop` and `running` at any time, several at once; and each again after a failure or its
    own restart: all have to be safe to repeat.
    """

    async def start(self, agent_id: str, capability: str) -> str | None:
        """Start one agent that has a capability; it registers when it is up. Return without waiting for that.

        Safe to repeat for the same `agent_id`: who runs under it is not started once more. A platform that names its
        agents itself, as Kubernetes does its pods, ignores `agent_id`; it must then have what it started, be it not
        running yet, in `running` when this returns, for that is what a repetition goes by.

        Args:
            agent_id: The id under which the agent is to register, made from the order that asks for it.
            capability: What it must be able to do.

        Returns:
            The id under which it will register; None where that is known only later.

        Raises:
            LauncherFullError: If no more may run.
            LaunchError: If it cannot be started now. It may have been: `running` says so next time.
        """
        ...

    async def stop(self, agent_id: str) -> None:
        """End one agent, and return when it has ended, or will without anybody's help.

        It has drained by now, or its time for that has passed: what does not end when asked to is made to. One that has
        ended, or that this launcher did not start, is no error and nothing happens; whoever else runs it ends it.

        Args:
            agent_id: The id under which it registered.

        Raises:
            LaunchError: If it cannot be stopped now.
        """
        ...

    async def running(self, capability: str) -> Collection[str]:
        """Return the agents that were started for a capability and have not ended, registered or not.

        Those that are being started, and those that have crashed and are about to be started again, are among them,
        also when an earlier life of this program started them; whoever is being stopped is not. Who has no name yet is
        there under any that is nobody's: only how many there are matters then.

        Raises:
            LaunchError: If that cannot be told now.
        """
        ...
