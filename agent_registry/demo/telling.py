"""The demo in plain lines, for a pipe, a log or whoever prefers them; and what is said when it is over."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING

from agent_registry.demo.story import SHORTENED
from agent_registry.wording import count, number

if TYPE_CHECKING:
    from agent_registry.demo.ledger import Happening, Ledger

SUMMARY_INTERVAL = 5.0


class Teller:
    """Says each thing once, on a line of its own.

    Args:
        ledger: What is known now.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._title = ""
        self._next_summary = SUMMARY_INTERVAL

    def happened(self, happening: Happening) -> None:
        """Say what happened."""
        self.tick()
        self._say(f"{happening.who} {happening.words}")

    def tick(self) -> None:
        """Say which scene has begun, and from time to time how things are."""
        ledger = self._ledger
        if ledger.title != self._title:
            self._title = ledger.title
            print(f"\n== {ledger.title} ==\n{textwrap.fill(ledger.caption, 100)}", flush=True)
        if ledger.begun is not None and ledger.elapsed >= self._next_summary:
            self._next_summary = ledger.elapsed + SUMMARY_INTERVAL
            self._say(standing(ledger))

    def _say(self, words: str) -> None:
        print(f"{self._ledger.age:5.1f} s  {words}", flush=True)


def standing(ledger: Ledger) -> str:
    """Return how things are now, on one line."""
    parts = [
        f"{item.capability}: {count(item.observed.agents, 'agent')}, load {number(item.observed.mean_load)}"
        for item in ledger.scaling
    ]
    if ledger.load is not None:
        done, _ = ledger.load.recent()
        parts.append(f"trades: {ledger.load.rate:.0f}/s asked for, {done:.0f}/s done, {ledger.load.failed} failed")
    return "; ".join(parts)


def closing(ledger: Ledger) -> str:
    """Return what was seen, and where to go from here."""
    lines = ["", "What you saw:"]
    load = ledger.load
    if load is not None:
        failed = f"; {load.failed} failed, the last because {load.last_failure}" if load.failed else "; none failed"
        lines.append(f"  {load.done} trades{failed}")
    lines.append(f"  {count(ledger.orders, 'scaling order')}; at most {count(ledger.most, 'trader')} at the same time")
    if ledger.found_after is not None:
        lines.append(f"  {ledger.victims['crash']} was found dead {ledger.found_after:.1f} s after kill -9")
    statuses = Counter(str(agent.status) for agent in ledger.agents)
    lines.append("  at the end: " + ", ".join(f"{amount} {status}" for status, amount in sorted(statuses.items())))
    lines += ["", textwrap.fill(SHORTENED, 100)]
    lines += ["", "Everything that was started has been ended. Your own registry: agent-registry up", ""]
    return "\n".join(lines)


def show(text: str) -> None:
    """Print a text as it is."""
    sys.stdout.write(text)
    sys.stdout.flush()
