"""Rules on what agents must not be together: who is refused, who is told of, what is durable of that."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.core.catalog import Catalog
from registry.core.clash import MAX_CLASHES, QUIET, Clash, Refusals
from registry.core.conflicts import LOOK, RETOLD
from registry.core.errors import RefusedError
from registry.core.events import PoliciesReplaced, Verb, ViolationChanged
from registry.core.limits import MAX_ATTEMPTS
from registry.core.query import VersionRange
from registry.core.rule import COUNTED, MAX_RULES, Rule, RuleAction, RuleKind
from registry.core.status import Status
from registry.core.violation import MAX_NAMED, Violation
from tests.core.make import make_agent
from tests.core.shell import Fate, Shell, World


def major(*numbers: int) -> VersionRange:
    """A range of versions: those whose first number is one of these."""
    return VersionRange("|".join(map(str, numbers)), lambda version: int(version.split(".")[0]) in numbers)


BOTH = Rule("four-eyes", RuleKind.COMBINATION, capabilities=("analysis", "trading"))
MAJORS = Rule("majors", RuleKind.VERSIONS, agent_type="worker", versions=(major(1), major(2), major(3)))
VISION = Rule("vision", RuleKind.VERSIONS, capability="vision", versions=(major(1), major(2)))


def only_told(rule: Rule) -> Rule:
    return Rule(
        rule.name, rule.kind, RuleAction.REPORT, rule.capabilities, rule.agent_type, rule.capability, rule.versions
    )


def told(shell: Shell) -> list[tuple[str, tuple[str, ...], bool, bool]]:
    """What was published of conflicts: about what, who, whether somebody was refused, whether it is over."""
    return [
        (event["rule"] or event["claim"], tuple(event["agents"]), event["refused"], event["resolved"])
        for event in shell.conflicts
    ]


def broken(shell: Shell) -> dict[str, list[str]]:
    """Who breaks which rule, by what the registry answers."""
    return {
        rule["name"]: list(rule["violation"]["agents"])
        for rule in _report(shell)["rules"]
        if rule["violation"] is not None
    }


def _report(shell: Shell) -> dict[str, Any]:
    from registry.core.ruling import rules_report

    return rules_report(shell.state, None)


# What a rule says.


@pytest.mark.parametrize(
    ("rule", "agent", "sides"),
    [
        (BOTH, ("worker", ("analysis",), "1.0"), ()),
        (BOTH, ("worker", ("analysis", "trading", "vision"), "1.0"), (0,)),
        (MAJORS, ("worker", ("analysis",), "1.0"), (0,)),
        (MAJORS, ("worker", ("analysis",), "3.1"), (2,)),
        (MAJORS, ("worker", ("analysis",), "4.0"), ()),
        (MAJORS, ("trader", ("analysis",), "1.0"), ()),
        (VISION, ("worker", ("analysis",), "1.0"), ()),
        (VISION, ("worker", ("vision",), "2.0"), (1,)),
    ],
)
def test_where_an_agent_stands(rule: Rule, agent: tuple[str, tuple[str, ...], str], sides: tuple[int, ...]):
    assert rule.sides(*agent) == sides


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": RuleKind.COMBINATION}, "capabilities"),
        ({"kind": RuleKind.COMBINATION, "capabilities": ("analysis",)}, "capabilities"),
        ({"kind": RuleKind.COMBINATION, "capabilities": ("analysis", "trading"), "agent_type": "x"}, "agent_type"),
        ({"kind": RuleKind.COMBINATION, "capabilities": ("analysis", "trading"), "capability": "x"}, "capability"),
        ({"kind": RuleKind.COMBINATION, "capabilities": ("analysis", "trading"), "versions": (major(1),)}, "versions"),
        ({"kind": RuleKind.VERSIONS, "agent_type": "x", "versions": (major(1),)}, "versions"),
        ({"kind": RuleKind.VERSIONS, "versions": (major(1), major(2))}, "agent_type"),
        ({"kind": RuleKind.VERSIONS, "agent_type": "x", "capability": "y", "versions": (major(1), major(2))},
         "agent_type"),
        ({"kind": RuleKind.VERSIONS, "capabilities": ("a", "b"), "agent_type": "x", "versions": (major(1), major(2))},
         "capabilities"),
    ],
)  # fmt: skip
def test_what_is_no_rule(fields: dict[str, Any], named: str):
    with pytest.raises(RefusedError) as caught:
        Rule("x", **fields).check()
    assert (caught.value.code, caught.value.details[0][0]) == ("invalid_request", named)


# Who is refused.


def test_one_agent_must_not_have_both(shell: Shell):
    shell.set_rule(BOTH)
    assert shell.register("a", capabilities=("analysis", "vision")).code is None
    reply = shell.register("b", capabilities=("analysis", "trading"))
    assert reply.code == "conflict"
    assert reply.body.message == "capabilities: rule 'four-eyes' lets no agent have analysis and trading together"
    assert "b" not in shell.state.agents


def test_versions_must_not_run_side_by_side(shell: Shell):
    shell.set_rule(MAJORS)
    assert shell.register("a", version="1.0").code is None
    assert shell.register("b", version="1.7").code is None
    reply = shell.register("c", version="2.0")
    assert reply.code == "conflict"
    assert reply.body.message == "version: rule 'majors' lets no 2.0 run beside 1, which agent 'a' runs"
    assert shell.register("c", version="9.0").code is None, "of no range"
    assert shell.register("d", version="2.0", agent_type="trader").code is None, "of another type"


@pytest.mark.parametrize("how", ["deregister", "drain", "offline"])
def test_who_is_on_the_way_out_is_in_nobody_s_way(world: World, shell: Shell, how: str):
    """So a fleet can be changed over: the old ones are told to leave, the new ones come at once."""
    shell.set_rule(MAJORS)
    shell.register("a", version="1.0")
    if how == "offline":
        world.advance(101.0)
    else:
        shell.command(Verb(how))
    assert shell.register("b", version="2.0").code is None
    again = shell.register("a", version="1.0", instance_id="i2", takeover=True)
    assert again.code == "conflict", "who comes back is new"


@pytest.mark.parametrize("status", sorted(COUNTED))
def test_who_is_suspended_or_degraded_is_in_the_way(world: World, shell: Shell, status: Status):
    shell.set_rule(MAJORS)
    shell.register("a", version="1.0")
    world.beat("a", health_score={Status.ACTIVE: 1.0, Status.DEGRADED: 0.6, Status.SUSPENDED: 0.1}[status])
    assert shell.state.get("a").status is status
    assert shell.register("b", version="2.0").code == "conflict"


def test_a_rule_throws_nobody_out(world: World, shell: Shell):
    """Who broke it before it was set goes on, changes what it likes, and is replaced by its like."""
    shell.register("a", instance_id="i1", version="1.0", capabilities=("analysis", "trading"))
    shell.register("b", instance_id="i1", version="2.0")
    shell.set_rule(BOTH)
    shell.set_rule(MAJORS)
    same = {"version": "1.0", "capabilities": ("analysis", "trading")}
    assert shell.register("a", instance_id="i1", tags=("x",), **same).code is None
    assert shell.register("a", instance_id="i2", takeover=True, **same).code is None
    assert shell.beat("a", load_factor=0.5).code is None
    assert shell.register("b", instance_id="i1", version="3.0").code == "conflict", "another range is another conflict"
    assert shell.command(Verb.SUSPEND, "b").code is None


def test_nobody_changes_into_what_a_rule_forbids(shell: Shell):
    shell.set_rule(BOTH)
    shell.set_rule(MAJORS)
    shell.register("a", instance_id="i1", version="1.0")
    shell.register("b", instance_id="i1", version="1.0")
    assert shell.register("a", instance_id="i1", version="1.0", capabilities=("analysis", "trading")).code == "conflict"
    assert shell.register("a", instance_id="i1", version="2.0").code == "conflict"
    shell.command(Verb.DEREGISTER, "b")
    assert shell.register("a", instance_id="i1", version="2.0").code is None, "alone it may change over"


def test_two_at_one_replica(shell: Shell):
    """Of two that come before either is durable, the first is admitted."""
    shell.set_rule(MAJORS)
    shell.manual = True
    first, second = shell.register("a", version="1.0"), shell.register("b", version="2.0")
    shell.release()
    assert (first.code, second.code) == (None, "conflict")


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"version": "2.0", "capabilities": ("vision",)}, "conflict"),
        ({"version": "1.1", "capabilities": ("vision",)}, None),
        ({"version": "2.0"}, None),
    ],
)
def test_who_is_about_to_be_there_is_in_the_way(shell: Shell, first: dict[str, Any], code: str | None):
    """Its write may have taken place and not be acknowledged yet; whom the rule does not concern is in nobody's way."""
    shell.set_rule(VISION)
    shell.manual = True
    shell.register("a", **first)
    second = shell.register("b", version="1.0", capabilities=("vision",))
    shell.carry_out(1)
    shell.deliver()
    assert second.code == code
    assert "a" not in shell.state.agents
    shell.release()
    assert second.code == code


