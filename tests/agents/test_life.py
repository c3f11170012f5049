"""How an agent comes, stays through trouble, and goes."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from agents_sdk import NotBegunError, RegistryClient, ServiceQuery
from registry.replica import Replica
from registry.shell import effector
from tests.agents.conftest import Start, StartAt, becomes, catches, status
from tests.agents.test_serving import Held, ask, known
from tests.cli.running import Up
from tests.conftest import eventually

pytestmark = pytest.mark.timeout(180)
"""The first test waits for npm, which asks the network, and a compiler."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it(client: RegistryClient, nc: Client, run: Start, number: signal.Signals) -> None:
    process = run()
    await process.serving()
    process.process.send_signal(number)
    assert await process.ended() == 0, process.stderr
    assert await client.get_agent_info("a") is None
    assert f"a got {number.name} and finishes its work; a second one ends it at once" in process.stderr
    assert "a has left" in process.stderr
    assert "Traceback" not in process.stderr
    assert "ERROR" not in process.stderr
    for topic in ("echo", "health_check"):
        with pytest.raises(NoRespondersError):
            await nc.request(f"agent.a.{topic}", b"{}")


async def test_work_in_flight_is_finished_first_and_no_new_work_taken(
    client: RegistryClient, nc: Client, run: Start, tmp_path: Path
) -> None:
    process = run()
    await process.serving()
    held = Held(client, tmp_path)
    await held.works()
    process.process.send_signal(signal.SIGTERM)
    await becomes(client, "deregistering")
    answer, number = await ask(nc, "echo")
    assert (number, answer["error"]["code"]) == (503, "unavailable")
    assert answer["error"]["message"] == "a is draining and takes no new work; ask another agent"
    assert (await ask(nc, "health_check"))[0]["status"] == "draining"
    held.finish()
    assert await held.answer == "done"
    assert await process.ended() == 0
    assert await client.get_agent_info("a") is None


async def test_work_that_does_not_end_in_time_is_given_up(client: RegistryClient, run: Start, tmp_path: Path) -> None:
    process = run(drain_timeout=0.2)
    await process.serving()
    held = Held(client, tmp_path)
    await held.works()
    process.process.send_signal(signal.SIGTERM)
    with pytest.raises(Exception, match=r"a answered internal \(500\): a stopped before it was done"):
        await held.answer
    assert await process.ended() == 0
    assert await client.get_agent_info("a") is None


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_second_signal_ends_it_at_once(client: RegistryClient, run: Start, tmp_path: Path) -> None:
    process = run()
    await process.serving()
    held = Held(client, tmp_path)
    await held.works()
    process.process.send_signal(signal.SIGTERM)
    await eventually(lambda: not catches(process.process.pid, signal.SIGTERM))
    process.process.send_signal(signal.SIGTERM)
    assert await process.ended() == -signal.SIGTERM
    held.answer.cancel()


async def test_told_to_drain_it_finishes_and_leaves(client: RegistryClient, run: Start, tmp_path: Path) -> None:
    process = run()
    await process.serving()
    held = Held(client, tmp_path)
    await held.works()
    await client.drain_agent("a", "too many")
    await process.says("a is told to drain")  # by the order, which says why, or by the answer to a beat
    assert await status(client) == ("deregistering", "draining")
    held.finish()
    assert await held.answer == "done"
    assert await process.ended() == 0
    assert await client.get_agent_info("a") is None


async def test_drained_it_stays_until_what_was_assigned_is_done(
    client: RegistryClient, run: Start, tmp_path: Path
) -> None:
    """The registry waits with its order, and the answers to beats say the same."""
    process = run(heartbeat_interval=0.2)
    await process.serving()
    assignment = await client.assign(ServiceQuery(capabilities={"trading"}))
    await client.drain_agent("a")
    before = (await known(client)).last_heartbeat

    async def has_beaten_often() -> bool:
        return (await known(client)).last_heartbeat > before + 0.5

    await eventually(has_beaten_often)
    assert await assignment.call("echo", {"x": 1}) == {"x": 1}
    assert await assignment.release()
    assert await process.ended() == 0, process.stderr
    with pytest.raises(NotBegunError):
        await assignment.call("echo")


