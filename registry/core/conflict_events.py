"""Facts about rules, and about what is told of conflicts. They are part of `events.Event`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from registry.core.clash import Clash
from registry.core.rule import Rule
from registry.core.violation import Violation


@dataclass(slots=True)
class RuleRequested:
    """Somebody asks for a rule in the place of the one of that name, if there is one.

    Attributes:
        rule: None if there is to be none.
        revision: Which revision of it is meant, 0 for none; None for whatever is there.
    """

    at: float
    reply: Any
    name: str
    rule: Rule | None
    revision: int | None = None


@dataclass(slots=True)
class RulePut:
    """The bucket acknowledged a rule that was asked for."""

    at: float
    request: RuleRequested
    revision: int


@dataclass(slots=True)
class RuleFound:
    """A rule was not written, or nobody knows, and the bucket was read; revision 0 if it never had one."""

    at: float
    request: RuleRequested
    attempts: int
    rule: Rule | None
    revision: int
    readable: bool = True
    """Whether what stands there is a rule, or none."""


@dataclass(slots=True)
class RuleUnknown:
    """A rule was not written, or nobody knows, and the bucket could not be read."""

    at: float
    request: RuleRequested
    why: str = "JetStream does not answer"


@dataclass(slots=True)
class RuleChanged:
    """The bucket's log has a rule, written by whomever; None when it was removed."""

    at: float
    name: str
    rule: Rule | None
    revision: int
    readable: bool = True


@dataclass(slots=True)
class ViolationPut:
    """The bucket acknowledged what is told of a rule."""

    at: float
    rule: str
    violation: Violation | None
    revision: int


@dataclass(slots=True)
class ViolationLost:
    """What is told of a rule lost against another write, or its outcome is unknown."""

    at: float
    rule: str


@dataclass(slots=True)
class ViolationChanged:
    """The bucket's log has what was told of a rule, written by whomever; None when that was removed."""

    at: float
    rule: str
    violation: Violation | None
    revision: int


@dataclass(slots=True)
class RefusalTold:
    """Another replica says that it has refused a registration."""

    at: float
    clash: Clash
