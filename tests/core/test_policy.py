"""Scaling policies: what is refused, and how a change is merged into what a capability has."""

from __future__ import annotations

from typing import Any

import pytest

from registry.core.errors import RefusedError
from registry.core.policies import Policies
from registry.core.policy import Policy


def make_policies(**policies: dict[str, Any]) -> Policies:
    known = Policies(Policy())
    known.own.update(policies)
    return known


def test_defaults_are_the_reference_s():
    """The API reference's defaults, and they pass the check."""
    policy = Policy()
    assert (policy.min_agents, policy.max_agents) == (2, 10)
    assert (policy.high_load, policy.low_load, policy.health_degraded) == (0.8, 0.3, 0.6)
    policy.check()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"min_agents": 11}, "min_agents: must be at most max_agents, 10; got 11"),
    ({"min_agents": 0, "max_agents": 0}, "max_agents: must be at least 1; got 0"),
    ({"low_load": 0.8}, "low_load: must be below high_load, 0.8; got 0.8"),
    ({"low_load": 0.9}, "low_load: must be below high_load, 0.8; got 0.9"),
    ({"target_load": 0.3}, "target_load: must be above low_load, 0.3, and at most high_load, 0.8; got 0.3"),
    ({"target_load": 0.81}, "target_load: must be above low_load, 0.3, and at most high_load, 0.8; got 0.81"),
    ({"high_load": 1.0}, "high_load: must be below 1, for no load is above that; got 1"),
    (
        {"tolerance": 0.9},
        "tolerance: target_load, 0.55, and this share of it must be below 1, for no load is above that; got 0.9",
    ),
    (
        {"min_agents": 1, "low_load": 0.4},
        "low_load: would oscillate: one of 2 agents removed at low_load 0.4 leaves the others at 0.8, "
        "not below high_load 0.8",
    ),
    (
        {"min_agents": 0, "low_load": 0.45},
        "low_load: would oscillate: one of 2 agents removed at low_load 0.45 leaves the others at 0.9, "
        "not below high_load 0.8",
    ),
    (
        {"min_agents": 2, "high_load": 0.75, "low_load": 0.5},
        "low_load: would oscillate: one of 3 agents removed at low_load 0.5 leaves the others at 0.75, "
        "not below high_load 0.75",
    ),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=str)
def test_refused(fields: dict[str, Any], message: str):
    """A policy that contradicts itself or must oscillate is refused; the field, its value and its bounds are named."""
    with pytest.raises(RefusedError) as refused:
        Policy(**fields).check()
    assert (refused.value.code, refused.value.message) == ("invalid_request", message)
    assert refused.value.details == (tuple(message.split(": ", 1)),)


@pytest.mark.parametrize(
    "fields",
    [
        {"min_agents": 10},
        {"min_agents": 0, "max_agents": 1, "low_load": 0.5, "target_load": 0.6},
        {"target_load": 0.8},
        {"target_load": 0.301},
        {"min_agents": 1, "low_load": 0.39},
        {"min_agents": 2, "low_load": 0.5},
        {"min_agents": 10, "low_load": 0.5},
    ],
    ids=str,
)
def test_accepted(fields: dict[str, Any]):
    """The bounds themselves are good, and no oscillation is seen where no agent can be removed."""
    Policy(**fields).check()


def test_a_capability_s_policy_is_over_the_default():
    """What a capability sets holds for it; the rest is the default's, also when that changes."""
    policies = make_policies(vision={"min_agents": 4})
    assert policies.of("vision") == Policy(min_agents=4)
    assert policies.of("trading") == Policy()
    policies.default = Policy(max_agents=7)
    assert policies.of("vision") == Policy(min_agents=4, max_agents=7)


def test_changes_are_merged():
    """A change sets what it names and keeps the rest; nothing is applied before it is durable."""
    policies = make_policies(vision={"min_agents": 4})
    assert policies.changed("vision", {"max_agents": 6}, reset=False) == {"min_agents": 4, "max_agents": 6}
    assert policies.own == {"vision": {"min_agents": 4}}


def test_reset():
    """A reset drops the capability's own policy first; without further changes it then has none."""
    policies = make_policies(vision={"min_agents": 4})
    assert policies.changed("vision", {}, reset=True) is None
    assert policies.changed("vision", {"max_agents": 6}, reset=True) == {"max_agents": 6}
    assert policies.changed("trading", {}, reset=False) is None


def test_a_change_that_would_not_do_is_refused():
    """A change is checked together with what the capability has."""
    with pytest.raises(RefusedError, match="min_agents: must be at most max_agents, 3; got 4"):
        make_policies(vision={"min_agents": 4}).changed("vision", {"max_agents": 3}, reset=False)


def applied(policies: Policies, **changes: float) -> Policy:
    own = policies.changed("vision", changes, reset=False)
    assert own is not None
    policies.own["vision"] = own
    return policies.of("vision")


def test_target_follows_the_thresholds():
    """Who moves a threshold and names no target aims at the middle."""
    assert applied(make_policies(), high_load=0.9).target_load == pytest.approx(0.6)
    assert applied(make_policies(), low_load=0.1, high_load=0.5).target_load == pytest.approx(0.3)


def test_target_follows_later_changes_too():
    """A target that nobody named never stands in the way of a later change of a threshold."""
    policies = make_policies()
    applied(policies, high_load=0.9)
    assert applied(policies, low_load=0.55).target_load == pytest.approx(0.725)
    assert applied(policies, low_load=0.59, high_load=0.99).target_load == pytest.approx(0.79)


def test_a_named_target_is_kept():
    """A target that was named stays, and a threshold that contradicts it is refused."""
    policies = make_policies()
    applied(policies, target_load=0.5)
    assert applied(policies, high_load=0.9).target_load == 0.5
    with pytest.raises(RefusedError, match=r"target_load: must be above low_load, 0\.5"):
        applied(policies, low_load=0.5)
