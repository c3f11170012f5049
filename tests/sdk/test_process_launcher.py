"""Processes are started, told who they are, started again, ended in order, and found again by whoever comes next."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agents_sdk import LauncherFullError, LaunchError, ProcessLauncher, child, process_launcher
from tests.cli.running import is_alive
from tests.conftest import eventually

ROOT = Path(__file__).parents[2]

WORKER = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"told to end\\n"), sys.exit(0)))
    told = [os.environ["AGENT_REGISTRY_" + name] for name in ("AGENT_ID", "CAPABILITY")]
    print("up", *sys.argv[1:], *told, flush=True)
    while True: time.sleep(60)
"""

Open = Callable[..., Awaitable[ProcessLauncher]]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_launcher, "RESTART_FLOOR", 0.01)
    monkeypatch.setattr(process_launcher, "RESTART_CEILING", 0.02)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
async def open_launcher(tmp_path: Path, said: list[str]) -> Any:
    """Makes launchers of a program's source; they are closed with the test."""
    async with AsyncExitStack() as stack:

        async def make(source: str, **options: Any) -> ProcessLauncher:
            program = tmp_path / "program.py"
            program.write_text(textwrap.dedent(source))
            command = [sys.executable, str(program), "{agent_id}", "of-{capability}"]
            usual = {"folder": tmp_path / "agents", "max_processes": 3, "say": said.append, "grace": 20.0}
            return await stack.enter_async_context(ProcessLauncher(command, **{**usual, **options}))

        yield make


def logged(launcher: ProcessLauncher, agent_id: str) -> str:
    return launcher.log(agent_id).read_text() if launcher.log(agent_id).exists() else ""


def pid_of(launcher: ProcessLauncher, agent_id: str) -> int:
    pid = launcher._kept[agent_id].child.pid
    assert pid is not None
    return pid


async def test_it_is_told_who_it_is_and_ended_in_order(open_launcher: Open) -> None:
    launcher = await open_launcher(WORKER)
    assert await launcher.start("a", "trading") == "a"
    await eventually(lambda: logged(launcher, "a") == "up a of-trading a trading\n")
    pid = pid_of(launcher, "a")
    assert (await launcher.running("trading"), await launcher.running("research")) == (["a"], [])
    await launcher.stop("a")
    assert logged(launcher, "a").endswith("told to end\n")
    assert not is_alive(pid)
    assert await launcher.running("trading") == []
    await launcher.stop("a")
    await launcher.stop("nobody")


async def test_one_id_is_one_process(open_launcher: Open) -> None:
    launcher = await open_launcher(WORKER)
    await asyncio.gather(*(launcher.start("a", "trading") for _ in range(5)))
    assert launcher.agents == ["a"]
    await eventually(lambda: logged(launcher, "a").count("up") == 1)


async def test_no_more_run_than_may(open_launcher: Open) -> None:
    launcher = await open_launcher(WORKER)
    results = await asyncio.gather(*(launcher.start(each, "trading") for each in "abcde"), return_exceptions=True)
    assert results[:3] == ["a", "b", "c"]
    assert [type(each) for each in results[3:]] == [LauncherFullError, LauncherFullError]
    await launcher.stop("b")
    assert await launcher.start("d", "research") == "d"


async def test_one_that_crashes_is_started_again_under_its_id_and_given_up_in_the_end(
    open_launcher: Open, said: list[str]
) -> None:
    launcher = await open_launcher("print('no such module: trader'); raise SystemExit(7)", max_restarts=2)
    await launcher.start("a", "trading")
    await eventually(lambda: launcher.agents == [])
    assert [words.partition(" s, ")[2] or words for words in said] == [
        "restart 1 of 2",
        "restart 2 of 2",
        "a ended with code 7: no such module: trader; given up after 2 restarts",
    ]
    assert said[0].startswith("a ended with code 7: no such module: trader; starts again in 0.0")
    assert logged(launcher, "a").count("no such module") == 3


