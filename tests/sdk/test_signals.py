"""Being asked to stop, by signals that come at any moment."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

from agents_sdk.signals import STOP_SIGNALS, on_stop_signal

ROOT = Path(__file__).parents[2]


async def test_the_loop_is_told_of_the_first_one() -> None:
    names: list[str] = []
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with on_stop_signal(asyncio.get_running_loop(), names.append):
        os.kill(os.getpid(), signal.SIGTERM)
        assert names == []
        await asyncio.sleep(0)
        assert names == ["SIGTERM"]
        assert {signal.getsignal(number) for number in STOP_SIGNALS} == {signal.SIG_DFL}
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


async def test_it_comes_while_a_lock_is_held_that_the_callback_takes() -> None:
    """As when a line is logged just then, through a handler whose lock cannot be taken twice."""
    lines: queue.Queue[str] = queue.Queue()
    with on_stop_signal(asyncio.get_running_loop(), lines.put):
        with lines.mutex:
            os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)
    assert lines.get_nowait() == "SIGINT"


def test_the_second_one_ends_the_process_after_a_last_deed() -> None:
    program = """
import asyncio, os, signal, time
from agents_sdk.signals import on_stop_signal

async def main():
    with on_stop_signal(asyncio.get_running_loop(), print, lambda: print("at once", flush=True)):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        print("not reached")

asyncio.run(main())
"""
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (-signal.SIGINT, "at once\n"), found.stderr


async def test_in_another_thread_there_are_no_signals() -> None:
    loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

    def look() -> None:
        with on_stop_signal(loop, print):
            assert signal.getsignal(signal.SIGTERM) is before

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
