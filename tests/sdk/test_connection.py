"""The connection to NATS: clear errors at the start, and back by itself whatever closed it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from agents_sdk import connection as connection_module
from agents_sdk import dial as dial_module
from agents_sdk import link
from agents_sdk.cancelling import cancel
from agents_sdk.connection import Connection
from agents_sdk.dial import Address, Callbacks, dial
from agents_sdk.protocol.errors import ForbiddenError, PayloadTooLargeError, UnavailableError
from agents_sdk.servers import DEFAULT_URL
from tests.conftest import eventually
from tests.login import Login
from tests.sdk.outage import Server

SECURED = """
accounts {{ A {{ users: [
  {{ user: alice, password: {password}, permissions: {{
      publish: {{ deny: ["forbidden.>"] }}, subscribe: {{ deny: ["secret", "_PRIVATE.>"] }} }} }},
  {{ user: bob, password: b }}
] }} }}
"""


# nats-py leaves it to the garbage collector to close the socket of an attempt that failed.
left_open = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def address(server: Server, **fields) -> Address:
    return Address((server.url,), **fields)


async def open_connection(server: Server, **fields) -> Connection:
    connection = Connection(address(server, **fields))
    await connection.open()
    return connection


@pytest.fixture
async def connection(server: Server):
    await server.start()
    connection = await open_connection(server, name="test")
    yield connection
    await connection.close()


async def ignore(msg: Msg) -> None:
    pass


async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a connection and say nothing."""
    await reader.read()
    writer.close()


async def echo(connection: Connection, subject: str = "echo") -> None:
    async def reply(msg: Msg) -> None:
        await connection.publish(msg.reply, msg.data)

    await connection.subscribe(subject, reply)


async def test_nobody_there_is_said_clearly_and_in_time(server: Server) -> None:
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=f"cannot reach NATS at {server.url}") as raised:
        await Connection(address(server, timeout=0.5)).open()
    assert time.monotonic() - started < 5.0
    assert raised.value.message.endswith("connection refused")


async def test_a_server_that_says_nothing_is_not_waited_for_without_end(server: Server) -> None:
    async with await asyncio.start_server(wait, "127.0.0.1", server.port):
        with pytest.raises(UnavailableError, match="no answer"):
            await Connection(address(server, timeout=0.3)).open()


@pytest.mark.parametrize("first", ["nobody", "silence", "refusal"])
async def test_another_server_is_found_whatever_is_wrong_with_the_first(
    server: Server, tmp_path: Path, first: str, monkeypatch
) -> None:
    monkeypatch.setattr("nats.aio.client.shuffle", lambda servers: None)  # which one is asked first is chance
    (tmp_path / "other").mkdir()
    other = Server(tmp_path / "other", 'authorization { user: "ada", password: "secret" }')
    await server.start()
    if first == "refusal":
        await other.start()
    async with await asyncio.start_server(wait, "127.0.0.1", other.port if first == "silence" else 0):
        connection = Connection(Address((other.url, server.url), timeout=0.5))
        await connection.open()
        await echo(connection)
        assert (await connection.request("echo", b"x", 2.0)).data == b"x"
        await connection.close()
    await other.kill()


async def test_a_listener_that_fails_keeps_neither_the_others_nor_the_connection(
    server: Server, connection: Connection, caplog
) -> None:
    """nats-py's reconnecting ends for good, and nobody is told, when what it calls back raises."""
    heard: list[bool] = []

    def fail(_connected: bool) -> None:
        raise RuntimeError("the listener's own")

    before, after = heard.append, lambda connected: heard.append(connected)
    for listener in (before, fail, after):
        connection.listen(listener)
    await server.kill()
    await eventually(lambda: heard == [False, False])
    await server.start()
    await eventually(lambda: heard == [False, False, True, True])
    assert connection.counters.rebuilds == 0
    await echo(connection)
    assert (await connection.request("echo", b"x", 2.0)).data == b"x"
    await connection.client._process_err("'user authentication expired'")
    await eventually(lambda: heard[4:] == [False, False, True, True])
    assert (await connection.request("echo", b"x", 2.0)).data == b"x"
    await connection.close()
    assert heard[8:] == [False, False]
    assert caplog.text.count("RuntimeError: the listener's own") == 5


