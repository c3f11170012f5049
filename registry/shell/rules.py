"""Rules, and what was told of them, as they are asked for and as they stand in the control bucket."""

from __future__ import annotations

from typing import Any

from agents_sdk.protocol.codec import adapter, check, parse
from agents_sdk.protocol.conflicts import RuleChange
from agents_sdk.protocol.errors import RegistryError
from registry.core.errors import RefusedError, invalid
from registry.core.rule import Rule, RuleAction, RuleKind
from registry.core.violation import Violation
from registry.shell.entry import Entry
from registry.shell.logs import get_logger
from registry.shell.versions import check_apart, version_range

log = get_logger(__name__)

RULE = "conflict."
VIOLATION = "violation."
"""What the keys of rules begin with, and of what was told of them."""

_CHANGE = adapter(RuleChange)


def rule_of(change: RuleChange) -> Rule | None:
    """Return the rule that a change asks for; None if there is to be none.

    Raises:
        RefusedError: If it asks for both or for neither, or a version specifier is none.
    """
    given = change.model_fields_set - {"name", "revision", "remove"}
    if change.remove and given:
        raise invalid("remove", f"removes the rule as it is; leave out {', '.join(sorted(given))}")
    if change.remove:
        return None
    if change.kind is None:
        raise invalid("kind", "must be 'combination' or 'versions', or remove true")
    return Rule(
        change.name,
        RuleKind(change.kind),
        RuleAction(change.action),
        change.capabilities or (),
        change.agent_type,
        change.capability,
        tuple(version_range(text, f"versions[{n}]") for n, text in enumerate(change.versions or ())),
    )


def wanted_rule(change: RuleChange) -> Rule | None:
    """Return the same for a change that somebody asks for now, whose ranges of versions must not overlap.

    Raises:
        RefusedError: As above, or if they do.
    """
    rule = rule_of(change)
    if rule is not None:
        check_apart(rule.versions, "versions")
    return rule


def rule_in(entry: Entry) -> tuple[Rule | None, bool]:
    """Return the rule that an entry holds, and whether it can be read; one that cannot is logged.

    It is None for a removal, and for what is no rule.
    """
    if entry.removed:
        return None, True
    name = entry.key.removeprefix(RULE)
    try:
        form: dict[str, Any] = {**parse(entry.value), "name": name}
        rule = rule_of(check(_CHANGE, form))
        if rule is not None:
            rule.check()
            return rule, True
        why = "it says that it is to be removed"
    except (RegistryError, RefusedError) as error:
        why = str(error)
    log.error("rule_unreadable", rule=name, error=why)
    return None, False


def violation_in(entry: Entry) -> Violation | None:
    """Return what was told of a rule; None for a removal, and for what cannot be read, which is logged."""
    if entry.removed:
        return None
    try:
        return Violation.from_json(parse(entry.value))
    except (RegistryError, ValueError) as error:
        log.error("violation_unreadable", key=entry.key, error=repr(error))  # noqa: TRY400
        return None
