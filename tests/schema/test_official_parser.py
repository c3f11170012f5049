"""The AsyncAPI document is one, says the parser that AsyncAPI itself publishes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents_sdk.protocol.schema.asyncapi import asyncapi
from agents_sdk.protocol.subjects import Subjects
from tests.npm import installed

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

EXPECTED = {"asyncapi-latest-version"}
"""The one finding that there may be: AsyncAPI 3.1 is newer than 3.0."""


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the parser."""
    return installed(HERE, tmp_path_factory.mktemp("parser"))


def parsed(parser: Path, *documents: Path) -> tuple[int, dict[Path, list[str]]]:
    """Return how the parser ended, and its lines about each document."""
    done = subprocess.run(
        ["node", "validate.mjs", *map(str, documents)],
        cwd=parser, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    lines = [line.partition(": ") for line in done.stdout.splitlines()]
    return done.returncode, {each: [said for file, _, said in lines if file == str(each)] for each in documents}


def _schema(document: Any, name: str) -> Any:
    return document["components"]["schemas"][name]


BROKEN: dict[str, Callable[[Any], Any]] = {
    "no-channel": lambda document: document["operations"]["get"].update(channel={"$ref": "#/x"}),
    "no-parameter": lambda document: document["channels"]["getBound"]["parameters"].pop("agent_id"),
    "no-such-type": lambda document: _schema(document, "Receipt")["properties"]["revision"].update(type="number?"),
    "bounds-of-text": lambda document: _schema(document, "ServiceQuery")["properties"]["limit"].update(minimum="1"),
    "no-message": lambda document: document["operations"]["get"]["messages"][0].update({"$ref": "#/channels/x"}),
    "queue-is-a-number": lambda document: document["operations"]["get"]["bindings"]["nats"].update(queue=1),
}
"""What would be wrong, to what makes it so."""


@pytest.mark.timeout(240)  # npm may have to fetch 168 packages
def test_the_parser_finds_nothing_wrong_but_would(parser: Path, tmp_path: Path) -> None:
    sound = (ROOT / "docs" / "asyncapi.json", tmp_path / "sound.json")
    sound[1].write_text(json.dumps(asyncapi(Subjects("eu.agents"), "1.2.3")))
    broken = {tmp_path / f"{what}.json": breaks for what, breaks in BROKEN.items()}
    for path, breaks in broken.items():
        document = json.loads(json.dumps(asyncapi(Subjects(), "0.1.0")))
        breaks(document)
        path.write_text(json.dumps(document))
    code, said = parsed(parser, *sound)
    assert code == 0, said
    for path in sound:
        *findings, last = said[path]
        assert {line.split()[1] for line in findings} <= EXPECTED, findings
        assert last == f"AsyncAPI 3.0.0, {len(json.loads(path.read_text())['operations'])} operations"
    code, said = parsed(parser, *broken)
    assert code == 1
    assert [path.stem for path, lines in said.items() if not any(line.startswith("error ") for line in lines)] == []


def test_the_lock_file_names_no_registry_host() -> None:
    """So that `npm ci` asks whatever registry a machine is configured for."""
    text = (HERE / "package-lock.json").read_text()
    assert "http" not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
