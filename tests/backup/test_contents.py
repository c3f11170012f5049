"""A whole backup: in order, none missing, none twice; and bounded in memory."""

from __future__ import annotations

import io

import pytest

from agent_registry.backup.contents import lines_of, read
from agent_registry.backup.form import MAX_LINE, BackupError
from tests.backup.lines import agent, header, policy, saved


def refused(*lines: bytes) -> tuple[int, str]:
    with pytest.raises(BackupError) as caught:
        saved(*lines)
    return caught.value.line, caught.value.message


def test_a_backup_is_read_in_order() -> None:
    found = saved(header(2, 1), agent("b"), policy(min_agents=2), agent("a"))
    assert [(each.kind, each.key, each.line) for each in found] == [
        ("agent", "b", 2), ("policy", "trading", 3), ("agent", "a", 4),
    ]  # fmt: skip


def test_an_empty_registry_is_one_line() -> None:
    assert saved(header(0)) == []


def test_the_last_line_may_lack_its_end() -> None:
    """Nothing is missing then but what some editors add."""
    assert len(saved(header(), agent()[:-1])) == 1


def test_the_header_is_read_before_the_rest() -> None:
    head, entries = read(io.BytesIO(header() + b"nonsense"))
    assert (head.prefix, head.revision) == ("registry", 9)
    with pytest.raises(BackupError):
        next(entries)


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        ([], 1, "is empty"),
        ([header(3), agent("a"), agent("b")], 3, "agents: 2, and line 1 says 3: the backup is cut off"),
        ([header(1, 1), agent("a")], 2, "policies: 0, and line 1 says 1: the backup is cut off"),
        ([header(2)], 1, "agents: 0, and line 1 says 2: the backup is cut off"),
        ([header(2), agent("a"), agent("b")[:99]], 3, "ends in the middle: the backup is cut off"),
        ([header(1), agent("a"), agent("b")], 3, "agents: 2, and line 1 says 1: there are too many"),
        ([header(2), agent("a"), agent("a")], 3, "key: 'a' is that of line 2, too"),
        ([header(0, 2), policy(min_agents=1), policy(max_agents=3)], 3, "key: 'trading' is that of line 2, too"),
        ([header(2), agent("a", claims=["db"]), agent("b", claims=["db"])], 3, "'db' is claimed in line 2, too"),
        ([agent("a"), header()], 1, "format: must be"),
    ],
)
def test_a_backup_that_is_damaged(lines: list[bytes], line: int, said: str) -> None:
    number, message = refused(*lines)
    assert number == line
    assert said in message


def test_an_agent_and_a_policy_may_have_the_same_key() -> None:
    assert len(saved(header(1, 1), agent("trading"), policy("trading", min_agents=1))) == 2


def test_an_offline_agent_holds_no_claim() -> None:
    lines = agent("a", claims=["db"], status="offline"), agent("b", claims=["db"])
    assert len(saved(header(2), *lines)) == 2


def test_a_line_without_end_is_not_read_to_its_end() -> None:
    stream = io.BytesIO(header() + b"x" * 10 * MAX_LINE)
    next(lines_of(stream))
    assert len(next(lines_of(stream))) == MAX_LINE + 1