async def test_who_has_lived_for_a_while_has_all_restarts_again(
    open_launcher: Open, said: list[str], monkeypatch
) -> None:
    monkeypatch.setattr(process_launcher, "STEADY", 0.0)
    launcher = await open_launcher("raise SystemExit(7)", max_restarts=1)
    await launcher.start("a", "trading")
    await eventually(lambda: len(said) >= 4)
    assert launcher.agents == ["a"]


async def test_a_killed_one_is_a_crash_and_waits_for_its_restart_as_one_that_runs(
    open_launcher: Open, said: list[str], monkeypatch
) -> None:
    monkeypatch.setattr(process_launcher, "RESTART_FLOOR", 30.0)
    monkeypatch.setattr(process_launcher, "RESTART_CEILING", 60.0)
    launcher = await open_launcher(WORKER)
    await launcher.start("a", "trading")
    await eventually(lambda: "up" in logged(launcher, "a"))
    os.kill(pid_of(launcher, "a"), signal.SIGKILL)
    await eventually(lambda: len(said) == 1)
    assert said[0].startswith("a was ended by SIGKILL: up a of-trading a trading; starts again in ")
    assert await launcher.running("trading") == ["a"]
    await launcher.stop("a")
    assert launcher.agents == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "a has ended"),
        (3, "a is refused by the registry and not started again: agent_id: 'fixed' is held"),
    ],
)
async def test_who_has_left_or_is_refused_is_not_started_again(
    open_launcher: Open, said: list[str], code: int, words: str
) -> None:
    launcher = await open_launcher(f"""print("agent_id: 'fixed' is held"); raise SystemExit({code})""")
    await launcher.start("a", "trading")
    await eventually(lambda: launcher.agents == [])
    assert said == [words]


async def test_who_does_not_end_is_killed_with_all_it_has_started(open_launcher: Open, said: list[str]) -> None:
    launcher = await open_launcher(
        """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
        time.sleep(600)
        """,
        grace=0.2,
    )
    await launcher.start("a", "trading")
    await eventually(lambda: logged(launcher, "a").endswith("\n"))
    pids = [pid_of(launcher, "a"), int(logged(launcher, "a"))]
    await launcher.stop("a")
    assert said == ["a has not ended 0.2 s after SIGTERM and is killed"]
    await eventually(lambda: not any(map(is_alive, pids)))


async def test_all_are_ended_in_order_when_the_block_ends_by_an_exception(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(WORKER)]
    launcher = ProcessLauncher(command, folder=tmp_path, max_processes=2)
    with pytest.raises(KeyError):  # noqa: PT012
        async with launcher:
            for each in "ab":
                await launcher.start(each, "trading")
            await eventually(lambda: all("up" in logged(launcher, each) for each in "ab"))
            pids = [pid_of(launcher, each) for each in "ab"]
            raise KeyError
    assert [logged(launcher, each).splitlines()[-1] for each in "ab"] == ["told to end"] * 2
    assert not any(map(is_alive, pids))
    with pytest.raises(LaunchError, match="closed; nothing is started any more"):
        await launcher.start("c", "trading")


