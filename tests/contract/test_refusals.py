"""Refusals beyond the table: how they read, what the largest request is, and the registry's own failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from agents_sdk.protocol import subjects
from registry.replica import Replica
from registry.settings import Settings
from tests.conftest import eventually
from tests.contract.wire import TRADER, Answer, agent, ask, assert_error, decoded, encoded, is_served, stats, told
from tests.sdk.outage import Server

HOLDER = {**TRADER, "instance_id": "run-1"}
OTHER = {**TRADER, "agent_id": "trader-2"}
RULE = {"name": "four-eyes", "kind": "combination", "capabilities": ["trading", "execution"]}


async def test_the_registry_outlives_an_answer_that_would_be_too_large(registry: Replica, nc: Client) -> None:
    """nats-server closes the connection of whoever publishes more than it takes, header and all, and for good."""
    field = "\N{GRINNING FACE}" * 60_000  # in a header, in ASCII, ten bytes each
    answer = await ask(nc, "registry.register", json.dumps({**OTHER, field: 1}, ensure_ascii=False))
    assert_error(answer, "invalid_request")
    assert (await stats(nc))["nats"]["errors"] == 0


async def test_error_texts_are_short_whatever_was_sent(registry: Replica, nc: Client) -> None:
    for payload in ({"a" * 250_000: 1}, {f"{n}{'a' * 2000}": 1 for n in range(100)}, {"agent_id": "a" * 250_000}):
        answer = await ask(nc, "registry.get", payload)
        assert len(json.dumps(answer.body)) < 16_384
        assert len(answer.headers["Nats-Service-Error"]) < 2_048


async def test_a_listing_that_no_message_can_hold_is_refused(registry: Replica, nc: Client) -> None:
    """Rather than never answered."""
    for number in range(70):
        heavy = {**TRADER, "agent_id": f"heavy-{number}", "metadata": {"text": "x" * 16_000}}
        await told(nc, "registry.register", heavy)
    answer = await ask(nc, "registry.discover", {"limit": 1000}, within=3.0)
    assert answer.code in ("payload_too_large", "invalid_request"), answer.code
    assert "limit" in answer.body["error"]["message"]
    assert len((await told(nc, "registry.discover", {"limit": 50}))["agents"]) == 50


async def test_a_record_that_the_server_does_not_take_is_refused(tmp_path: Path) -> None:
    """The server closes the connection of whoever sends a message that is too large, headers and all, for good."""
    server = Server(tmp_path, "max_payload: 8192")
    await server.start()
    replica = Replica(Settings(), server.url)
    await replica.start()
    client = await nats.connect(server.url)
    outcomes = []
    try:
        for size in range(5000, 7600, 13):
            answer = await ask(client, "registry.register", {**HOLDER, "metadata": {"text": "x" * size}})
            outcomes.append(answer.code)
            if answer.code is not None:
                assert_error(answer, "payload_too_large", "metadata")
        assert outcomes == sorted(outcomes, key=lambda code: code is not None)
        assert {None, "payload_too_large"} == set(outcomes)
        # The largest that was taken can still be changed, and removed.
        for _ in range(10):
            await told(client, "registry.suspend.trader-1", {"reason": "x" * 256})
            await told(client, "registry.resume.trader-1", {"reason": "x" * 256})
        metrics = {f"{number:03}{'x' * 61}": 1.0 for number in range(60)}
        await told(client, "registry.performance.trader-1", {"metrics": metrics})
        assert_error(await ask(client, "registry.suspend.trader-1"), "payload_too_large", "metadata")
        assert (await told(client, "registry.deregister.trader-1"))["deregistered"] is True
        assert not replica.state.writes
        assert (replica.bus.reconnects, replica.bus.errors) == (0, 0)
    finally:
        await client.close()
        await replica.stop()
        await server.kill()


async def test_null_does_not_unbind_a_subject_from_its_agent(registry: Replica, nc: Client) -> None:
    """The subject is what permissions are bound to: `null` in the payload must not make it any other agent."""
    request = {"agent_type": "trading_agent", "capabilities": ["trading"], "agent_id": None}
    answer = await ask(nc, "registry.register.trader-1", request)
    assert set(registry.state.agents) <= {"trader-1"}
    assert answer.code == "invalid_request" or answer.body["agent_id"] == "trader-1"


async def test_a_refusal_says_what_would_be_right(registry: Replica, nc: Client) -> None:
    for subject, payload, text in (
        ("register", {**TRADER, "capabilites": []}, "capabilites: is not a field of this request"),
        ("register", {"agent_typ": "x"}, "did you mean 'agent_type'"),
        ("register", {**TRADER, "agent_id": "a.b"}, "1 to 128 characters of A-Z, a-z, 0-9, _ and -; got 'a.b'"),
        ("register", {**TRADER, "capabilities": ["juggling"]}, "known are backtesting, chart_analysis"),
        ("discover", {"limit": 5000}, "limit: must be at most 1000; got 5000"),
        ("discover", {"sort_by": "price"}, "'performance', 'health', 'load' or 'random'"),
        ("discover", {"version": "newest"}, "such as '>=2,<3'"),
        ("register", {**TRADER, "capabilities": ["tradng"]}, "'tradng' is not known here; did you mean 'trading'?"),
        ("register", {**TRADER, "tags": "crypto"}, "tags: must be an array, such as [\"crypto\"]; got 'crypto'"),
        ("discover", {"tags": "a, b"}, 'tags: must be an array, such as ["a","b"]; got \'a, b\''),
        ("assign", {"exclude": " "}, "exclude: must be an array; got ' '"),
        ("discover", {"limit": "5"}, "limit: must be a whole number, without quotes; got '5'"),
        ("discover", {"limit": "five"}, "limit: must be a whole number; got 'five'"),
        ("discover", {"explain": "true"}, "explain: must be true or false, without quotes; got 'true'"),
        ("get", "{agent_id:trader-1}", "line 1 column 2 (char 1); got '{agent_id:trader-1}'"),
        (
            "register",
            {**TRADER, "connection": {"server_id": "N1", "client_id": 1, "port": 2}},
            "connection.port: is not a field of connection",
        ),
        ("register", [TRADER], "payload: must be a JSON object; is an array"),
        ("register", {**TRADER, "capabilities": []}, "capabilities: must have 1 or more entries; has 0"),
        ("stats", {"reset": True}, "reset: is not a field of this request, which has none"),
        ("heartbeat.trader-1", '{"load_factor":NaN}', "NaN and Infinity are not JSON numbers: line 1 column 16"),
        ("performance.trader-1", {"metrics": {f"m{n}": n for n in range(65)}}, "64 or fewer entries; has 65"),
        ("get.a.b", None, "1 to 128 characters of A-Z, a-z, 0-9, _ and -; got 'a.b'"),
    ):
        answer = await ask(nc, f"registry.{subject}", payload)
        assert text in answer.body["error"]["message"]


async def test_every_fault_is_named_but_not_endlessly(registry: Replica, nc: Client) -> None:
    answer = await ask(nc, "registry.register", {"agent_id": "a.b", "version": "", "takeover": 1})
    assert set(answer.fields) == {"agent_type", "capabilities", "agent_id", "version", "takeover"}
    assert answer.body["error"]["message"].endswith("; and 2 more")
    answer = await ask(nc, "registry.discover", {"exclude": ["."] * 500})
    assert len(answer.fields) == 20


async def test_already_registered_names_the_holder(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", HOLDER)
    answer = await ask(nc, "registry.register", {**TRADER, "instance_id": "run-2"})
    assert_error(answer, "already_registered")
    assert {"field": "instance_id", "message": "run-1"} in answer.body["error"]["details"]


async def test_a_beat_of_a_newer_incarnation_is_not_called_stale(registry: Replica, nc: Client) -> None:
    """A replica that lags must not send the rightful holder away: only an older incarnation is stale."""
    await told(nc, "registry.register", TRADER)
    answer = await ask(nc, "registry.heartbeat.trader-1", {"incarnation": 2})
    assert answer.code != "stale_incarnation"


async def test_the_largest_that_is_read(registry: Replica, nc: Client) -> None:
    head = json.dumps(TRADER)[:-1].encode()
    await told(nc, "registry.register", head + b" " * (256 * 1024 - len(head) - 1) + b"}")
    metadata = {"text": "x" * (16 * 1024 - len('{"text":""}'))}
    await told(nc, "registry.register", {**OTHER, "metadata": metadata})
    nested = {"a": json.loads("[" * 63 + "]" * 63)}
    await told(nc, "registry.register", {**OTHER, "agent_id": "a" * 128, "metadata": nested})
    assert (await agent(nc, "a" * 128))["metadata"] == nested


@pytest.mark.parametrize("operation", subjects.OPERATIONS)
async def test_without_a_reply_subject_it_is_counted_all_the_same(
    registry: Replica, nc: Client, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    await nc.publish(f"registry.{operation}", b"hello")

    async def counted() -> bool:
        return (await stats(nc))["requests_refused"] == {"invalid_request": 1}

    await eventually(counted)
    assert [record for record in caplog.records if record.exc_info] == []


async def test_headers_of_a_request_never_come_back(registry: Replica, nc: Client) -> None:
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Secret": "s"}
    for subject, payload in (("discover", b""), ("register", encoded(TRADER)), ("get.nobody", b""), ("discover", b"x")):
        msg = await nc.request(f"registry.{subject}", payload, headers=headers)
        assert not set(msg.headers or {}) & set(headers)


async def test_many_metrics_do_not_make_an_agent_immovable(registry: Replica, nc: Client) -> None:
    """A record has to fit into one message; an agent whose record did not could not be removed any more."""
    await told(nc, "registry.register", TRADER)
    for number in range(8):
        await ask(nc, "registry.health.trader-1", {f"{number}{'m' * 200_000}": 1})
    assert (await told(nc, "registry.deregister.trader-1"))["deregistered"] is True


# The registry's own failures.


def _fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a secret of the registry")


@pytest.mark.parametrize("operation", subjects.OPERATIONS)
async def test_a_failing_handler_answers_internal(
    registry: Replica, nc: Client, operation: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("registry.shell.routes.parse", _fail)
    answer = await ask(nc, f"registry.{operation}", TRADER)
    assert_error(answer, "internal")
    assert "secret" not in json.dumps(answer.body)
    assert "secret" not in answer.headers["Nats-Service-Error"]
    incident = answer.body["error"]["message"].rpartition(" ")[2]
    assert incident in caplog.text, "what is told to the caller leads to the log's entry"
    monkeypatch.undo()
    assert (await stats(nc))["requests_refused"] == {"internal": 1}
    assert await is_served(nc, f"registry.{operation}")


@pytest.mark.parametrize("operation", ["register", "heartbeat", "suspend", "discover", "scaling.get"])
async def test_a_failing_core_answers_internal(
    registry: Replica, nc: Client, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(nc, "registry.register", TRADER)
    with monkeypatch.context() as broken:
        broken.setattr("registry.replica.handle", _fail)
        broken.setattr(registry.state, "find", _fail)
        broken.setattr("registry.shell.queries.scaling_report", _fail)
        payload = {"register": {**OTHER}, "heartbeat": {"agent_id": "trader-1"}, "suspend": {"agent_id": "trader-1"}}
        assert_error(await ask(nc, f"registry.{operation}", payload.get(operation)), "internal")
    assert (await told(nc, "registry.suspend.trader-1"))["status"] == "suspended"


@pytest.mark.parametrize("operation", ["register", "suspend", "resume", "drain", "deregister"])
async def test_more_writes_than_can_be_taken_are_overloaded(
    registry: Replica, nc: Client, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(nc, "registry.register", HOLDER)
    await told(nc, "registry.suspend.trader-1") if operation == "resume" else None
    with monkeypatch.context() as full:
        full.setattr("registry.core.writes.MAX_WRITES", 0)
        request = HOLDER if operation == "register" else {}
        assert_error(await ask(nc, f"registry.{operation}.trader-1", request), "overloaded")
    assert (await told(nc, "registry.get.trader-1"))["agent_id"] == "trader-1"


@pytest.mark.parametrize(
    ("bucket", "subject", "payload"),
    [
        ("registry_agents", "register", OTHER),
        ("registry_agents", "suspend.trader-1", {}),
        ("registry_agents", "deregister.trader-1", {}),
        ("registry_control", "scaling.set", {"capability": "trading", "max_agents": 3}),
        ("registry_control", "conflict.set", RULE),
    ],
)
async def test_without_its_bucket_a_command_is_unavailable(
    registry: Replica, nc: Client, bucket: str, subject: str, payload: dict[str, Any]
) -> None:
    """Nothing is acknowledged that is not durable, and nobody waits for ever."""
    await told(nc, "registry.register", TRADER)
    await nc.jetstream().delete_key_value(bucket)
    assert_error(await ask(nc, f"registry.{subject}", payload, within=10.0), "unavailable")


class TestVerifiedIdentity:
    """The header is the server's to write, behind an import with `share: true`; here the tests play the server."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(identity="request-info")

    async def _ask(self, nc: Client, subject: str, payload: Any, identity: str | None) -> Answer:
        headers = None if identity is None else {"Nats-Request-Info": identity}
        msg = await nc.request(f"registry.{subject}", encoded(payload), timeout=5, headers=headers)
        return Answer(decoded(msg.data), dict(msg.headers or {}))

    async def test_an_agent_belongs_to_who_registered_it(self, registry: Replica, nc: Client) -> None:
        mine, another = '{"acc":"AGENTS","user":"desk-1"}', '{"acc":"AGENTS","user":"desk-2"}'
        assert (await self._ask(nc, "register", HOLDER, mine)).code is None
        for subject, payload in (
            ("register", HOLDER),
            ("register", {**HOLDER, "instance_id": "run-2", "takeover": True}),
            ("suspend.trader-1", {}),
            ("drain.trader-1", {}),
            ("deregister.trader-1", {}),
            ("heartbeat.trader-1", {"health_score": 0.1}),
            ("health.trader-1", {"health_score": 0.1}),
            ("performance.trader-1", {"metrics": {"success_rate": 0.0}}),
        ):
            for identity in (another, None):
                assert_error(await self._ask(nc, subject, payload, identity), "forbidden")
            assert (await self._ask(nc, "get.trader-1", {}, another)).body["health_score"] == 1.0
        assert (await self._ask(nc, "heartbeat.trader-1", {"health_score": 0.9}, mine)).code is None
        assert (await self._ask(nc, "deregister.trader-1", {}, mine)).body["deregistered"] is True

    @pytest.mark.parametrize("identity", ["desk-1", "[]", "{}", '{"acc":"AGENTS"}'])
    async def test_half_an_identity_is_none(
        self, registry: Replica, nc: Client, identity: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert_error(await self._ask(nc, "register", TRADER, identity), "forbidden")
        assert [record for record in caplog.records if record.exc_info] == []
