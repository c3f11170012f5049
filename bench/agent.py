"""An agent as the SDK makes it, and nothing else: `python -m bench.agent ID URL HEARTBEAT_INTERVAL`."""

from __future__ import annotations

import sys

from agents_sdk import Agent


def main() -> None:
    agent_id, url, heartbeat_interval = sys.argv[1:]
    Agent(
        "bench_agent", ["trading"], agent_id=agent_id, nats=url, heartbeat_interval=float(heartbeat_interval)
    ).run()  # fmt: skip


if __name__ == "__main__":
    main()