async def test_an_order_to_drain_that_was_lost_is_told_by_the_answer_to_a_beat(
    client: RegistryClient, run: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order itself is a plain message; here it goes elsewhere, if it goes at all before the beat is answered."""
    monkeypatch.setattr(effector, "agent_topic", lambda agent_id, topic: f"lost.{agent_id}.{topic}")
    process = run(heartbeat_interval=0.2)
    await process.serving()
    await client.drain_agent("a")
    assert await process.ended() == 0
    assert "a is told to drain\n" in process.stderr
    assert await client.get_agent_info("a") is None


async def test_forgotten_it_registers_again(client: RegistryClient, run: Start) -> None:
    process = run(heartbeat_interval=0.2)
    await process.serving()
    before = await known(client)
    assert await client.deregister_agent("a")
    await process.says("a is registered again, as incarnation 2")
    after = await known(client)
    assert (after.instance_id, after.status) == (before.instance_id, "active")
    assert await client.call("trading", "echo", {"x": 1}) == {"x": 1}


async def test_a_stopped_process_that_goes_on_registers_again(client: RegistryClient, run: Start) -> None:
    process = run(heartbeat_interval=0.2, heartbeat_timeout=0.6)
    await process.serving()
    process.process.send_signal(signal.SIGSTOP)
    await becomes(client, "offline", within=30)
    process.process.send_signal(signal.SIGCONT)
    await becomes(client, "active", within=30)
    assert await client.call("trading", "echo", {"x": 1}, timeout=20) == {"x": 1}


async def test_it_waits_for_a_registry_and_a_signal_ends_that(run: Start) -> None:
    process = run()
    await process.says("not registered yet: no registry serves 'register' now")
    process.process.send_signal(signal.SIGTERM)
    assert await process.ended() == 0, process.stderr
    assert "Traceback" not in process.stderr


async def test_an_id_that_is_taken_ends_it(client: RegistryClient, run: Start) -> None:
    first = run()
    await first.serving()
    second = run()
    assert await second.ended() == 3
    assert second.stderr.count("\n") == 1, second.stderr
    assert "a is refused: already_registered: agent_id: 'a' is held by instance" in second.stderr
    assert "takeover" in second.stderr
    assert first.process.poll() is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"capabilities": ["tradng"]}, "capabilities: 'tradng' is not known here; did you mean 'trading'?"),
        ({"claims": ["account-1"]}, "claims: 'account-1' is held by agent 'other'"),
    ],
)
async def test_what_is_refused_for_good_ends_it(
    client: RegistryClient, run: Start, options: dict[str, list[str]], said: str
) -> None:
    other = {"agent_type": "t", "capabilities": ["trading"], "agent_id": "other", "claims": ["account-1"]}
    await client.register(other)
    process = run(**options)
    assert await process.ended() == 3
    assert process.stderr.count("\n") == 1, process.stderr
    assert "a is refused: " in process.stderr
    assert said in process.stderr


async def test_replaced_it_ends_and_leaves_the_other_alone(client: RegistryClient, run: Start) -> None:
    first = run(heartbeat_interval=0.2)
    await first.serving()
    second = run(takeover=True)
    await second.serving(2)
    assert await first.ended() == 3
    assert first.stderr.count("a stops serving: incarnation: is 1, but 'a' is registered as incarnation 2; stop") == 1
    assert first.stderr.count("ERROR") == 1
    assert "deregistered" not in first.stderr
    assert (await known(client)).incarnation == 2
    assert await client.call("trading", "echo", {"x": 1}) == {"x": 1}


async def test_it_is_not_replaced_by_itself(client: RegistryClient, nc: Client, run: Start) -> None:
    """The registry has an older bucket again: it knows this same instance by a higher incarnation."""
    process = run(heartbeat_interval=0.2)
    await process.serving()
    agent = await known(client)
    ours = {"agent_type": "test_agent", "capabilities": ["trading"], "agent_id": "a"}
    await client.register({**ours, "instance_id": "another", "takeover": True})
    await client.register({**ours, "instance_id": agent.instance_id, "takeover": True})
    await process.says("a is known as incarnation 3 of this same instance: the registry has an older bucket again")
    await process.says("a is registered again, as incarnation 3")
    assert process.process.poll() is None


async def test_killed_it_is_found_gone_at_once(client: RegistryClient, registry: Replica, run: Start) -> None:
    """Its connection has a name by which the registry knows whose it was, and it beats only every half minute."""
    await eventually(lambda: registry.state.connections_watched)
    process = run()
    await process.serving()
    process.process.kill()
    await becomes(client, "offline")
    assert await status(client) == ("offline", "no_responders")


async def test_killed_and_started_again_it_has_its_id_at_once(client: RegistryClient, run: Start) -> None:
    """Nobody answers for the one that is gone, so nobody has to wait for its lease to run out."""
    first = run()
    await first.serving()
    before = await known(client)
    first.process.kill()
    await run().serving(2)
    after = await known(client)
    assert (after.incarnation, after.status) == (2, "active")
    assert after.instance_id != before.instance_id


async def test_everything_else_may_be_killed_and_started_again(run_at: StartAt, tmp_path: Path) -> None:
    """NATS and the registry end with `kill -9`; nothing that was acknowledged is lost, and nobody is taken for dead."""
    with await asyncio.to_thread(Up, tmp_path / "up") as up:
        process = run_at(up.url, heartbeat_interval=0.5)
        await process.serving()
        up.process.kill()
        up.process.wait()
    await process.says("is lost; reconnecting", times=2)
    port = up.url.rpartition(":")[2]
    with await asyncio.to_thread(Up, tmp_path / "up", "--port", port) as again:
        async with RegistryClient(again.url, timeout=10.0) as client:
            before = await known(client)

            async def beats_again() -> bool:
                return (await known(client)).last_heartbeat > before.last_heartbeat

            await eventually(beats_again, within=20)
            assert ((await known(client)).incarnation, await status(client)) == (1, ("active", "registered"))
            assert await client.call("trading", "echo", {"x": 1}, timeout=20) == {"x": 1}
            process.process.send_signal(signal.SIGTERM)
            assert await process.ended() == 0, process.stderr
            assert await client.get_agent_info("a") is None