@pytest.mark.parametrize("failing", ["disconnected", "reconnected", "closed", "error"])
async def test_whatever_a_callback_raises_the_client_comes_back_and_goes_on(
    server: Server, failing: str, caplog
) -> None:
    called: list[str] = []

    def note(name: str) -> Callable[..., None]:
        def call(*_: object) -> None:
            called.append(name)
            if name == failing:
                raise RuntimeError(name)

        return call

    await server.start()
    client = await dial(address(server), Callbacks(*map(note, ("error", "disconnected", "reconnected", "closed"))))
    got: list[bytes] = []

    async def take(msg: Msg) -> None:
        got.append(msg.data)
        raise ValueError("the handler's own")

    await client.subscribe("x", cb=take)
    for data in (b"1", b"2"):
        await client.publish("x", data)
    await eventually(lambda: got == [b"1", b"2"])
    await server.kill()
    await server.start()
    await eventually(lambda: "reconnected" in called)
    await client.publish("x", b"3")
    await eventually(lambda: got == [b"1", b"2", b"3"])
    await client.close()
    assert set(called) == {"error", "disconnected", "reconnected", "closed"}
    assert f"RuntimeError: {failing}" in caplog.text
    assert "Traceback" in caplog.text


async def test_once_every_server_has_said_no_there_is_nothing_to_wait_for(server: Server) -> None:
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="connection refused"):
        await Connection(Address((server.url, server.url), timeout=30.0)).open()
    assert time.monotonic() - started < 10.0


async def test_a_connection_with_some_patience_tries_again(server: Server, caplog) -> None:
    connection = Connection(address(server))
    opening = asyncio.create_task(connection.open(30.0))
    await eventually(lambda: "waiting for NATS" in caplog.text)
    await server.start()
    await opening
    await connection.close()


async def test_a_patient_connection_waits_for_its_server(server: Server, caplog) -> None:
    connection = Connection(address(server, timeout=0.3))
    opening = asyncio.create_task(connection.open(math.inf))
    await eventually(lambda: "waiting for NATS" in caplog.text)
    assert not opening.done()
    await server.start()
    await opening
    assert connection.is_connected
    await connection.close()


async def test_waiting_can_be_given_up(server: Server, caplog) -> None:
    opening = asyncio.create_task(Connection(address(server, timeout=0.2)).open(math.inf))
    await eventually(lambda: "waiting for NATS" in caplog.text)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening


async def test_a_wrong_password_is_said_at_once(server: Server) -> None:
    await server.start(SECURED.format(password="a"))
    url = server.url.replace("//", "//alice:wrong@")
    with pytest.raises(ForbiddenError, match="refuses this user") as raised:
        await Connection(Address((url,), timeout=30.0)).open()
    assert "wrong" not in raised.value.message


async def test_no_url_and_no_credentials_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nats: "):
        await Connection(Address(("nats://:::1",))).open()
    with pytest.raises(FileNotFoundError, match="no file"):
        await Connection(Address((DEFAULT_URL,), credentials=tmp_path / "none.creds")).open()


async def test_requests_are_answered(connection: Connection) -> None:
    await echo(connection)
    assert (await connection.request("echo", b"hello", 2.0)).data == b"hello"
    with pytest.raises(NoRespondersError):
        await connection.request("nobody", b"", 2.0)


async def test_it_comes_back_with_its_subscriptions(server: Server, connection: Connection) -> None:
    links: list[bool] = []
    connection.listen(links.append)
    await echo(connection)
    await server.kill()
    await eventually(lambda: links == [False])
    assert not connection.is_connected
    await server.start()
    await eventually(lambda: links == [False, True])
    assert (await connection.request("echo", b"again", 2.0)).data == b"again"
    assert connection.counters.reconnects == 1
    connection.unlisten(links.append)
    await server.kill()
    await eventually(lambda: not connection.is_connected)
    assert links == [False, True]


async def test_a_queue_group_gets_each_message_once_also_on_a_new_client(connection: Connection) -> None:
    got: list[bytes] = []

    async def take(msg: Msg) -> None:
        got.append(msg.data)

    for _ in range(2):
        await connection.subscribe("work", take, queue="workers")
    await connection.subscribe("end", take)
    await connection.client._process_err("'user authentication expired'")
    await eventually(lambda: connection.counters.rebuilds == 1)
    for subject, data in (("work", b"1"), ("work", b"2"), ("end", b"end")):
        await connection.publish(subject, data)
    await eventually(lambda: got[-1:] == [b"end"])
    assert sorted(got) == [b"1", b"2", b"end"]


