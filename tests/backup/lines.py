"""Lines of backups, made by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from agent_registry.backup.contents import read
from agent_registry.backup.form import Saved, encode_header

RECORDS = Path(__file__).parents[1] / "contract" / "records"


def stored(name: str = "v1.json") -> dict[str, Any]:
    """A record as it stands in a bucket, as `tests/contract/test_evolution.py` has it."""
    found: dict[str, Any] = json.loads((RECORDS / name).read_bytes())
    return found


def agent(key: str = "trader-1", /, **changes: Any) -> bytes:
    """The line of an agent; a change to `...` leaves the field out."""
    record = {**stored(), "agent_id": key, **changes}
    return entry("agent", key, {name: value for name, value in record.items() if value is not ...})


def policy(key: str = "trading", /, **sets: Any) -> bytes:
    """The line of a policy."""
    return entry("policy", key, sets)


def entry(kind: str, key: str, record: Any, revision: int = 7) -> bytes:
    """A line of any kind."""
    return json.dumps({"kind": kind, "key": key, "revision": revision, "record": record}).encode() + b"\n"


def rule(key: str = "four-eyes", /, **sets: Any) -> bytes:
    """The line of a rule."""
    return entry("rule", key, sets or {"kind": "combination", "capabilities": ["execution", "trading"]})


def header(agents: int = 1, policies: int = 0, rules: int = 0) -> bytes:
    """The first line."""
    return encode_header("registry", "registry_agents", 9, 1795476800.5, agents, policies, rules)


def saved(*lines: bytes) -> list[Saved]:
    """What a backup of these lines says."""
    return list(read(io.BytesIO(b"".join(lines)))[1])
