"""Tables fit their window: columns give way, words stay whole."""

from __future__ import annotations

import io

from rich.console import Console

from agent_registry.columns import Column, fitted

COLUMNS = (
    Column("AGENT"), Column("TYPE", rank=2), Column("LOAD", right=True),
    Column("CAPABILITIES", rank=3, wraps=True), Column("WHY", rank=1, wraps=True),
)  # fmt: skip
ROWS = [
    ("trading_agent-k7", "trading_agent", "0.35", "risk_management, sentiment_analysis, trading", "operator: lunch"),
    ("b", "b", "-", "trading", "registered"),
]


def lines(width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(fitted(COLUMNS, ROWS, width), crop=False)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_with_room_for_all_there_is_one_line_each() -> None:
    assert lines(200) == [
        "AGENT             TYPE           LOAD  CAPABILITIES                                  WHY",
        "trading_agent-k7  trading_agent  0.35  risk_management, sentiment_analysis, trading  operator: lunch",
        "b                 b                 -  trading                                       registered",
    ]


def test_cells_wrap_between_words() -> None:
    assert lines(75) == [
        "AGENT             TYPE           LOAD  CAPABILITIES         WHY",
        "trading_agent-k7  trading_agent  0.35  risk_management,     operator: lunch",
        "                                       sentiment_analysis,",
        "                                       trading",
        "b                 b                 -  trading              registered",
    ]


def test_columns_go_by_rank_and_are_named() -> None:
    assert lines(56) == [
        "AGENT             TYPE           LOAD  WHY",
        "trading_agent-k7  trading_agent  0.35  operator: lunch",
        "b                 b                 -  registered",
        "no room for CAPABILITIES",
    ]
    assert lines(40)[0] == "AGENT             LOAD  WHY"


def test_what_names_a_row_stays_whole_in_any_window() -> None:
    assert lines(10)[:2] == ["AGENT             LOAD", "trading_agent-k7  0.35"]


def test_an_empty_table_has_its_heading() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(fitted(COLUMNS, [], 80))
    assert console.export_text().split() == ["AGENT", "TYPE", "LOAD", "CAPABILITIES", "WHY"]