def test_many_at_once_are_not_looked_at_one_by_one(shell: Shell):
    """A fleet that starts at once has thousands of writes on their way, of a few versions."""
    looks = 0

    def accepts(version: str) -> bool:
        nonlocal looks
        looks += 1
        return version == "9"

    nine = VersionRange("9", accepts)
    shell.set_rule(Rule("nine", RuleKind.VERSIONS, agent_type="worker", versions=(nine, nine)))
    shell.manual = True
    for number in range(200):
        shell.register(f"a{number}", version="1")
    before = looks
    shell.register("b", version="9")
    assert looks - before < 10
    shell.release()


def test_what_slips_through_at_two_replicas_is_told(world: World, shell: Shell):
    shell.set_rule(MAJORS)
    other = world.replica("two")
    shell.manual = other.manual = True
    replies = [shell.register("a", version="1.0"), other.register("b", version="2.0")]
    world.settle()
    assert [reply.code for reply in replies] == [None, None]
    world.advance(2 * LOOK, beating=("a", "b"))
    assert told(shell) == [("majors", ("a", "b"), False, False)]


def test_a_rule_that_only_reports_admits(world: World, shell: Shell):
    shell.set_rule(only_told(BOTH))
    assert shell.register("a", capabilities=("analysis", "trading")).code is None
    assert broken(shell) == {"four-eyes": ["a"]}
    world.advance(2 * LOOK, beating=("a",))
    assert told(shell) == [("four-eyes", ("a",), False, False)]