async def test_the_log_says_which_connection(server: Server, caplog) -> None:
    """An agent has two, and both are lost with the server."""
    caplog.set_level("INFO")
    await server.start()
    connection = Connection(Address((server.url,), name="work:a"))
    await connection.open()
    await server.kill()
    await eventually(lambda: not connection.is_connected)
    await server.start()
    await eventually(lambda: "is back" in caplog.text)
    await connection.close()
    told = [
        record.getMessage() for record in caplog.records if record.name in ("agents_sdk.connection", "agents_sdk.link")
    ]
    assert all(line.startswith("the connection work:a to NATS") for line in told), told
    assert f"the connection work:a to NATS at {server.url} is lost; reconnecting" in told
    assert not [line for line in told if "nats: " in line]
    assert len(told) == 2, "lost once, back once"


async def test_nothing_is_kept_for_later_while_nats_is_away(server: Server, connection: Connection) -> None:
    await server.kill()
    await eventually(lambda: not connection.is_connected)
    for attempt in (connection.publish("a", b""), connection.request("a", b"", 1.0), connection.flush()):
        with pytest.raises(UnavailableError, match="NATS"):
            await attempt
    with pytest.raises(UnavailableError):
        await connection.subscribe("a", connection.publish)  # type: ignore[arg-type]


async def test_a_connection_closed_for_good_is_made_anew(server: Server, caplog) -> None:
    """A server that refuses a user closes nats-py's client for good, in spite of its endless reconnects."""
    await server.start(SECURED.format(password="a"))
    url = server.url.replace("//", "//alice:a@")
    connection = Connection(Address((url,), timeout=1.0))
    await connection.open()
    await echo(connection)
    links: list[bool] = []
    connection.listen(links.append)
    first = connection.client
    server.reload(SECURED.format(password="changed"))
    await eventually(lambda: "has ended for good" in caplog.text or not connection.is_connected)
    server.reload(SECURED.format(password="a"))
    await eventually(lambda: bool(links) and links[-1] and connection.is_connected, within=20.0)
    assert (await connection.request("echo", b"again", 2.0)).data == b"again"
    assert connection.client is not first
    assert connection.counters.rebuilds == 1
    await connection.close()


async def test_an_unexpected_protocol_error_does_not_end_it(server: Server, connection: Connection) -> None:
    await echo(connection)
    first = connection.client
    await first._process_err("'maximum subscriptions exceeded'")
    await eventually(lambda: connection.counters.rebuilds == 1)
    assert connection.client is not first
    assert (await connection.request("echo", b"x", 2.0)).data == b"x"


async def test_closing_ends_the_attempts_to_rebuild(server: Server, connection: Connection) -> None:
    await connection.client._process_err("'maximum subscriptions exceeded'")
    await connection.close()
    assert not connection.is_connected
    assert connection.counters.rebuilds == 0
    assert not [task for task in asyncio.all_tasks() if "Link._watch_over" in repr(task)]


@left_open
@pytest.mark.parametrize("how", ["reconnect", "rebuild"])
@pytest.mark.parametrize("cut", ["empty", "token", "half a token", "half a seed"])
async def test_credentials_that_are_half_written_end_nothing(
    server: Server, tmp_path: Path, how: str, cut: str, caplog
) -> None:
    """Whoever renews a credentials file writes it while others read it."""
    caplog.set_level("DEBUG", "agents_sdk")
    login, credentials = Login(), tmp_path / "user.creds"
    text, seed = login.credentials, login.credentials.index("-----BEGIN USER NKEY SEED")
    credentials.write_text(text)
    await server.start(login.config)
    connection = await open_connection(server, credentials=credentials)
    await echo(connection)
    ends = {"empty": 0, "token": seed, "half a token": 200, "half a seed": seed + 50}
    credentials.write_text(text[: ends[cut]])
    if how == "reconnect":
        await server.kill()
        await server.start()
    else:
        await connection.client._process_err("'user authentication expired'")
    await eventually(lambda: "user.creds' is no credentials file" in caplog.text, within=20)
    assert not connection.is_connected
    credentials.write_text(text)
    await eventually(lambda: connection.is_connected, within=20)
    assert (await connection.request("echo", b"again", 2.0)).data == b"again"
    await connection.close()


@left_open
async def test_a_client_that_stops_trying_is_replaced(server: Server, connection: Connection) -> None:
    """nats-py ends its reconnecting, and tells nobody, when something is raised that it did not expect."""
    await echo(connection)
    first, links = connection.client, []
    connection.listen(links.append)

    def fail() -> bytes:
        raise TypeError("not what was expected")

    first._connect_command = fail
    await server.kill()
    await server.start()
    await eventually(lambda: links == [False, True], within=20)
    assert connection.client is not first
    assert (connection.counters.rebuilds, first.is_closed) == (1, True)
    assert (await connection.request("echo", b"x", 2.0)).data == b"x"


