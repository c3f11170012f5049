"""The commands that change an agent, and the scaling policies."""

from __future__ import annotations

import pytest

from agents_sdk import ServiceQuery
from tests.cli.conftest import Do
from tests.cli.running import Up


def test_suspend_and_resume(do: Do, up: Up) -> None:
    up.register("ada")
    code, out, _ = do("suspend", "ada", "--reason", "lunch", "--nats", up.url)
    assert code == 0
    assert out == "ada is suspended (operator: lunch); not discovered until: agent-registry resume ada\n"
    assert "suspended (operator: lunch) for" in do("get", "ada", "--nats", up.url).out
    assert do("resume", "ada", "--nats", up.url, "--json").document["status"] == "active"


def test_drain(do: Do, up: Up) -> None:
    up.register("bob")
    document = do("drain", "bob", "--nats", up.url, "--json").document
    assert (document["status"], document["status_reason"]) == ("deregistering", "draining")
    code, _, err = do("resume", "bob", "--nats", up.url)
    assert code == 3
    assert err.startswith("error: conflict: ")


def test_deregister(do: Do, up: Up) -> None:
    up.register("eve")
    up.register("mallory")
    assert do("deregister", "eve", "--nats", up.url).out == "eve deregistered\n"
    assert do("deregister", "mallory", "--nats", up.url, "--json").document == {
        "agent_id": "mallory",
        "deregistered": True,
    }


def test_deregistering_nobody_is_no_error(do: Do, up: Up) -> None:
    """As on the wire: whoever asks wants it gone, and it is."""
    outcome = do("deregister", "nobody", "--nats", up.url, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.document == {"agent_id": "nobody", "deregistered": False}
    assert do("deregister", "nobody", "--nats", up.url) == (0, "no agent 'nobody' is registered; nothing to do\n", "")


def test_assignments_are_listed_and_released(do: Do, up: Up) -> None:
    up.register("cecile")
    assert do("assignments", "--agent", "nobody", "--nats", up.url).out == "no assignments\n"
    trading = ServiceQuery(capabilities={"trading"}, exclude={"ada", "bob", "mallory"})
    won = up.ask(lambda registry: registry.assign(trading, task_id="order 7", ttl=3600.0))
    code, out, _ = do("assignments", "--nats", up.url)
    assert code == 0
    assert f"{won.assignment_id}  cecile" in out
    assert "order 7" in out
    assert "1 assignment\n" in out
    document = do("assignments", "--task", "order 7", "--nats", up.url, "--json").document
    assert document["assignments"][0]["fencing_token"] == won.fencing_token
    assert do("release", won.assignment_id, "--nats", up.url).out == f"{won.assignment_id} released\n"
    again = do("release", won.assignment_id, "--nats", up.url)
    assert again.out == f"no assignment '{won.assignment_id}' lives; nothing to do\n"
    assert do("release", "x", "--nats", up.url, "--json").document == {"assignment_id": "x", "released": False}


@pytest.mark.parametrize("verb", ["suspend", "resume", "drain"])
def test_nobody_cannot_be_operated_on(do: Do, up: Up, verb: str) -> None:
    code, out, err = do(verb, "nobody", "--nats", up.url)
    assert (code, out) == (3, "")
    assert err.startswith("error: not_found: ")


def test_an_id_that_is_none_is_refused_with_what_would_be_one(do: Do, up: Up) -> None:
    code, _, err = do("suspend", "a.b", "--nats", up.url)
    assert code == 3
    assert "A-Z, a-z, 0-9, _ and -" in err


def test_scaling_shows_why(do: Do, up: Up) -> None:
    up.register("carol", capabilities=["backtesting"])
    report = do("scaling", "--capability", "backtesting", "--nats", up.url, "--json").document
    assert [item["capability"] for item in report["capabilities"]] == ["backtesting"]
    code, out, _ = do("scaling", "--nats", up.url)
    assert code == 0
    assert "backtesting" in out
    assert "2-10" in out


def test_a_policy_is_set_and_reset(do: Do, up: Up) -> None:
    set_ = ("scaling", "set", "research", "--nats", up.url)
    changes = ("--min", "3", "--max", "8", "--high-load", "0.9", "--low-load", "0.2", "--replace-below", "0.5")
    times = ("--stabilisation-down", "60", "--order-timeout", "30", "--target-load", "0.6", "--looks", "5")
    more = ("--stabilisation-up", "5", "--step-up", "2", "--step-down", "1", "--panic-load", "2", "--tolerance", "0.05")
    rest = ("--warm-up", "10", "--queue-weight", "0.5", "--replace-share", "0.2", "--dry-run")
    policy = do(*set_, *changes, *times, *more, *rest, "--json").document["capabilities"][0]["policy"]
    assert {name: policy[name] for name in policy if name not in ("capability", "source")} == {
        "min_agents": 3,
        "max_agents": 8,
        "high_load": 0.9,
        "low_load": 0.2,
        "target_load": 0.6,
        "health_degraded": 0.5,
        "tolerance": 0.05,
        "looks": 5,
        "stabilisation_up": 5.0,
        "stabilisation_down": 60.0,
        "panic_load": 2.0,
        "step_up": 2,
        "step_down": 1,
        "warm_up": 10.0,
        "queue_weight": 0.5,
        "replace_share": 0.2,
        "dry_run": True,
        "order_timeout": 30.0,
    }
    assert "3-8" in do("scaling", "--nats", up.url).out
    policy = do(*set_, "--reset", "--json").document["capabilities"][0]["policy"]
    assert (policy["min_agents"], policy["source"]) == (2, "default")


def test_a_policy_that_contradicts_itself_is_refused(do: Do, up: Up) -> None:
    code, _, err = do("scaling", "set", "research", "--min", "9", "--max", "3", "--nats", up.url)
    assert code == 3
    assert "min_agents" in err
