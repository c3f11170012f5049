"""A reader that has had enough, as `agent-registry agents | head` has."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from tests.cli.running import ROOT, Up, command, environment, until


@pytest.mark.parametrize("words", [("agents",), ("agents", "--json"), ("watch",), ("watch", "--json")], ids=" ".join)
def test_who_reads_no_further_ends_it_quietly(up: Up, words: tuple[str, ...]) -> None:
    for n in range(30):
        up.register(f"many-{n}", metadata={"note": "x" * 5000}, instance_id="i")
    count = itertools.count()
    with subprocess.Popen(
        command(*words, "--nats", up.url), env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        until(lambda: up.register("one", instance_id="i", tags=[f"t{next(count)}"]) or process.poll() is not None)
        assert (process.returncode, process.stderr.read()) == (0, b"")
