"""The signals that ask a process to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def on_stop_signal(
    loop: asyncio.AbstractEventLoop, callback: Callable[[str], None], at_once: Callable[[], None] | None = None
) -> Iterator[None]:
    """Have the loop call `callback` with the name of the first SIGINT or SIGTERM; the second one ends the process.

    Not through the loop's own signal handlers: those wait until the loop turns, and a blocked loop is when a second
    signal is sent. Outside the main thread, where Python takes no signals, this does nothing.

    Args:
        loop: Where `callback` is called. In the handler itself next to nothing may happen: it runs between any two
            instructions of the main thread, which may hold a lock of whatever is called, such as a logger's.
        callback: Begins to stop.
        at_once: Called at the second signal, just before the process ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(number: int, _frame: FrameType | None) -> None:
        _handle_with(signal.SIG_DFL if at_once is None else second)
        loop.call_soon_threadsafe(callback, signal.Signals(number).name)

    def second(number: int, _frame: FrameType | None) -> None:
        _handle_with(signal.SIG_DFL)
        if at_once is not None:
            at_once()
        os.kill(os.getpid(), number)

    before = {number: signal.signal(number, first) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle_with(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for each in STOP_SIGNALS:
        signal.signal(each, handler)
