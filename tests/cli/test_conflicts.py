"""The commands on conflicts: which rules there are, who breaks them, and how to set them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents_sdk import ConflictError
from tests.cli.conftest import Do
from tests.cli.running import Running, Up, command, until


def test_rules_are_set_shown_and_removed(do: Do, up: Up) -> None:
    where = ("--nats", up.url)
    assert do("conflicts", *where).out == "no rules are set\n"
    up.register("ada", version="1.2", agent_type="desk")
    up.register("bob", version="2.0", agent_type="desk")
    set_ = ("conflicts", "set", "majors", "--type", "desk", "--version", "<2", "--version", ">=2")
    code, out, err = do(*set_, "--report", *where)
    assert (code, err) == (0, "")
    heading, line = out.splitlines()
    assert heading.split() == ["RULE", "FORBIDS", "THEN", "BROKEN", "BY", "FOR"]
    assert line.startswith("majors  <2 beside >=2 of type desk  report  ada, bob")
    assert do("conflicts", "set", "four-eyes", "--combine", "trading, execution", *where).code == 0
    assert "four-eyes  execution with trading in one agent  refuse  nobody" in do("conflicts", *where).out
    with pytest.raises(ConflictError, match="four-eyes"):
        up.register("eve", capabilities=["trading", "execution"])
    assert "refused combination 1; standing versions 1" in do("stats", *where).out
    assert do("conflicts", "--rule", "minors", *where).out == "no rule minors is set\n"
    document = do("conflicts", "--rule", "majors", "--json", *where).document
    assert [(rule["name"], rule["violation"]["agents"]) for rule in document["rules"]] == [("majors", ["ada", "bob"])]
    assert do("conflicts", "set", "majors", "--remove", *where).out == "rule majors is removed\n"
    assert do("conflicts", "set", "majors", "--remove", *where).out == "rule majors is not set: nothing to do\n"
    assert do("conflicts", "set", "four-eyes", "--remove", "--json", *where).document["rules"] == []


def test_conflicts_are_watched(do: Do, up: Up, tmp_path: Path) -> None:
    with Running(command("watch", "--nats", up.url), tmp_path) as watch:
        until(lambda: "watching" in watch.stdout)
        do("conflicts", "set", "alone", "--combine", "research,backtesting", "--nats", up.url)
        with pytest.raises(ConflictError):
            up.register("carol", capabilities=["research", "backtesting"])
        until(lambda: "rule 'alone'" in watch.stdout)
        assert "carol" in watch.stdout
        assert "refused" in watch.stdout
    do("conflicts", "set", "alone", "--remove", "--nats", up.url)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to set: neither --combine nor --version"),
        (("--remove", "--combine", "trading,execution"), "--remove goes with no other option of the rule"),
    ],
)
def test_what_says_nothing(do: Do, up: Up, words: tuple[str, ...], said: str) -> None:
    code, _, err = do("conflicts", "set", "x", *words, "--nats", up.url)
    assert code == 2
    assert err.startswith(f"error: {said}\n")


def test_what_the_registry_refuses(do: Do, up: Up) -> None:
    code, _, err = do("conflicts", "set", "x", "--combine", "trading,juggling", "--nats", up.url)
    assert code == 3
    assert "capabilities: 'juggling' is not known here" in err


def test_options_before_set_are_not_lost(do: Do, up: Up) -> None:
    code, _, err = do("conflicts", "--nats", up.url, "set", "x", "--remove")
    assert code == 2
    assert "like: agent-registry conflicts set NAME --nats URL" in err
