"""The commands that look: tables for people, JSON for pipes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agent_registry.tables import agent_pairs
from agents_sdk import AgentInfo
from agents_sdk.protocol.discovery import Evidence, FailingCanary
from tests.cli.conftest import Do
from tests.cli.running import Up
from tests.contract.test_agent_cards import CARD


@pytest.fixture(scope="module")
def url(up: Up) -> str:
    """Where NATS listens; three agents are registered."""
    up.register("ada", tags=["fast"], version="2.1.0", metadata={"exchange": "hyperliquid", "limit": 5})
    up.register("bob", capabilities=["trading", "execution"], metadata={"a2a_card": CARD})
    up.register("eve", agent_type="risk_agent", capabilities=["risk_management"])
    health = {"health_score": 0.7, "load_factor": 0.25}
    up.ask(lambda registry: registry.update_agent_health("bob", health))
    up.ask(lambda registry: registry.suspend_agent("eve", "lunch"))
    return up.url


def ids(do: Do, *arguments: str) -> list[str]:
    outcome = do(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    return [agent["agent_id"] for agent in outcome.document["agents"]]


def test_agents_lists_everyone_with_condition_and_reason(do: Do, url: str) -> None:
    code, out, err = do("agents", "--nats", url)
    assert (code, err) == (0, "")
    heading, *rows = [line.split() for line in out.splitlines() if line]
    assert heading[:3] == ["AGENT", "TYPE", "STATUS"]
    assert [row[0] for row in rows] == ["eve", "ada", "bob", "3"], "by type, then by id"
    assert rows[0][2] == "suspended"
    assert rows[0][-2:] == ["operator:", "lunch"]
    assert rows[2][2] == "degraded"
    assert "0.70" in rows[2]
    assert "0.25" in rows[2]


def test_agents_can_be_narrowed_down(do: Do, url: str) -> None:
    assert ids(do, "agents", "--nats", url) == ["eve", "ada", "bob"]
    assert ids(do, "agents", "--nats", url, "--status", "suspended", "--status", "degraded") == ["eve", "bob"]
    assert ids(do, "agents", "--nats", url, "--type", "trading_agent") == ["ada", "bob"]
    assert ids(do, "agents", "--nats", url, "-c", "execution") == ["bob"]
    assert do("agents", "--nats", url, "--tag", "nobody").out == "no agent matches\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"ada", "bob"}),
        (("--capability", "trading", "--capability", "execution"), {"bob"}),
        (("--capability", "TRADING"), {"ada", "bob"}),
        (("--type", "risk_agent"), set()),
        (("--min-health", "0.8"), {"ada"}),
        (("--max-load", "0.2"), {"ada"}),
        (("--tag", "fast"), {"ada"}),
        (("--version", ">=2,<3"), {"ada"}),
        (("--metadata", "exchange=hyperliquid", "--metadata", "limit=5"), {"ada"}),
        (("--metadata", "limit=6"), set()),
        (("--skill", "spot-quote"), {"bob"}),
        (("--skill", "spot-quote", "--skill", "hedge"), set()),
        (("--exclude", "ada"), {"bob"}),
        (("--status", "suspended"), {"eve"}),
        (("--limit", "1", "--sort", "health"), {"ada"}),
        (("--limit", "1", "--sort", "load"), {"ada"}),
        (("--limit", "1", "--prefer-tag", "fast", "--sort", "random"), {"ada"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_discover_has_an_option_for_each_field_of_a_query(
    do: Do, url: str, options: tuple[str, ...], expected: set[str]
) -> None:
    assert set(ids(do, "discover", "--nats", url, *options)) == expected


def test_discover_explains(do: Do, url: str) -> None:
    outcome = do("discover", "--nats", url, "--min-health", "0.8", "--explain", "--json")
    assert [miss["agent_id"] for miss in outcome.document["near_misses"]] == ["bob", "eve"]
    _, out, _ = do("discover", "--nats", url, "--min-health", "0.8", "--explain")
    assert "left out  bob: " in out
    assert "1 of 1 that match" in out


def test_discover_says_how_to_learn_why_nobody_matches(do: Do, url: str) -> None:
    assert do("discover", "--nats", url, "--capability", "backtesting").out == (
        "no agent matches; see why with --explain\n"
    )


def test_discover_does_not_answer_from_an_older_state(do: Do, url: str) -> None:
    code, _, err = do("discover", "--nats", url, "--min-revision", "1000000")
    assert code == 4
    (line,) = err.splitlines()
    assert line.startswith("error: unavailable: min_revision: 1000000 is not known here yet, ")


def test_get_shows_everything_known_of_one(do: Do, url: str) -> None:
    code, out, _ = do("get", "ada", "--nats", url)
    assert code == 0
    for fact in ("ada", "trading_agent", "fast", "2.1.0", "hyperliquid", "every 30 s, lost after 90 s"):
        assert fact in out
    assert do("get", "ada", "--nats", url, "--json").document["metadata"] == {"exchange": "hyperliquid", "limit": 5}


def test_its_canaries_are_among_it() -> None:
    agent = AgentInfo("ada", "trader", {"trading"}, canaries={"trading": {"topic": "quote", "payload": {}}})
    failing = {"trading": FailingCanary(since=1.0, why="the answer is not JSON")}
    agent.evidence = Evidence(
        verdict="alive", since=1.0, silence=0.5, lease_left=60.0, failing_canaries=failing, judged_by="one"
    )
    console = Console(file=io.StringIO(), width=120)
    console.print(agent_pairs(agent))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "canary trading  to topic quote" in shown
    assert "fails its canary of trading since " in shown
    assert "the answer is not JSON" in shown


def test_get_of_nobody_is_refused(do: Do, url: str) -> None:
    code, out, err = do("get", "nobody", "--nats", url)
    assert (code, out) == (3, "")
    assert err.splitlines()[0] == "error: not_found: no agent 'nobody' is registered"
    assert "agent-registry agents" in err.splitlines()[1]


def test_stats(do: Do, url: str) -> None:
    document = do("stats", "--nats", url, "--json").document
    assert document["registered_agents"] == 3
    assert document["capabilities_distribution"] == {"execution": 1, "risk_management": 1, "trading": 2}
    code, out, _ = do("stats", "--nats", url)
    assert code == 0
    assert "registered agents" in out
    assert "active 1, degraded 1, suspended 1" in out
    assert "reconnects 0, errors 0, slow consumer drops 0, resyncs 0" in out


def test_capabilities(do: Do, url: str) -> None:
    counts = {
        item["name"]: item["agents"] for item in do("capabilities", "--nats", url, "--json").document["capabilities"]
    }
    assert counts["trading"] == 2
    assert counts["backtesting"] == 0
    code, out, _ = do("capabilities", "--nats", url)
    assert code == 0
    assert out.splitlines()[1].split() == ["trading", "2"]


def test_an_unknown_capability_is_refused_with_the_known_ones(do: Do, url: str) -> None:
    code, _, err = do("discover", "--nats", url, "--capability", "tradng")
    assert code == 3
    assert err.startswith("error: invalid_request: ")
    assert "trading" in err


def test_the_environment_says_where(do: Do, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", url)
    assert ids(do, "agents") == ["eve", "ada", "bob"]


def test_a_narrow_window_shows_the_words(do: Do, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = do("agents", "--nats", url)
    assert "suspended" in out
    assert "operator" in out
    assert max(map(len, out.splitlines())) <= 80


def test_what_was_never_reported_is_not_shown_as_a_number(do: Do, url: str) -> None:
    _, ada, bob, *_ = sorted(line.split() for line in do("agents", "--nats", url).out.splitlines()[:4])
    assert (ada[0], ada[3:5]) == ("ada", ["-", "-"])
    assert (bob[0], "0.70" in bob, "0.25" in bob) == ("bob", True, True)
    shown = dict(line.split(maxsplit=1) for line in do("get", "ada", "--nats", url).out.splitlines()[:8])
    assert (shown["health"], shown["load"]) == ("-", "-  never reported")


def test_a_table_in_a_pipe_is_as_wide_as_it_likes(do: Do, up: Up) -> None:
    """And its lines have no spaces at their ends."""
    long = "a" * 100
    up.register(long, agent_type="b" * 100, tags=[f"tag-{number}" for number in range(40)])
    for command in (("agents",), ("discover",), ("stats",), ("capabilities",), ("scaling",), ("get", long)):
        out = do(*command, "--nats", up.url).out
        assert [line for line in out.splitlines() if line != line.rstrip()] == []
        assert command[0] not in ("agents", "discover") or f"{long}  {'b' * 100}" in out
    up.ask(lambda registry: registry.deregister_agent(long))


def test_an_id_that_is_none_is_refused_by_the_registry(do: Do, url: str) -> None:
    code, _, err = do("get", "a1\n", "--nats", url)
    assert code == 3
    assert "invalid_request: agent_id: must be 1 to 128 characters" in err