# What is told of refusals.


def test_a_refusal_is_told_of_once_while_it_goes_on(world: World, shell: Shell):
    shell.register("a", claims=("db",))
    for _ in range(200):
        shell.register("b", claims=("db",))
        world.advance(1.0, beating=("a",))
    assert told(shell) == [("db", ("b", "a"), True, False)]
    assert shell.state.refusals.counts == {"claim": 200}
    world.advance(QUIET + 1.0, beating=("a",))
    shell.register("b", claims=("db",))
    assert len(told(shell)) == 2, "after a quiet minute it is news"


def test_another_holder_is_another_refusal(world: World, shell: Shell):
    for holder in ("a", "c"):
        shell.register(holder, claims=("db",))
        shell.register("b", claims=("db",))
        shell.command(Verb.DEREGISTER, holder)
    assert told(shell) == [("db", ("b", "a"), True, False), ("db", ("b", "c"), True, False)]


def test_what_another_replica_refused_is_told_by_the_leader(world: World, shell: Shell):
    other = world.replica("two")
    shell.set_rule(BOTH)
    for _ in range(3):
        assert other.register("b", capabilities=("analysis", "trading")).code == "conflict"
    shell.register("b", capabilities=("analysis", "trading"))
    assert told(shell) == [("four-eyes", ("b",), True, False)]
    assert (other.state.refusals.counts, shell.state.refusals.counts) == ({"combination": 3}, {"combination": 1})
    assert other.conflicts == []