ORCHESTRATING = """
    import asyncio, pathlib, sys
    from agents_sdk import ProcessLauncher

    async def main():
        folder, *command = sys.argv[1:]
        async with ProcessLauncher(command, folder=pathlib.Path(folder), max_processes=2) as launcher:
            await launcher.start("left", "trading")
            print("started", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


async def test_killed_it_leaves_them_at_work_and_the_next_one_finds_them(tmp_path: Path, said: list[str]) -> None:
    folder = tmp_path / "agents"
    command = [sys.executable, "-c", textwrap.dedent(WORKER)]
    first = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(ORCHESTRATING), str(folder), *command),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert first.stdout is not None
    assert await first.stdout.readline() == b"started\n"
    with pytest.raises(LaunchError, match=r"folder: .*agents is in use by another launcher"):
        async with ProcessLauncher(command, folder=folder, max_processes=2):
            pass
    await eventually(lambda: (folder / "left.log").read_text() != "")
    first.kill()
    await first.communicate()
    async with ProcessLauncher(command, folder=folder, max_processes=2, say=said.append) as launcher:
        assert said == ["left still at work from an earlier run"]
        pid = pid_of(launcher, "left")
        assert is_alive(pid)
        assert await launcher.running("trading") == ["left"]
        await launcher.start("left", "trading")
        await launcher.start("other", "trading")
        with pytest.raises(LauncherFullError):
            await launcher.start("more", "trading")
        assert logged(launcher, "left").count("up") == 1
        await launcher.stop("left")
        assert not is_alive(pid)
        assert logged(launcher, "left").endswith("told to end\n")
        assert await launcher.running("trading") == ["other"]
    assert sorted(path.name for path in folder.iterdir()) == ["launcher", "left.log", "other.log"]


@pytest.fixture
def unnoted(tmp_path: Path) -> Iterator[Callable[[bool], subprocess.Popen[bytes]]]:
    """Starts a process as a launcher does that is killed before it has written down which one that is."""
    started: list[subprocess.Popen[bytes]] = []

    def start(leads: bool) -> subprocess.Popen[bytes]:
        folder = tmp_path / "agents"
        folder.mkdir()
        with (folder / "left.lock").open("w+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            child._write(lock, "trading", None)
            process = subprocess.Popen(["sleep", "60"], pass_fds=(lock.fileno(),), start_new_session=leads)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="elsewhere than on Linux nobody tells who holds a lock")
async def test_one_of_which_was_not_noted_which_process_it_is_is_found_by_its_lock(
    open_launcher: Open, unnoted: Callable[[bool], subprocess.Popen[bytes]], said: list[str]
) -> None:
    process = unnoted(True)
    launcher = await open_launcher(WORKER)
    assert (await launcher.running("trading"), pid_of(launcher, "left")) == (["left"], process.pid)
    await launcher.stop("left")
    assert process.poll() == -signal.SIGTERM
    assert (launcher.agents, said) == ([], ["left still at work from an earlier run"])


async def test_one_that_cannot_be_found_is_said_to_run_on(
    open_launcher: Open, unnoted: Callable[[bool], subprocess.Popen[bytes]], said: list[str]
) -> None:
    process = unnoted(False)
    launcher = await open_launcher(WORKER)
    unknown = "left runs, but nobody knows in which process: end the one that holds .*/left.lock"
    with pytest.raises(LaunchError, match=unknown):
        await launcher.stop("left")
    assert await launcher.running("trading") == ["left"]
    await launcher.start("other", "trading")
    await launcher.__aexit__(None, None, None)
    assert re.fullmatch(f"{unknown}; it is left at work", said[-1])
    assert process.poll() is None


async def test_who_is_told_and_fails_holds_up_nothing(open_launcher: Open, caplog) -> None:
    def fail(_: str) -> None:
        raise BrokenPipeError

    launcher = await open_launcher("print('up'); raise SystemExit(7)", max_restarts=2, say=fail)
    await launcher.start("a", "trading")
    await eventually(lambda: launcher.agents == [])
    assert logged(launcher, "a") == "up\n" * 3
    assert caplog.text.count("cannot tell of") == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-program {agent_id}", "command: 'no-such-program' is not found, or cannot be run"),
        ("sh {agentid}", "command: {agentid} is no placeholder; known are {agent_id} and {capability}"),
        ("sh 'x", 'command: No closing quotation in "sh \'x"'),
        ("", "command: is empty"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused(tmp_path: Path, command: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        ProcessLauncher(command, folder=tmp_path, max_processes=1)
    assert str(refused.value) == said


def test_braces_that_are_no_placeholder_are_left_alone(tmp_path: Path) -> None:
    ProcessLauncher("""sh -c 'echo {"a": 1} ${HOME}x{1..2}'""".replace("${HOME}", ""), folder=tmp_path, max_processes=1)


async def test_an_id_that_is_none_is_refused(open_launcher: Open) -> None:
    launcher = await open_launcher(WORKER)
    with pytest.raises(ValueError, match="agent_id: must be 1 to 128 characters"):
        await launcher.start("../a", "trading")
