"""Rules as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from agent_registry.columns import Column, fitted
from agent_registry.wording import ago

if TYPE_CHECKING:
    from agents_sdk.protocol.conflicts import ConflictRule, RuleViolation

SHOWN = 3
"""Agents that are named of those that break a rule."""


def rules_table(rules: Iterable[ConflictRule], width: int) -> Table:
    """Return the rules, what they forbid, and who breaks them now."""
    columns = (
        Column("RULE"),
        Column("FORBIDS", wraps=True, least=20),
        Column("THEN"),
        Column("BROKEN BY", wraps=True, least=16),
        Column("FOR", right=True, rank=1),
    )
    rows = [
        (
            rule.name,
            _forbidden(rule),
            rule.action,
            _broken_by(rule.violation),
            "" if rule.violation is None or rule.violation.since is None else ago(rule.violation.since),
        )
        for rule in rules
    ]
    return fitted(columns, rows, width)


def _forbidden(rule: ConflictRule) -> str:
    if rule.capabilities is not None:
        return f"{' with '.join(rule.capabilities)} in one agent"
    whose = f"of type {rule.agent_type}" if rule.agent_type is not None else f"with {rule.capability}"
    return f"{' beside '.join(rule.versions or ())} {whose}"


def _broken_by(violation: RuleViolation | None) -> Text:
    if violation is None:
        return Text("nobody", style="dim")
    shown = ", ".join(violation.agents[:SHOWN])
    more = f" and {violation.total - SHOWN} more" if violation.total > SHOWN else ""
    return Text(f"{shown}{more}", style="red")
