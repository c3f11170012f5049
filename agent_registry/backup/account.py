"""What became of the entries of a backup: counted, and told to people or to programs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from agent_registry.backup.form import Header, Saved
from agent_registry.backup.restorer import Outcome, Result
from agent_registry.wording import count, moment

MAX_TOLD = 20
"""At most this many agents that are refused are named."""

_NOUNS = {"agent": "agent", "policy": "scaling policy", "rule": "rule"}


class Account:
    """Takes note of each entry.

    Args:
        prefix: Which registry they are put into.
        dry_run: Whether it is only what would become of them.
        quiet: Whether they are counted only.
    """

    def __init__(self, prefix: str, dry_run: bool, quiet: bool) -> None:
        self.dry_run = dry_run
        self.refused = 0
        """Agents that could not be put back."""
        self.new_buckets: list[str] = []
        """Buckets that were not there before."""
        self._prefix = prefix
        self._quiet = quiet
        self._counts: Counter[tuple[str, Outcome]] = Counter()

    @property
    def total(self) -> int:
        """Entries that are done with."""
        return self._counts.total()

    def note(self, saved: Saved, result: Result) -> None:
        """Take note of one, and tell of it where that is asked for or needed."""
        self._counts[saved.kind, result.outcome] += 1
        said = f"line {saved.line}: {_NOUNS[saved.kind]} {saved.key}: {result.outcome.value}"
        if result.note:
            said += f", {result.note}"
        if self.dry_run and not self._quiet:
            sys.stdout.write(f"{said}\n")
        if result.outcome is Outcome.CLAIMED:
            self.refused += 1
            if not self.dry_run and self.refused <= MAX_TOLD:
                sys.stderr.write(f"{said}\n")

    def summary(self, header: Header) -> Iterator[str]:
        """Yield the last lines for people."""
        if header.prefix != self._prefix:  # meant so, or mistyped
            yield f"into the registry with prefix {self._prefix}; the backup is of the one with prefix {header.prefix}"
        if self.new_buckets:
            done = "are not there, and would be made" if self.dry_run else "were not there, and have been made"
            yield f"buckets of prefix {self._prefix} that {done}: {', '.join(self.new_buckets)}"
        backup = f"the backup of {moment(header.at)}"
        yield f"a dry run of {backup}: nothing was written; it would be:" if self.dry_run else f"from {backup}:"
        for kind, noun in _NOUNS.items():
            counts = {outcome: self._counts[kind, outcome] for outcome in Outcome}
            parts = [f"{number} {outcome.value}" for outcome, number in counts.items() if number]
            yield f"  {count(sum(counts.values()), noun)}" + (f": {', '.join(parts)}" if parts else "")

    def document(self) -> dict[str, Any]:
        """Return the counts for programs."""
        counts = {kind: {outcome.name.lower(): self._counts[kind, outcome] for outcome in Outcome} for kind in _NOUNS}
        return {
            "dry_run": self.dry_run,
            "prefix": self._prefix,
            "new_buckets": self.new_buckets,
            "agents": counts["agent"],
            "policies": counts["policy"],
            "rules": counts["rule"],
        }
