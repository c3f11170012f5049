"""The TypeScript package by itself: its own tests, its examples, and what its README says."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from agents_sdk import RegistryClient
from registry.shell.embedded import NatsServer
from tests.agents.package import ROOT, SDK, run
from tests.cli.running import Running, environment
from tests.conftest import eventually

pytestmark = pytest.mark.timeout(180)
"""The first test waits for npm, which asks the network, and a compiler."""

README = (ROOT / SDK / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
PROGRAMS = re.findall(r"^```js\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


async def test_its_own_tests(client: RegistryClient, nats_server: NatsServer, package: Path) -> None:
    """Against a real registry: none is left out. It is not built again, for others are using it."""
    told = await asyncio.to_thread(run, ["npm", "test", "--ignore-scripts"], package, NATS_URL=nats_server.url)
    assert re.search(r"skipped 0$", told, re.MULTILINE), told
    assert re.search(r"pass \d{3}$", told, re.MULTILINE), told


async def test_its_readme(client: RegistryClient, nats_server: NatsServer, package: Path, tmp_path: Path) -> None:
    assert COMMANDS == ["npm ci && npm run build", "node examples/agent.js", "node examples/call.js"]
    where = environment(NATS_URL=nats_server.url)
    with Running(["node", str(package / "examples" / "agent.js")], tmp_path / "agent", where) as agent:
        await eventually(lambda: "registered as incarnation 1" in agent.stderr or agent.process.poll() is not None, 20)
        called = await asyncio.to_thread(run, ["node", "examples/call.js"], package, **where)
    assert called == "{ symbol: 'BTC', price: 42 }\n"
    assert agent.process.returncode == 0


@pytest.mark.parametrize(("name", "program"), [("agent", 0), ("call", 1)])
def test_a_program_in_the_readme_is_the_example(name: str, program: int) -> None:
    assert (ROOT / SDK / "examples" / f"{name}.js").read_text() == PROGRAMS[program]


def test_the_lock_file_names_no_registry_host() -> None:
    """So that `npm ci` asks whatever registry a machine is configured for."""
    text = (ROOT / SDK / "package-lock.json").read_text()
    assert "http" not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
