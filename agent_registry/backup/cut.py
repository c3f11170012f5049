"""A consistent cut: every agent as of one revision of the bucket, the scaling policies, and the rules on conflicts.

Agents may change while the bucket is read, and then come again. So lines go to a temporary file as they come; what is
remembered of each is only which one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import BinaryIO

from agent_registry.backup.form import BackupError, encode_agent, encode_header, encode_policy, encode_rule
from agents_sdk.protocol.subjects import Subjects
from registry.shell.clock import wall
from registry.shell.entry import Entry
from registry.shell.log_reader import contents
from registry.shell.policies import capability_of
from registry.shell.rules import RULE
from registry.shell.store import Store


@dataclass(slots=True)
class Cut:
    """What was read; its lines of agents are in a file.

    Attributes:
        revision: Of the agents' bucket, that all of it is as of.
        at: Unix time, s.
        agents: The agents, with the revision of the line that counts: ids and numbers, no records.
        policies: Lines of policies, by capability; there are as many as capabilities.
        rules: Lines of rules, by name.
        left_out: What stands in the buckets and cannot be put back: key, and why.
    """

    revision: int = 0
    at: float = 0.0
    agents: dict[str, int] = field(default_factory=dict)
    policies: dict[str, bytes] = field(default_factory=dict)
    rules: dict[str, bytes] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


async def take(store: Store, subjects: Subjects, lines: BinaryIO) -> Cut:
    """Read the buckets.

    Args:
        store: Where they are.
        subjects: Their names.
        lines: Where lines of agents go, in the order in which they come.

    Raises:
        StoreError: If JetStream does not answer.
    """
    cut = Cut(at=round(wall(), 3))
    async with aclosing(contents(store, subjects.agents_bucket)) as entries:
        async for entry in entries:
            _agent(cut, entry, lines)
            cut.revision = entry.revision
    async with aclosing(contents(store, subjects.control_bucket)) as entries:
        async for entry in entries:
            capability = capability_of(entry.key)
            if capability is not None:
                _setting(cut, cut.policies, capability, entry, encode_policy)
            elif entry.key.startswith(RULE):
                _setting(cut, cut.rules, entry.key.removeprefix(RULE), entry, encode_rule)
    return cut


def _agent(cut: Cut, entry: Entry, lines: BinaryIO) -> None:
    cut.agents.pop(entry.key, None)
    cut.left_out.pop(entry.key, None)
    if entry.removed:
        return
    try:
        line = encode_agent(entry.key, entry.revision, entry.value)
    except BackupError as error:
        cut.left_out[entry.key] = error.message
        return
    lines.write(b"%d " % entry.revision + line)
    cut.agents[entry.key] = entry.revision


def _setting(
    cut: Cut, lines: dict[str, bytes], name: str, entry: Entry, encode: Callable[[str, int, bytes], bytes]
) -> None:
    lines.pop(name, None)
    cut.left_out.pop(entry.key, None)
    if entry.removed:
        return
    try:
        lines[name] = encode(name, entry.revision, entry.value)
    except BackupError as error:
        cut.left_out[entry.key] = error.message


def write(cut: Cut, subjects: Subjects, lines: BinaryIO, to: BinaryIO) -> None:
    """Write the backup.

    Args:
        cut: What was read.
        subjects: Names of the registry.
        lines: Where its lines are, at their beginning.
        to: Where the backup goes.

    Raises:
        OSError: If it cannot be written.
    """
    counted = len(cut.agents), len(cut.policies), len(cut.rules)
    to.write(encode_header(subjects.prefix, subjects.agents_bucket, cut.revision, cut.at, *counted))
    counts = set(cut.agents.values())
    for line in lines:
        revision, _, rest = line.partition(b" ")
        if int(revision) in counts:
            to.write(rest)
    for line in (*cut.policies.values(), *cut.rules.values()):
        to.write(line)