def test_a_claim_that_was_lost_to_another_replica_is_told_of(world: World, shell: Shell):
    """Who came second is refused only when the log shows it."""
    other = world.replica("two")
    other.deaf = True
    shell.register("a", claims=("db",))
    assert other.register("b", claims=("db",)).body is None
    other.hear()
    world.settle()
    assert told(shell) == [("db", ("b", "a"), True, False)]


def test_many_refusals_take_bounded_memory():
    refusals = Refusals()
    news = [refusals.is_news(Clash("claim", "db", f"b{n}", "a", ""), 1.0) for n in range(2 * MAX_CLASHES)]
    assert sum(news) == MAX_CLASHES
    assert refusals.is_news(Clash("claim", "db", "late", "a", ""), 1.0 + QUIET)


# What is told of rules that are broken.


def test_a_rule_is_broken_and_kept_again(world: World, shell: Shell):
    shell.register("a", version="1.0")
    shell.register("b", version="2.0")
    world.advance(2 * LOOK, beating=("a", "b"))
    assert told(shell) == []
    shell.set_rule(MAJORS)
    world.advance(2 * LOOK, beating=("a", "b"))
    assert told(shell) == [("majors", ("a", "b"), False, False)]
    assert shell.conflicts[0]["message"] == "rule 'majors': 1 run by a, 2 run by b"
    since = _report(shell)["rules"][0]["violation"]["since"]
    world.advance(40.0, beating=("a", "b"))  # checkpoints are no news
    shell.command(Verb.SUSPEND, "a")
    world.advance(2 * LOOK, beating=("a", "b"))
    assert len(told(shell)) == 1
    assert _report(shell)["rules"][0]["violation"]["since"] == since
    shell.command(Verb.DRAIN, "a")
    world.advance(2 * LOOK, beating=("a", "b"))
    assert told(shell)[1:] == [("majors", (), False, True)]
    assert broken(shell) == {}


def test_since_when_a_rule_is_broken(world: World, shell: Shell):
    """This time: not since it was broken before, nor since another rule of that name was."""

    def since() -> float:
        world.advance(2 * LOOK, beating=("a", "b"))
        return _report(shell)["rules"][0]["violation"]["since"]

    shell.register("a", capabilities=("analysis", "trading"))
    shell.set_rule(BOTH)
    first = since()
    shell.register("b", capabilities=("analysis", "trading", "vision"))
    assert since() == first
    shell.set_rule(only_told(BOTH))
    second = since()
    assert second > first
    for agent_id in ("a", "b"):
        shell.command(Verb.DEREGISTER, agent_id)
    world.advance(2 * LOOK)
    assert broken(shell) == {}
    shell.register("c", capabilities=("analysis", "trading"))
    assert since() > second


def test_what_is_over_before_the_next_look_is_not_told(world: World, shell: Shell):
    shell.set_rule(only_told(BOTH))
    world.advance(LOOK)
    shell.register("a", capabilities=("analysis", "trading"))
    shell.command(Verb.DEREGISTER, "a")
    world.advance(3 * LOOK)
    assert told(shell) == []


def test_each_further_agent_is_told_of(world: World, shell: Shell):
    shell.set_rule(only_told(BOTH))
    for agent_id in ("a", "b"):
        shell.register(agent_id, capabilities=("analysis", "trading"))
        world.advance(2 * LOOK, beating=("a", "b"))
    shell.command(Verb.DEREGISTER, "a")
    world.advance(2 * LOOK, beating=("b",))
    assert told(shell) == [("four-eyes", ("a",), False, False), ("four-eyes", ("a", "b"), False, False)]