async def test_an_attempt_that_fails_as_nobody_foresaw_is_one_of_many(
    server: Server, connection: Connection, monkeypatch, caplog
) -> None:
    attempts = []

    async def fail_twice(*arguments):
        attempts.append(await dial(*arguments))
        if len(attempts) < 3:
            attempts[-1].subscribe = None  # restoring fails
        return attempts[-1]

    monkeypatch.setattr(link, "dial", fail_twice)
    await echo(connection)
    await connection.client._process_err("'maximum subscriptions exceeded'")
    await eventually(lambda: connection.counters.rebuilds == 1, within=20)
    assert (await connection.request("echo", b"x", 2.0)).data == b"x"
    assert "to NATS is still lost: 'NoneType' object is not callable" in caplog.text
    assert [client.is_closed for client in attempts] == [True, True, False]


async def test_a_time_limit_holds_for_sending_too(server: Server, connection: Connection, monkeypatch) -> None:
    """A server that stands still takes as much as fits into the sockets' buffers, and then nothing more."""
    monkeypatch.setattr(connection_module, "SEND_LIMIT", 0.3)
    large = bytes(500_000)
    await echo(connection)
    server.pause()
    try:
        started = time.monotonic()
        requests = [connection.request("echo", large, 0.3) for _ in range(20)]
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {TimeoutError, NatsTimeoutError}
        with pytest.raises(UnavailableError, match="takes nothing"):
            await connection.publish("a", large)
        assert time.monotonic() - started < 5.0
    finally:
        server.resume()
    await eventually(lambda: _answers(connection))
    assert connection.counters.reconnects == 0


async def _answers(connection: Connection) -> bool:
    try:
        return (await connection.request("echo", b"x", 0.5)).data == b"x"
    except TimeoutError:
        return False


