"""Rules on what agents must not be together, and who breaks them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from agents_sdk.protocol.fields import RULE_NAME_PATTERN, Capability, Count, Flag, Name, Text, sorted_unique
from agents_sdk.protocol.model import Command, Reply
from agents_sdk.protocol.vocabulary import RuleAction, RuleKind

RuleName = Annotated[str, Field(strict=True, pattern=RULE_NAME_PATTERN)]


class ConflictQuery(Command):
    """Which rule to show."""

    name: RuleName | None = None
    """All when left out."""


class RuleChange(Command):
    """A rule in the place of the one of that name, if there is one."""

    name: RuleName
    kind: RuleKind | None = None
    """Required, unless the rule is to be removed."""
    capabilities: Annotated[tuple[Capability, ...], AfterValidator(sorted_unique), Field(max_length=64)] | None = None
    """Of a combination: what one agent must not have together, two or more."""
    agent_type: Name | None = None
    """Of versions: whose; either this or `capability`."""
    capability: Capability | None = None
    versions: Annotated[tuple[Text, ...], Field(max_length=16)] | None = None
    """Of versions: specifiers such as `<2` and `>=2`, of which only one may be run at a time; two or more."""
    action: RuleAction = RuleAction.REFUSE
    revision: Count | None = None
    """The one that was seen, 0 if there was none: changed only if it is that still."""
    remove: Flag = False


class RuleViolation(Reply):
    """Who breaks a rule now."""

    agents: list[str]
    """At most 100."""
    total: int
    since: float | None
    """Unix time at which it was found; None before that was told."""


class ConflictRule(Reply):
    """A rule."""

    name: str
    kind: RuleKind
    action: RuleAction
    capabilities: list[str] | None
    agent_type: str | None
    capability: str | None
    versions: list[str] | None
    revision: int
    """Of the rule in the control bucket."""
    violation: RuleViolation | None


class ConflictReport(Reply):
    """Rules, and who breaks them now."""

    rules: list[ConflictRule]
    unreadable: list[str]
    """Names of rules that the bucket has in a form that cannot be read; they do not hold."""
