"""Each Python example does what it says."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import nats
import pytest
from synadia_ai.agents import Agents
from synadia_ai.agents.messages import ResponseChunk

from agents_sdk import AgentCallError, AgentInfo, RegistryClient, ServiceQuery
from tests.cli.running import ROOT, Up, until
from tests.conftest import eventually
from tests.examples.conftest import EXAMPLES, Example

ANYONE = ServiceQuery(max_load_factor=1.0, limit=100)


async def only(client: RegistryClient) -> AgentInfo:
    """Return the one agent that is found, once there is one."""
    found: list[AgentInfo] = []

    async def is_there() -> bool:
        found[:] = await client.discover_agents(ANYONE)
        return bool(found)

    await eventually(is_there, within=20)
    (agent,) = found
    return agent


async def nobody(client: RegistryClient) -> bool:
    return not await client.discover_agents(ANYONE)


async def test_ten_lines(client: RegistryClient, example: Example) -> None:
    """It registers, is called by capability, its load rises while it works, and it leaves."""
    process = example("ten_lines.py")
    agent = await only(client)
    assert agent.agent_type == "trading_agent"
    assert await client.call("trading", "quote", {"symbol": "BTC"}) == {"symbol": "BTC", "price": 42.0}
    work = [
        asyncio.create_task(client.call("trading", "quote", {"symbol": "BTC", "work": 5}, timeout=10)) for _ in "ab"
    ]

    async def is_loaded() -> bool:
        known = await client.get_agent_info(agent.agent_id)
        return known is not None and known.load_factor == 0.5

    await eventually(is_loaded)
    process.process.send_signal(signal.SIGINT)
    assert [(await reply)["price"] for reply in work] == [42.0, 42.0], "work in flight is finished first"
    assert await asyncio.to_thread(process.process.wait, 20) == 0
    assert await nobody(client)
    assert await client.get_agent_info(agent.agent_id) is None
    assert "Traceback" not in process.stderr


def test_the_readme_shows_the_ten_lines_as_they_are() -> None:
    assert f"```python\n{(EXAMPLES / 'ten_lines.py').read_text()}```" in (ROOT / "README.md").read_text()


async def test_canary(client: RegistryClient, example: Example) -> None:
    """Without its prices it beats but does not work, and is found out; with them it is as before."""
    example("canary.py")
    agent = await only(client)

    async def is_there_for(reason: str) -> bool:
        known = await client.get_agent_info(agent.agent_id)
        return known is not None and known.status_reason == reason

    await client.call("trading", "prices", {})
    await eventually(lambda: is_there_for("canary"), within=20)
    await client.call("trading", "prices", {"BTC": 43.5})
    await eventually(lambda: is_there_for("recovered"), within=20)
    assert await client.call("trading", "quote", {"symbol": "BTC"}) == {"symbol": "BTC", "price": 43.5}
    assert await client.call("trading", "prices", {"BTC": 43.5}) == {"known": 1, "asked": 1}


async def test_synadia_agent(up: Up, client: RegistryClient, example: Example) -> None:
    """Clients of the registry and of the Synadia Agent Protocol reach it; told to end, it is gone for both."""
    process = example("synadia_agent.py")
    agent = await only(client)
    assert await client.call("trading", "quote", {"symbol": "BTC"}) == {"symbol": "BTC", "price": 42.0}
    nc = await nats.connect(up.url)
    agents = Agents(nc=nc)
    (found,) = await agents.discover(stall=0.2)
    assert (found.agent, found.owner, found.session_name) == ("trading-agent", "acme", "desk-1")
    assert found.prompt_subject == agent.metadata["synadia"]
    parts = [part.text async for part in found.prompt("What of BTC?") if isinstance(part, ResponseChunk)]
    assert parts == ["You asked: What of BTC?\n", "I would wait."]
    process.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.process.wait, 20) == 0
    assert await agents.discover(stall=0.2) == []
    assert await nobody(client)
    assert "Traceback" not in process.stderr
    await agents.close()
    await nc.close()


async def test_swarm(client: RegistryClient, example: Example) -> None:
    """Most of them are enough, and who has left is told nothing."""
    process = example("swarm.py")
    assert await asyncio.to_thread(process.process.wait, 40) == 0, process.stderr
    said = re.search(r"^([345]) of 5 analysts say (\d+\.\d)$", process.stdout, re.MULTILINE)
    assert said is not None, process.stdout
    told = re.findall(rf"^analyst-(\d) was told {said[2]}$", process.stdout, re.MULTILINE)
    assert sorted(told) == list("2345")
    assert await nobody(client), "they have said goodbye"
    assert "Traceback" not in process.stderr


async def test_trading_fleet(client: RegistryClient, example: Example) -> None:
    process = example("trading_fleet/run.py", "--trades", "6")
    assert await asyncio.to_thread(process.process.wait, 40) == 0, process.stderr
    said = r"^trade (\d): (?:BTC|ETH|SOL) x \d+ (filled at|refused because) .* by trading-[12]$"
    trades = re.findall(said, process.stdout, re.MULTILINE)
    assert sorted(number for number, _ in trades) == list("123456"), process.stdout
    for agent_id in ("research-1", "risk-1", "risk-2", "trading-1", "trading-2"):
        assert f"{agent_id}: active" in process.stdout
    assert await nobody(client), "they have said goodbye"


async def test_risk_refuses_what_makes_no_sense(client: RegistryClient, example: Example) -> None:
    """What a handler raises as `InvalidRequestError` is told to the caller."""
    example("trading_fleet/risk.py", "risk-7")
    assert (await only(client)).agent_id == "risk-7"
    answer = await client.call("risk_management", "check", {"quantity": 1000, "price": 100.0})
    assert answer == {"approved": False, "reason": "100000.00 is above the limit of 5000"}
    with pytest.raises(AgentCallError, match="must be above 0") as refused:
        await client.call("risk_management", "check", {"quantity": -1, "price": 1.0})
    assert (refused.value.code, refused.value.agent_id) == ("invalid_request", "risk-7")


async def test_orchestrator(client: RegistryClient, example: Example, tmp_path: Path) -> None:
    """It starts what is ordered, drains what is named, and ends what it started."""
    start = f"{sys.executable} {EXAMPLES / 'trading_fleet' / 'trading.py'} {{agent_id}}"
    process = example("orchestrator.py", "trading", start, "--folder", str(tmp_path))
    await client.set_scaling("trading", min_agents=2, max_agents=4, order_timeout=3.0)

    async def there_are(wanted: int) -> bool:
        listing = await client.discover(ServiceQuery(capabilities={"trading"}, max_load_factor=1.0))
        return listing.total == wanted

    await eventually(lambda: there_are(2), within=30)
    await client.set_scaling("execution", min_agents=1)  # which they can do, too: it would need both of them
    await client.set_scaling("trading", min_agents=1, max_agents=1)
    await eventually(lambda: there_are(1), within=30)
    await asyncio.to_thread(until, lambda: "drains trading-" in process.stdout)
    started = re.search(r"^starts (.*) for trading$", process.stdout, re.MULTILINE)
    assert started is not None
    assert len(started[1].split(", ")) == 2
    assert process.stdout.count("starts ") == 1
    process.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.process.wait, 20) == 0, process.stderr
    assert await nobody(client)
    assert "Traceback" not in process.stderr


async def test_an_orchestrator_of_a_command_that_is_none(example: Example) -> None:
    process = example("orchestrator.py", "trading", "no-such-program")
    assert await asyncio.to_thread(process.process.wait, 20) == 2
    assert "error: command: 'no-such-program' is not found, or cannot be run" in process.stderr
    assert "Traceback" not in process.stderr


async def test_the_load_follows_its_shape_and_the_workers_the_load(client: RegistryClient, example: Example) -> None:
    worker = example("worker.py", "--capability", "research", "--concurrency", "1", "--seconds", "0.4")
    agent = await only(client)
    assert (agent.capabilities, agent.max_concurrency) == ({"research"}, 1)
    load = example("load.py", "research", "--shape", "step", "--low", "1", "--high", "8", "--seconds", "8")

    async def is_full() -> bool:
        known = await client.get_agent_info(agent.agent_id)
        return known is not None and known.load_factor == 1.0

    await eventually(is_full, within=20)
    assert await asyncio.to_thread(load.process.wait, 30) == 0, load.stderr
    lines = re.findall(r"rate +([0-9.]+)/s +under way +\d+  done +(\d+)  failed +(\d+)  mean", load.stdout)
    assert {"1.0", "8.0"} == {rate for rate, _, _ in lines}, load.stdout
    assert sum(int(done) for _, done, _ in lines) > 5
    worker.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.process.wait, 20) == 0


async def test_a_load_on_what_nobody_knows_is_one_line(up: Up, example: Example) -> None:
    load = example("load.py", "tradng")
    assert await asyncio.to_thread(load.process.wait, 20) == 1
    assert load.stderr.startswith("error: capability: 'tradng' is not known here; did you mean 'trading'?")


async def test_api_reference(client: RegistryClient, example: Example) -> None:
    process = example("api_reference.py")
    assert await asyncio.to_thread(process.process.wait, 40) == 0, process.stderr
    for heading in ("Basic Agent Registration", "Service Discovery", "Scaling Configuration", "Information Retrieval"):
        assert f"== {heading}\n" in process.stdout
    assert "Refused: capabilities: is required" in process.stdout
    assert "total_registrations: 3" in process.stdout
    assert await nobody(client), "it leaves nothing behind on a NATS that it shares"


async def test_agent_card(client: RegistryClient, example: Example) -> None:
    """It is found by the skill in its card."""
    example("agent_card.py")
    agent = await only(client)
    assert agent.skills == {"spot-quote"}
    assert await client.discover_agents(ServiceQuery(skills={"spot-quote"}))
    query = ServiceQuery(skills={"spot-quote"})
    assert (await client.call("trading", "quote", {"symbol": "BTC"}, query=query))["price"] == 42.0
