"""Assignments as a table."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from agent_registry.columns import Column, fitted
from agent_registry.wording import ago, duration

if TYPE_CHECKING:
    from agents_sdk.protocol.assignments import ListedAssignment


def assignments_table(assignments: Iterable[ListedAssignment], width: int) -> Table:
    """Return the assignments that live, the oldest first."""
    columns = (
        Column("ASSIGNMENT"),
        Column("AGENT"),
        Column("SLOTS", right=True),
        Column("TASK", wraps=True, least=12),
        Column("SINCE", right=True, rank=1),
        Column("ENDS IN", right=True),
        Column("TOKEN", right=True, rank=2),
    )
    rows = [
        (
            each.assignment_id,
            each.agent_id,
            str(each.slots),
            each.task_id,
            ago(each.assigned_at),
            duration(each.expires_at - time.time()),
            str(each.fencing_token),
        )
        for each in assignments
    ]
    return fitted(columns, rows, width)
