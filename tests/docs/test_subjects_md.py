"""subjects.md says what the code does, and nothing else: checked both ways."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from agents_sdk.protocol import codec, events, subjects
from agents_sdk.protocol.assignments import ListedAssignment
from agents_sdk.protocol.canary import CANARY_HEADER, MAX_CANARIES, DeclaredCanary
from agents_sdk.protocol.conflicts import ConflictReport, ConflictRule, RuleViolation
from agents_sdk.protocol.discovery import (
    MAX_LIMIT,
    Adopted,
    AgentInfo,
    CapabilityCount,
    Evidence,
    FailingCanary,
    NearMiss,
)
from agents_sdk.protocol.errors import ERRORS, InvalidRequestError
from agents_sdk.protocol.fields import MAX_METADATA_BYTES, MAX_NESTING, PATTERN_IN_WORDS
from agents_sdk.protocol.operations import OPERATIONS
from agents_sdk.protocol.registration import Connection
from agents_sdk.protocol.scaling import (
    CapabilityScaling,
    EndedOrder,
    Observed,
    ScalingPolicy,
    ScalingReport,
)
from agents_sdk.protocol.schema.messages import EVENTS, Error
from agents_sdk.protocol.schema.query import Document
from agents_sdk.protocol.statistics import ConflictCounts, Judge
from agents_sdk.protocol.subjects import Subjects, agent_topic
from agents_sdk.protocol.topics import DrainNotice, HealthAnswer
from agents_sdk.protocol.vocabulary import AgentStatus, Reason, ScalingAction
from agents_sdk.synadia import QUEUE, SERVICE, Synadia
from registry.core import canaries, clash, flapping, limits, rhythm, rule, violation
from registry.core.agent import UNKNOWN_SUCCESS_RATE
from registry.core.query import STEP
from registry.core.record import Change, Record
from registry.core.status import DISCOVERABLE, FAIR, HEALTHY, Cause, Status, move
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from registry.shell.store import DUPLICATE_WINDOW, EVENTS_MAX_AGE, EVENTS_MAX_BYTES, EXPECTED, HISTORY
from tests.conftest import eventually
from tests.contract.test_bad_input import CASES
from tests.docs.markdown import Section, Table, anchor, parse, quoted, unquoted
from tests.docs.players import CLI_VARIABLE, CliPlayer, PlainPlayer, Player, check, find_cli, steps
from tests.docs.schema import KINDS, Row, reply_rows, request_rows

ROOT = Path(__file__).resolve().parents[2]
PAGE = parse(ROOT / "subjects.md")
SECTIONS = {section.title: section for section in PAGE}
TEXT = "\n".join(section.text for section in PAGE)

NAMES = Subjects()

ELSEWHERE: dict[Any, str] = {
    AgentInfo: "an [agent](#agent)",
    ScalingReport: "as [registry.scaling.get]",
    ConflictReport: "as [registry.conflict.get]",
    Document: "the document",
}
"""Answers that several operations share, and how their sections say so."""

PARTS: list[tuple[str, str, Any]] = [
    ("Agent", "An agent, as `registry.get`, `registry.discover` and the commands show it.", AgentInfo),
    ("Adopted agents", "Adopted:", Adopted),
    ("Evidence", "Evidence is:", Evidence),
    ("Evidence", "A failing canary:", FailingCanary),
    ("registry.stats", "A judge is:", Judge),
    ("registry.stats", "Conflict counts are:", ConflictCounts),
    ("registry.discover", "A near miss:", NearMiss),
    ("registry.assignments", "A listed assignment:", ListedAssignment),
    ("registry.capabilities", "A capability count:", CapabilityCount),
    ("registry.conflict.get", "A rule:", ConflictRule),
    ("registry.conflict.get", "A violation:", RuleViolation),
    ("registry.scaling.get", "A capability scaling:", CapabilityScaling),
    ("registry.scaling.get", "A policy:", ScalingPolicy),
    ("registry.scaling.get", "Observed:", Observed),
    ("registry.scaling.get", "An ended order:", EndedOrder),
]
"""Parts of answers: section, caption of the table, message."""

DECLARED: list[tuple[str, Any]] = [("A connection:", Connection), ("A canary:", DeclaredCanary)]
"""Parts of a registration: caption of the table, message."""

ANNOUNCED: dict[str, Any] = {re.sub(r"{(\w+)}", r"<\1>", kind.subject(NAMES)): kind.message for kind in EVENTS.values()}
"""Subject to the event, as the page writes it."""

EVERYWHERE = {"invalid_request", "payload_too_large", "internal", "overloaded"}
"""Codes that the section on errors speaks of for every operation; `unavailable` of a query is its own."""


def shown(table: Table) -> dict[str, Row]:
    """What a table of fields says, without the meanings."""
    rows = {}
    for row in table.rows:
        cells = dict(zip(table.header, row, strict=True))
        name = unquoted(cells["field"])
        assert name not in rows, f"{name} stands there twice"
        rows[name] = Row(name, cells["type"], cells.get("default", ""), cells.get("bounds", ""))
    return rows


# Every operation, and nothing but operations.


def test_every_operation_has_its_section_and_no_other_has() -> None:
    documented = {title for title in SECTIONS if re.fullmatch(r"registry\.[a-z.]+", title)}
    assert documented == {NAMES.operation(name) for name in subjects.OPERATIONS}
    assert set(OPERATIONS) == set(subjects.OPERATIONS)


def test_every_operation_stands_in_the_list_at_the_top() -> None:
    listed = [re.findall(r"`([^`]+)`", cell)[0] for cell in SECTIONS["At a glance"].tables[0].column("subject")]
    operations = {NAMES.operation(name) for name in subjects.OPERATIONS}
    assert set(listed) == operations | {NAMES.all_events, agent_topic("<agent_id>", "<topic>")}
    assert len(listed) == len(set(listed))
    kinds = dict(zip(listed, SECTIONS["At a glance"].tables[0].column("kind"), strict=True))
    does = dict(zip(listed, SECTIONS["At a glance"].tables[0].column("what it does"), strict=True))
    for operation in OPERATIONS.values():
        subject = NAMES.operation(operation.name)
        assert (kinds[subject], does[subject]) == (operation.kind, operation.summary)


@pytest.mark.parametrize("operation", subjects.OPERATIONS)
def test_fields_of_the_request(operation: str) -> None:
    section = SECTIONS[NAMES.operation(operation)]
    expected = request_rows(OPERATIONS[operation].request)
    if not expected:
        assert section.paragraph("**Request**") == "**Request**: no fields."
        return
    assert shown(section.table_after("**Request**")) == expected


@pytest.mark.parametrize("operation", subjects.OPERATIONS)
def test_fields_of_the_reply(operation: str) -> None:
    section, reply = SECTIONS[NAMES.operation(operation)], OPERATIONS[operation].reply
    said = section.paragraph("**Reply**")
    assert said is not None
    if reply in ELSEWHERE and said != "**Reply**":
        assert said.startswith(f"**Reply**: {ELSEWHERE[reply]}")
        return
    assert shown(section.table_after("**Reply**")) == reply_rows(reply)


@pytest.mark.parametrize(("title", "caption", "message"), PARTS, ids=[part[2].__name__ for part in PARTS])
def test_fields_of_parts(title: str, caption: str, message: Any) -> None:
    assert shown(SECTIONS[title].table_after(caption)) == reply_rows(message)


@pytest.mark.parametrize(("caption", "message"), DECLARED, ids=[part[1].__name__ for part in DECLARED])
def test_fields_of_parts_of_a_registration(caption: str, message: Any) -> None:
    table = SECTIONS["registry.register"].table_after(caption)
    assert shown(table) == request_rows(message)


def test_every_table_of_fields_is_checked() -> None:
    """A new table without a check of its own would be one that may lie."""
    checked = {(NAMES.operation(name), caption) for name in OPERATIONS for caption in ("**Request**", "**Reply**")}
    checked |= {(title, caption) for title, caption, _ in PARTS} | {
        ("registry.register", caption) for caption, _ in DECLARED
    }
    for section in PAGE:
        for table in section.tables:
            if table.header[:2] == ["field", "type"] and (section.title, table.caption) not in checked:
                assert section.title in (*ANNOUNCED, "Errors", "Health checks", "Draining"), section.title


@pytest.mark.parametrize("operation", subjects.OPERATIONS)
def test_agent_bound_form_is_told(operation: str) -> None:
    said = SECTIONS[NAMES.operation(operation)].paragraph("Agent-bound: ")
    if operation in subjects.AGENT_BOUND:
        assert said is not None
        assert f"`{NAMES.operation(operation, '<agent_id>')}`" in said
    else:
        assert said is None


def test_scaling_policy_s_defaults() -> None:
    table = SECTIONS["registry.scaling.get"].table_after("A policy:")
    for field, meaning in zip(table.column("field"), table.column("meaning"), strict=True):
        default = ScalingPolicy.model_fields[unquoted(field)].default
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert re.search(rf"; {default:g}(,|$)", meaning), f"{field}: {meaning}"


# Every event, and nothing but events.


def test_every_kind_of_event_has_its_section() -> None:
    documented = {title for title in SECTIONS if title.startswith("registry.events.")}
    assert documented == set(ANNOUNCED)
    assert {title.split(".")[2] for title in documented} == set(subjects.EVENT_KINDS)


@pytest.mark.parametrize("subject", ANNOUNCED)
def test_fields_of_events(subject: str) -> None:
    (table,) = SECTIONS[subject].tables
    assert shown(table) == reply_rows(ANNOUNCED[subject])


def test_headers_of_events() -> None:
    headers = events.cloud_event_headers("id-1", "status", "/registry", "trader-1", 1795476815.549)
    table = SECTIONS["Events"].tables[0]
    told = dict(zip(map(unquoted, table.column("header")), table.column("value"), strict=True))
    assert set(told) == {*headers, "traceparent", EXPECTED}
    for name in ("ce-specversion", "ce-source", "ce-datacontenttype"):
        assert quoted(told[name]) == [headers[name]]
    assert quoted(told["ce-time"]) == [headers["ce-time"]]
    assert set(quoted(told["ce-type"])) == set(events.CE_TYPES.values())


def test_actions_of_orders() -> None:
    (table,) = SECTIONS[NAMES.scaling_event("<action>", "<capability>")].tables
    action = dict(zip(table.column("field"), table.column("meaning"), strict=True))["`action`"]
    assert quoted(action) == [str(action) for action in ScalingAction]


# Errors.


def test_every_error_code_and_no_other() -> None:
    table = SECTIONS["Errors"].tables[1]
    told = {unquoted(row[0]): (int(row[1]), {"yes": True, "no": False}[row[2]]) for row in table.rows}
    assert told == {code: (error.status, error.retryable) for code, error in ERRORS.items()}
    assert all(all(row) for row in table.rows), "each says when, and what to do"


def test_fields_of_an_error() -> None:
    body = InvalidRequestError("text").to_body()
    assert set(body) == {"error"}
    assert list(shown(SECTIONS["Errors"].tables[0])) == list(body["error"])
    assert shown(SECTIONS["Errors"].tables[0]) == reply_rows(Error)
    assert f"{codec.MAX_DETAILS} at most" in SECTIONS["Errors"].text


@pytest.mark.parametrize("operation", subjects.OPERATIONS)
def test_errors_of_each_operation_are_those_that_the_contract_tests_provoke(operation: str) -> None:
    said = SECTIONS[NAMES.operation(operation)].paragraph("**Errors**") or ""
    told = {code for code in quoted(said) if code in ERRORS}
    provoked = {case.code for case in CASES if f"{case.subject}.".startswith(f"{operation}.")}
    assert told == provoked - EVERYWHERE == set(OPERATIONS[operation].errors)


def test_codes_that_are_told_in_passing_exist() -> None:
    for section in PAGE:
        said = section.paragraph("**Errors**")
        if said is not None:
            known = {*ERRORS, "details", "instance_id", "min_revision"}
            assert set(quoted(said)) <= known, section.title


# Words.


def test_statuses() -> None:
    table = SECTIONS["Statuses"].tables[0]
    found = dict(zip(map(unquoted, table.column("status")), table.column("found by discover"), strict=True))
    assert list(found) == [str(status) for status in AgentStatus]
    assert {status for status, answer in found.items() if answer == "yes"} == set(DISCOVERABLE)


CAUSES = [
    Cause.REGISTER, Cause.HEALTH_GOOD, Cause.HEALTH_FAIR, Cause.HEALTH_POOR, Cause.SUSPEND, Cause.RESUME, Cause.DRAIN,
    Cause.LOST,
]  # fmt: skip
"""The rows of the table of moves, in order."""

COLUMNS = {
    "new": (Status.REGISTERING, False),
    "active": (Status.ACTIVE, False),
    "degraded": (Status.DEGRADED, False),
    "suspended": (Status.SUSPENDED, False),
    "held": (Status.SUSPENDED, True),
    "deregistering": (Status.DEREGISTERING, False),
    "offline": (Status.OFFLINE, False),
}


def test_what_moves_an_agent() -> None:
    table = SECTIONS["Statuses"].tables[1]
    assert set(CAUSES) == set(Cause)
    assert table.header[1:] == list(COLUMNS)
    for cause, row in zip(CAUSES, table.rows, strict=True):
        for (column, (status, held)), cell in zip(COLUMNS.items(), row[1:], strict=True):
            if cell == "`conflict`":  # which tests/contract provokes
                assert cause in (Cause.SUSPEND, Cause.RESUME, Cause.DRAIN)
                continue
            after = move(status, held, cause)
            expected = "-" if after is status else str(after)
            if cause is Cause.RESUME and not held:
                expected = "-"  # no command leads there: its health suspended it, and its health brings it back
            if cause is Cause.SUSPEND and status in (Status.ACTIVE, Status.DEGRADED, Status.SUSPENDED) and not held:
                expected = "held"
            assert cell == expected, f"{row[0]}, {column}"


def test_reasons_and_which_of_them_are_used() -> None:
    (table,) = SECTIONS["Reasons"].tables
    told = dict(zip(map(unquoted, table.column("reason")), table.column("when"), strict=True))
    assert set(told) == {str(reason) for reason in Reason}
    used = {
        node.value
        for path in (ROOT / "registry" / "core").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {reason for reason in told if reason not in used} == {
        reason for reason, when in told.items() if when == "reserved; not used yet"
    }


def test_kinds_of_texts() -> None:
    told = {row[0]: row[1] for row in SECTIONS["Conventions"].tables[0].rows}
    assert list(told) == list(KINDS.values())
    for pattern, kind in KINDS.items():
        assert told[kind].startswith(PATTERN_IN_WORDS[pattern])


def test_names_of_buckets_stream_service_and_subjects() -> None:
    every = set(quoted(TEXT))
    assert {NAMES.agents_bucket, NAMES.control_bucket, NAMES.events_stream, NAMES.service} <= every
    assert NAMES.replica("<replica>") in every
    assert agent_topic("<agent_id>", "health_check") in every
    assert agent_topic("<agent_id>", "drain") in every


def test_every_subject_on_the_page_exists() -> None:
    known = [
        *(re.escape(NAMES.operation(name)) for name in subjects.OPERATIONS),
        *(re.escape(NAMES.operation(name)) + r"\.(<agent_id>|[a-z]+-1|nobody)" for name in subjects.AGENT_BOUND),
        *(re.escape(subject) for subject in ANNOUNCED),
        r"registry\.events\.>",
        r"registry\.events\.conflict\.combination",
        r"registry\.events\.status\.(>|(<status>|[a-z]+)\.(>|[a-z]+-1))",
        r"registry\.events\.scaling\.[a-z_]+\.trading",
        r"registry\.events\.registry\.leader_changed",
        r"registry\.events\.assignment\.lost\.[a-z]+-1",
        r"registry\.replica\.<replica>(\.<subject>)?",
        re.escape(NAMES.refusals),
        r"agent\.(<agent_id>|[a-z]+-1)\.(<topic>|health_check|drain|ask)",
        r"registry\.vitals",
        r"\$SRV\.PING\.registry",
        r"\$SRV\.(>|PING|(PING|INFO|STATS)\.<name>\.<id>)",
        rf"\$SRV\.(<verb>|\*)\.{SERVICE}(\.(<instance_id>|\*))?",
        *(re.escape(kind) for kind in events.CE_TYPES.values()),
    ]
    texts = [TEXT, *(block.text for section in PAGE for block in section.blocks if block.language == "sh")]
    for text in texts:
        for subject in re.findall(r"(?<![\w.#(-])(?:registry\.|agent\.|\$SRV\.)[\w.<>*-]+[\w<>*]", text):
            assert any(re.fullmatch(pattern, subject) for pattern in known), subject


def test_prompts_are_where_an_agent_takes_them() -> None:
    names, text = Synadia("<agent>", "<owner>", "<session>"), SECTIONS["Prompts"].text
    (table,) = SECTIONS["Prompts"].tables
    assert [cells[0] for cells in table.rows[:3]] == [f"`{names.subject(verb)}`" for verb in ("prompt", "status", "hb")]
    assert all(f"in queue group `{QUEUE}`" in cells[1] for cells in table.rows[:2])
    assert f"each {names.heartbeat_interval} s" in table.rows[2][1]
    *fields, last = names.beat("a", "i")
    assert f"the fields {', '.join(f'`{field}`' for field in fields)}, and `{last}`" in text


def test_every_link_on_the_page_leads_somewhere() -> None:
    anchors = {anchor(section.title) for section in PAGE}
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert links
    assert set(links) <= anchors


# Numbers.


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("Conventions", f"{codec.MAX_PAYLOAD_BYTES // 1024} KiB"),
        ("Conventions", f"nests at most {MAX_NESTING} levels, metadata {MAX_METADATA_BYTES // 1024} KiB as JSON"),
        ("registry.discover", f"the same step of {STEP:g} are nearly equal"),
        ("registry.discover", "at most 100"),
        ("registry.heartbeat", f"believed for {limits.MAX_BUSY:g} s"),
        ("registry.performance", f"At most {limits.MAX_METRICS} metrics"),
        ("registry.register", f"the deployment's setting ({Settings().heartbeat_interval:g}) when left out"),
        ("registry.register", "three intervals when left out"),
        ("Performance score", "0.4 health + 0.3 (1 - load) + 0.3 success rate"),
        ("Performance score", f"as {UNKNOWN_SUCCESS_RATE:g}."),
        ("Statuses", f"health {HEALTHY:g} or better"),
        ("Statuses", f"health below {FAIR:g}"),
        ("Statuses", f"health from {FAIR:g} to below {HEALTHY:g}"),
        ("Leases", f"({limits.MAX_GRACE:g} s at most)"),
        ("Health checks", f"every {Settings().health_check_interval:g} s"),
        ("Health checks", f"after more than {Settings().probe_timeout:g} s"),
        ("Held back", f"more than {Settings().protection_share:.0%} of at least".replace("%", " %")),
        ("Held back", f"at least {limits.MIN_PROTECTED} agents are late"),
        ("Held back", f"within {limits.SAMPLE_WINDOW:g} s, at least {limits.MIN_PROTECTED}, more than"),
        ("Held back", f"{limits.MIN_SILENCE_HELD:g} s at least and {limits.MAX_SILENCE_HELD:g} s at most"),
        ("Suspicion", f"at least every {Settings().suspicion_below:g} s"),
        ("Suspicion", f"(phi {rhythm.FIRST:g} to {rhythm.LAST:g} "),
        ("Flapping", f"halves every {flapping.HALF_LIFE / 60:g} minutes"),
        ("Flapping", f"Above {flapping.TOLERATED:g} the agent is degraded"),
        ("Flapping", f"for {flapping.HOLD_DOWN:g} s, and for twice as long"),
        ("Performance score", f"within {Settings().warm_up:g} s"),
        ("Health checks", f"{'twice' if limits.GONE == 2 else limits.GONE} within {limits.PROBE_REPEAT * 1000:g} ms"),
        ("Health checks", f"or {limits.PROBE_REPEAT_CLOSED * 1000:g} ms after its connection was closed"),
        ("registry.register", f"at most {MAX_METADATA_BYTES // 1024} KiB as JSON, all together"),
        ("Canaries", f"more than {codec.MAX_PAYLOAD_BYTES // 1024} KiB"),
        ("Canaries", f"asked again in {canaries.UNJUDGED:g} s"),
        ("Canaries", f"every {canaries.FAILING_PERIOD:g} s, or every `period` if that is less"),
        ("Canaries", f"the header `{CANARY_HEADER}` with the value `1`"),
        ("Conflicts", f"at most {rule.MAX_RULES} rules"),
        ("registry.events.conflict.<kind>", f"without it for {clash.QUIET:g} s"),
        ("registry.events.conflict.<kind>", f"at most {violation.MAX_NAMED}"),
        ("Draining", f"{Settings().drain_timeout:g} s from then"),
        ("Buckets", f"every {Settings().checkpoint_interval:g} s at most"),
        ("Events", f"{EVENTS_MAX_AGE / 86400:g} days or {EVENTS_MAX_BYTES // 1024**3} GiB"),
    ],
)
def test_numbers_in_the_text(title: str, text: str) -> None:
    assert text in " ".join(SECTIONS[title].text.split())


def test_numbers_in_words() -> None:
    assert limits.HEARTBEATS_IN_TIMEOUT == 3
    assert HISTORY == 8
    assert "eight revisions of each" in " ".join(SECTIONS["Buckets"].text.split())
    assert DUPLICATE_WINDOW == 120
    assert "ids of the last two minutes" in SECTIONS["Events"].text
    assert Settings().offline_retention == 3600
    assert MAX_LIMIT == 1000
    assert MAX_CANARIES == 16
    assert (canaries.FAILS, canaries.REPEAT) == (2, 1.0)


def test_settings_that_are_named_exist() -> None:
    prefix = "AGENT_REGISTRY_"
    named = {word.removeprefix(prefix).lower() for word in quoted(TEXT) if word.startswith(prefix)}
    assert named
    assert named <= set(Settings.model_fields)


def test_fields_of_a_record() -> None:
    section = SECTIONS["Buckets"]
    (table,) = section.tables
    beyond = {unquoted(cell) for cell in table.column("field")}
    form = {*Record.__dataclass_fields__, "v"} - {"extra"}
    assert beyond == form - set(reply_rows(AgentInfo))
    assert set(reply_rows(AgentInfo)) - form == {"revision", "load_age", "reserved", "suspicion", "evidence"}
    change = next(row[1] for row in table.rows if row[0] == "`change`")
    record = Record("x", "x", ("x",)).to_json()
    assert set(record) <= form
    assert quoted(change) == ["from", *list(Change.__dataclass_fields__)[1:]]


def test_what_an_agent_is_told_when_it_drains() -> None:
    """That these fields come is what tests/contract checks."""
    (table,) = SECTIONS["Draining"].tables
    assert shown(table) == reply_rows(DrainNotice)


def test_what_an_agent_answers_to_a_health_check() -> None:
    table = SECTIONS["Health checks"].tables[0]
    fields = reply_rows(HealthAnswer).items()
    assert shown(table) == {name: Row(name, row.type.removesuffix(" or null")) for name, row in fields}


def test_the_page_reads_well() -> None:
    assert [section.level for section in PAGE[:3]] == [0, 1, 2]
    for section in PAGE[2:]:
        assert section.lines or section.blocks, f"{section.title} is empty"
        _no_empty_meanings(section)


def _no_empty_meanings(section: Section) -> None:
    for table in section.tables:
        assert all(row[0] for row in table.rows), section.title


# Every line can be pasted, and the answers are what comes.


STEPS = steps(PAGE)


class TestLines:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(scaling_interval=0.2, reconnect_grace=0.1)

    def test_lines_are_made_to_be_pasted(self) -> None:
        for step in STEPS:
            assert step.line.startswith("nats "), step.line
            assert "\\" not in step.line, f"one line each: {step.line}"
            assert step.argv

    def test_every_operation_has_a_line_with_its_answer(self) -> None:
        answered = {step.argv[1] for step in STEPS if step.argv[0] == "req" and step.answer is not None}
        for operation in subjects.OPERATIONS:
            subject = NAMES.operation(operation)
            assert any(re.fullmatch(rf"{re.escape(subject)}(\.[a-z]+-1)?", name) for name in answered), operation

    async def test_with_a_plain_client(self, registry: Replica, nc: Client) -> None:
        await _play(PlainPlayer(nc))

    async def test_with_the_nats_command(self, registry: Replica, nats_server: NatsServer, tmp_path: Path) -> None:
        binary = find_cli()
        if binary is None:
            pytest.skip(f"there is no `nats` command: put it on PATH, or name it in {CLI_VARIABLE}")
        await _play(CliPlayer(binary, nats_server.url, tmp_path))


async def _play(player: Player) -> None:
    """Play every line in the order of the page; what listens must have heard something by the end."""
    try:
        for step in STEPS:
            await check(player, step)
        await eventually(lambda: all(player.heard.values()))
    finally:
        await player.close()
    assert player.heard
