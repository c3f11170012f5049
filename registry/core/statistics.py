"""Counts since this replica started."""

from __future__ import annotations

from collections import Counter


class Statistics:
    """What `stats` reports beside what the catalog counts."""

    def __init__(self) -> None:
        self.registrations = 0
        self.discoveries = 0
        self.heartbeats = 0
        self.heartbeats_dropped = 0
        self.health_checks = 0
        self.failed_health_checks = 0
        self.canaries_run = 0
        self.canaries_failed = 0
        self.scaling_orders = 0
        self.assignments = 0
        """Made; repetitions are not counted."""
        self.returns = 0
        """Times that an agent came back after it was gone, silent or hung."""
        self.write_conflicts = 0
        self.refused: Counter[str] = Counter()