def test_of_very_many_some_are_named(world: World, shell: Shell):
    shell.set_rule(only_told(MAJORS))
    for number in range(2 * MAX_NAMED):
        shell.register(f"a{number}", version="1.0", heartbeat_timeout=900.0)
    shell.register("b", version="2.0", heartbeat_timeout=900.0)
    world.advance(2 * LOOK)
    shell.register("c", version="2.0", heartbeat_timeout=900.0)
    world.advance(2 * LOOK)
    (event,) = shell.conflicts
    assert (len(event["agents"]), event["total"]) == (MAX_NAMED // 2 + 1, 2 * MAX_NAMED + 1)
    assert "b" in event["agents"], "of each range"
    assert event["message"] == f"rule 'majors': 1 run by a0, a1, a2 and {2 * MAX_NAMED - 3} more, 2 run by b"


def test_a_rule_that_is_changed_or_removed(world: World, shell: Shell):
    shell.register("a", capabilities=("analysis", "trading"))
    shell.set_rule(BOTH)
    world.advance(2 * LOOK, beating=("a",))
    shell.set_rule(only_told(BOTH))
    world.advance(2 * LOOK, beating=("a",))
    assert told(shell) == [("four-eyes", ("a",), False, False)] * 2, "another rule is broken anew"
    shell.set_rule(None, "four-eyes")
    world.advance(2 * LOOK, beating=("a",))
    assert told(shell)[2:] == [("four-eyes", (), False, True)]
    assert shell.conflicts[-1]["message"] == "rule 'four-eyes' is gone"
    world.advance(RETOLD + 2 * LOOK, beating=("a",))
    assert shell.state.violations.told == {}, "of a rule that is gone nothing stays"


# Another leader.


def test_another_leader_tells_nothing_twice(world: World, shell: Shell):
    other = world.replica("two")
    shell.register("a", capabilities=("analysis", "trading"))
    shell.set_rule(BOTH)
    world.advance(2 * LOOK, beating=("a",))
    shell.follow()
    other.lead()
    world.advance(3 * LOOK, beating=("a",))
    assert [event["event_id"] for event in other.conflicts] == list(world.stream), "the same id, for it may be lost"
    other.follow()
    world.advance(RETOLD, beating=("a",))
    shell.lead()
    world.advance(3 * LOOK, beating=("a",))
    assert len(shell.conflicts) == 1
    assert len(world.stream) == 1


def test_another_leader_tells_the_end_of_what_began_before(world: World, shell: Shell):
    other = world.replica("two")
    shell.register("a", capabilities=("analysis", "trading"))
    shell.set_rule(BOTH)
    world.advance(2 * LOOK, beating=("a",))
    shell.follow()
    other.command(Verb.DEREGISTER)
    world.advance(RETOLD)
    other.lead()
    world.advance(3 * LOOK)
    assert told(other) == [("four-eyes", (), False, True)]


def test_what_a_leader_had_written_and_not_published(world: World, shell: Shell):
    """It dies right after, or is cut off: whoever leads by then publishes it as its log tells of it."""
    other = world.replica("two")
    shell.register("a", capabilities=("analysis", "trading"))
    shell.set_rule(BOTH)
    shell.manual = other.deaf = True
    world.advance(2 * LOOK, beating=("a",))
    while shell.todo:
        shell.carry_out()
    shell.follow()
    other.lead()
    assert world.stream == {}
    other.deaf = False
    world.run()
    assert told(other) == [("four-eyes", ("a",), False, False)]


@pytest.mark.parametrize("fate", [Fate.UNACKED, Fate.LOST, Fate.LATE])
def test_what_is_told_and_not_acknowledged(world: World, shell: Shell, fate: Fate):
    """It is in the stream once, whatever became of the write."""
    shell.register("a", capabilities=("analysis", "trading"))
    shell.set_rule(BOTH)
    shell.fates.append(fate)
    world.advance(3 * LOOK, beating=("a",))
    world.land_late()
    world.advance(3 * LOOK, beating=("a",))
    assert [event["agents"] for event in world.stream.values()] == [("a",)]


def test_a_control_bucket_that_is_made_anew(world: World, shell: Shell):
    shell.register("a", capabilities=("analysis", "trading"))
    shell.set_rule(BOTH)
    world.advance(2 * LOOK, beating=("a",))
    world.rules.__init__()
    shell.rules_heard = 0
    shell.handle(PoliciesReplaced(world.now))
    world.advance(2 * LOOK, beating=("a",))
    assert (broken(shell), len(told(shell))) == ({}, 1)
    assert shell.register("b", capabilities=("analysis", "trading")).code is None
    assert shell.set_rule(BOTH)["rules"][0]["revision"] == 1


def test_a_control_bucket_that_goes_back_to_an_older_state(world: World, shell: Shell):
    """What was told long ago is not told again."""
    shell.register("a", capabilities=("analysis", "trading"))
    shell.set_rule(BOTH)
    world.advance(2 * LOOK, beating=("a",))
    before = shell.state.violations.told[BOTH.name]
    shell.set_rule(None, BOTH.name)
    world.advance(RETOLD + LOOK, beating=("a",))
    shell.conflicts.clear()
    shell.handle(PoliciesReplaced(world.now))
    shell.handle(ViolationChanged(world.now, BOTH.name, before, 1))
    assert shell.conflicts == []


# Setting rules.


def test_a_rule_is_answered_when_durable(world: World, shell: Shell):
    other = world.replica("two")
    shell.manual = True
    reply = shell.set_rule(MAJORS)
    assert (reply.body, shell.state.catalog.rules.own) == (None, {})
    shell.release()
    (rule,) = reply["rules"]
    assert rule == {
        "name": "majors", "kind": "versions", "action": "refuse", "capabilities": None, "agent_type": "worker",
        "capability": None, "versions": ("1", "2", "3"), "revision": 1, "violation": None,
    }  # fmt: skip
    assert other.state.catalog.rules.own == {"majors": MAJORS}
    assert shell.set_rule(None, "majors").body == {"rules": [], "unreadable": []}
    assert other.state.catalog.rules.own == {}


def test_what_is_there_already_is_not_written_again(world: World, shell: Shell):
    shell.set_rule(BOTH)
    assert shell.set_rule(BOTH)["rules"][0]["revision"] == 1
    assert shell.set_rule(None, "never-there")["rules"] == []
    assert len(world.rules.log) == 1


@pytest.mark.parametrize("name", ["juggling"])
def test_a_capability_that_is_not_known(shell: Shell, name: str):
    one = shell.set_rule(Rule("x", RuleKind.COMBINATION, capabilities=("analysis", name)))
    two = shell.set_rule(Rule("x", RuleKind.VERSIONS, capability=name, versions=(major(1), major(2))))
    assert [reply.body.details[0][0] for reply in (one, two)] == ["capabilities", "capability"]


def test_a_change_of_what_was_seen(shell: Shell):
    """Compare-and-set, for who asks for it."""
    assert shell.set_rule(BOTH, revision=5).code == "conflict"
    assert shell.set_rule(BOTH, revision=0).code is None
    assert shell.set_rule(BOTH, revision=0).code is None, "asked again, it has been done"
    reply = shell.set_rule(only_told(BOTH), revision=0)
    assert reply.body.message == "revision: the rule 'four-eyes' has 1, not 0; look at it again"
    assert shell.set_rule(only_told(BOTH), revision=1).code is None
    assert shell.set_rule(None, "four-eyes", revision=1).code == "conflict"
    assert shell.set_rule(None, "four-eyes", revision=2).code is None


def test_so_many_rules_and_no_more(shell: Shell):
    for number in range(MAX_RULES):
        shell.set_rule(Rule(f"r{number}", RuleKind.COMBINATION, capabilities=("analysis", "trading")))
    assert shell.set_rule(BOTH).code == "conflict"
    assert shell.set_rule(Rule("r0", RuleKind.COMBINATION, capabilities=("analysis", "vision"))).code is None


@pytest.mark.parametrize("fate", [Fate.UNACKED, Fate.LOST, Fate.LATE])
def test_unknown_outcome(world: World, shell: Shell, fate: Fate):
    shell.fates.append(fate)
    assert shell.set_rule(BOTH)["rules"][0]["name"] == "four-eyes"
    world.land_late()
    assert len(world.rules.log) == 1


def test_a_rule_that_somebody_else_changes_again_and_again(world: World, shell: Shell):
    shell.manual = shell.deaf = True
    reply = shell.set_rule(BOTH)
    for number in range(MAX_ATTEMPTS):
        world.rules.append("four-eyes", only_told(MAJORS) if number % 2 else MAJORS)
        shell.carry_out()
        shell.deliver()
    assert reply.code == "unavailable"
    world.rules.append("four-eyes", BOTH)


def test_the_bucket_cannot_be_read(world: World, shell: Shell):
    shell.manual = True
    reply = shell.set_rule(BOTH)
    shell.disconnect()
    shell.carry_out(fate=Fate.LOST)
    shell.deliver()
    shell.connect()
    assert reply.code == "unavailable"
    assert "try again" in reply.body.message


def test_what_cannot_be_read_does_not_hold_and_is_set_anew(world: World, shell: Shell):
    world.rules.append("four-eyes", None, readable=False)
    world.run()
    assert shell.register("a", capabilities=("analysis", "trading")).code is None
    assert _report(shell) == {"rules": [], "unreadable": ["four-eyes"]}
    assert shell.set_rule(None, "four-eyes")["unreadable"] == []
    world.rules.append("four-eyes", None, readable=False)
    world.run()
    assert shell.set_rule(BOTH)["rules"][0]["violation"]["agents"] == ("a",)


def test_what_may_have_been_asked_before_a_standstill_is_refused(world: World, shell: Shell):
    world.now += 30.0
    assert shell.set_rule(BOTH).code == "unavailable"


@pytest.mark.parametrize("form", [{}, {"kind": 1}, {"agents": None}])
def test_what_is_no_violation(form: dict[str, Any]):
    whole = Violation("versions", 3, ("a",), 1, 1.0, 2.0, 1, "x").to_json()
    assert Violation.from_json(whole).agents == ("a",)
    with pytest.raises(ValueError, match="not what was told"):
        Violation.from_json({**whole, **form} if "agents" in form else form)


# The index says what looking at everybody would.

AGENTS = st.sampled_from(["a", "b", "c"])
STATUSES = st.sampled_from(list(Status))
CAPABILITY_SETS = st.sets(st.sampled_from(["analysis", "trading", "vision"]), min_size=1).map(sorted).map(tuple)
STEPS = st.one_of(
    st.tuples(AGENTS, STATUSES, CAPABILITY_SETS, st.sampled_from(["1.0", "2.0", "3.0", "4.0"])),
    st.tuples(AGENTS),
    st.sampled_from([BOTH, MAJORS, VISION]),
    st.sampled_from(["four-eyes", "majors", "vision"]),
)


@given(st.lists(STEPS, max_size=25))
def test_who_breaks_what_is_what_looking_at_everybody_says(steps: list[Any]):
    catalog, rules = Catalog(lambda: 0.5), dict[str, Rule]()
    for revision, step in enumerate(steps, 1):
        records = [agent.record for agent in catalog.agents.values()]
        if isinstance(step, Rule):
            rules[step.name] = step
            catalog.rules.learn(step.name, step, revision, records)
        elif isinstance(step, str):
            rules.pop(step, None)
            catalog.rules.learn(step, None, revision, records)
        else:
            if step[0] in catalog.agents:
                catalog.remove(catalog.agents[step[0]])
            if len(step) > 1:
                _, status, capabilities, version = step
                catalog.add(make_agent(step[0], status=status, capabilities=capabilities, version=version))
    catalog.validate()
    counted = [agent.record for agent in catalog.agents.values() if agent.record.status in COUNTED]
    for name, rule in rules.items():
        if rule.kind is RuleKind.COMBINATION:
            expected = any(set(rule.capabilities) <= set(record.capabilities) for record in counted)
        else:
            concerned = [
                record
                for record in counted
                if record.agent_type == rule.agent_type or rule.capability in record.capabilities
            ]
            majors = {
                record.version[0] for record in concerned if any(r.accepts(record.version) for r in rule.versions)
            }
            expected = len(majors) > 1
        assert catalog.rules.is_broken(name) is expected, name