@left_open
async def test_a_server_that_takes_nothing_any_more_is_left_for_another_one(
    server: Server, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(dial_module, "PING_INTERVAL", 0.3)
    (tmp_path / "other").mkdir()
    other = Server(tmp_path / "other")
    await server.start()
    connection = Connection(Address((server.url,)))
    await connection.open()
    await echo(connection)
    links: list[bool] = []
    connection.listen(links.append)
    connection.client.set_server_pool([server.url, other.url])
    await other.start()
    server.pause()
    try:
        requests = [connection.request("echo", bytes(1_000_000), 0.1) for _ in range(20)]
        await asyncio.gather(*requests, return_exceptions=True)
        await eventually(lambda: links == [False, True], within=20)
        assert (await connection.request("echo", b"x", 2.0)).data == b"x"
        await connection.close()
    finally:
        server.resume()
        await other.kill()


async def test_what_was_closed_can_be_opened_again(connection: Connection) -> None:
    await connection.close()
    await connection.open()
    await echo(connection)
    await connection.client._process_err("'maximum subscriptions exceeded'")
    await eventually(lambda: connection.counters.rebuilds == 1)
    assert (await connection.request("echo", b"x", 2.0)).data == b"x"


async def test_what_is_closed_while_it_is_opened_stays_closed(server: Server, caplog) -> None:
    connection = Connection(address(server, timeout=0.2))
    opening = asyncio.create_task(connection.open(math.inf))
    await eventually(lambda: "waiting for NATS" in caplog.text)
    await connection.close()
    await server.start()
    with pytest.raises(UnavailableError, match="is closed"):
        await opening
    assert not connection.is_connected


async def test_what_the_server_forbids_is_told_instead_of_a_time_out(server: Server) -> None:
    await server.start(SECURED.format(password="a"))
    url = server.url.replace("//", "//alice:a@")
    connection = Connection(Address((url,)))
    await connection.open()
    with pytest.raises(ForbiddenError, match=r"publish to forbidden\.Thing"):
        await connection.request("forbidden.Thing", b"", 0.5)
    await connection.close()
    private = Connection(Address((url,), inbox_prefix="_PRIVATE"))
    await private.open()
    with pytest.raises(ForbiddenError, match="set inbox_prefix"):
        await private.request("anything", b"", 0.5)
    await private.close()


RESPONDER = """
accounts { A { users: [
  { user: asker, password: a },
  { user: responder, password: r, permissions: {
      publish: { allow: ["silent"] }, subscribe: { allow: ["_INBOX.>", "twice"] }, allow_responses: { max: 1 } } }
] } }
"""


async def test_a_reply_that_is_denied_says_nothing_of_other_requests(server: Server) -> None:
    """NATS lets a responder answer once, and for a while; what comes later is denied, on an inbox like its own."""
    await server.start(RESPONDER)
    responder, asker = (
        Connection(Address((server.url.replace("//", f"//{user}@"),))) for user in ("responder:r", "asker:a")
    )
    await responder.open()
    await asker.open()

    async def reply_twice(msg: Msg) -> None:
        await responder.publish(msg.reply, b"1")
        await responder.publish(msg.reply, b"2")

    await responder.subscribe("twice", reply_twice)
    await asker.subscribe("silent", ignore)
    await asker.flush()
    await responder.flush()
    assert (await asker.request("twice", b"", 2.0)).data == b"1"
    await eventually(lambda: responder.counters.errors == 1)
    with pytest.raises(TimeoutError):
        await responder.request("silent", b"", 0.2)
    await responder.close()
    await asker.close()


async def test_what_was_forbidden_once_may_be_allowed_on_the_next_connection(server: Server) -> None:
    await server.start(SECURED.format(password="a"))
    connection = Connection(Address((server.url.replace("//", "//alice:a@"),), inbox_prefix="_PRIVATE"))
    await connection.open()
    await connection.subscribe("silent", ignore)
    with pytest.raises(ForbiddenError, match="set inbox_prefix"):
        await connection.request("silent", b"", 0.2)
    await server.kill()
    await server.start(SECURED.format(password="a").replace('"_PRIVATE.>"', '"other"'))
    await eventually(lambda: connection.counters.reconnects == 1)
    with pytest.raises(TimeoutError):
        await connection.request("silent", b"", 0.2)
    await connection.close()


async def test_silence_is_a_time_out(connection: Connection) -> None:
    await connection.subscribe("silent", ignore)
    with pytest.raises(TimeoutError):
        await connection.request("silent", b"", 0.1)


async def test_a_late_answer_to_a_flush_does_no_harm(connection: Connection) -> None:
    """nats-py stops reading when a pong comes for a flush that was cancelled, and says nothing."""
    for _ in range(20):
        flushing = asyncio.create_task(connection.flush())
        await asyncio.sleep(0)
        await cancel(flushing)
    with pytest.raises(UnavailableError, match="does not answer"):
        await connection.flush(within=0.0)
    await echo(connection)
    assert (await connection.request("echo", b"x", 2.0)).data == b"x"
    assert not connection.client._reading_task.done()


async def test_a_message_that_is_too_large_is_refused_here(connection: Connection) -> None:
    with pytest.raises(PayloadTooLargeError, match="this NATS server takes 1048576"):
        await connection.publish("a", bytes(2_000_000))
    with pytest.raises(PayloadTooLargeError):
        await connection.request("a", bytes(2_000_000), 1.0)


async def test_a_handler_that_fails_is_logged_and_heard_again(connection: Connection, caplog) -> None:
    heard: list[bytes] = []

    async def fail(msg: Msg) -> None:
        heard.append(msg.data)
        raise KeyError("price")

    await connection.subscribe("a", fail)
    await connection.publish("a", b"1")
    await connection.publish("a", b"2")
    await eventually(lambda: heard == [b"1", b"2"])
    assert "a message handler failed" in caplog.text
    assert "KeyError" in caplog.text
    assert connection.counters.errors == 2


async def test_what_is_unsubscribed_is_not_heard(connection: Connection) -> None:
    heard: list[bytes] = []

    async def hear(msg: Msg) -> None:
        heard.append(msg.data)

    subscription = await connection.subscribe("a", hear)
    await connection.unsubscribe(subscription)
    await connection.unsubscribe(subscription)
    await connection.publish("a", b"1")
    await connection.flush()
    assert heard == []


async def test_a_client_of_somebody_else_stays_its_owners(server: Server) -> None:
    await server.start()
    theirs = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_ignore)
    connection = Connection(theirs)
    await connection.open()
    links: list[bool] = []
    connection.listen(links.append)
    await echo(connection)
    assert (await connection.request("echo", b"x", 2.0)).data == b"x"
    await server.kill()
    await eventually(lambda: not theirs.is_connected)
    await server.start()
    await eventually(lambda: links[-1:] == [True])
    assert (await connection.request("echo", b"y", 2.0)).data == b"y"
    await connection.close()
    assert theirs.is_connected
    with pytest.raises(NoRespondersError):
        await theirs.request("echo", b"z")
    await theirs.close()


async def _ignore(error: Exception) -> None:
    pass


async def test_a_client_that_is_not_connected_is_refused() -> None:
    with pytest.raises(UnavailableError, match="the given client"):
        await Connection(nats.NATS()).open()


async def test_repr_tells_where_and_whether(connection: Connection, server: Server) -> None:
    assert repr(connection) == f"<Connection to {server.url}, up>"
