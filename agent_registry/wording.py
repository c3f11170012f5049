"""Numbers and states in the words and colours that people read them in."""

from __future__ import annotations

import time
from collections.abc import Iterable

STATUS_STYLES = {
    "registering": "cyan",
    "active": "green",
    "degraded": "yellow",
    "suspended": "magenta",
    "deregistering": "blue",
    "offline": "red",
}

ACTION_STYLES = {
    "scale_up": "bold green",
    "scale_down": "bold blue",
    "replace": "bold yellow",
    "rebalance": "bold yellow",
}

_BLOCKS = " ▏▎▍▌▋▊▉█"


def duration(seconds: float) -> str:
    """Return a length of time in the largest unit that fits, for example `0.4 s`, `45 s`, `12 min`."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} d"


def ago(timestamp: float) -> str:
    """Return how long ago a Unix time was, by this machine's clock."""
    return duration(time.time() - timestamp)


def clock(timestamp: float) -> str:
    """Return a Unix time as local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(timestamp))


def moment(timestamp: float) -> str:
    """Return a Unix time as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))


def bar(share: float, width: int = 8) -> str:
    """Return a bar of `width` characters, filled to `share` (0.0 to 1.0)."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (_BLOCKS[rest] if rest else "")
    return drawn.ljust(width)


def health_style(health: float) -> str:
    """Return the colour of a health score; the bounds are those of the statuses."""
    return "green" if health >= 0.8 else "yellow" if health >= 0.5 else "red"


def load_style(load: float) -> str:
    """Return the colour of a load factor; red from where discover's default leaves an agent out."""
    return "red" if load > 0.8 else "yellow" if load > 0.6 else "green"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def because(reason: str | None, note: str | None) -> str:
    """Return why an agent has its status, and what whoever wanted it so said."""
    return f"{reason}: {note}" if reason and note else reason or ""


def either(names: Iterable[str]) -> str:
    """Return `a, b or c`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def count(amount: int, noun: str) -> str:
    """Return `1 agent`, `2 agents`, `2 policies`."""
    if amount != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{amount} {noun}"


def size(amount: int) -> str:
    """Return a number of bytes in the largest unit that fits, for example `1.5 GiB`."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} GiB"
