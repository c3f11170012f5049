"""What all traces and all rules have in common. Durations are virtual seconds."""

from __future__ import annotations

SLOTS = 4
"""Pieces of work that an agent does at a time."""

SERVICE = 5.0
"""What a piece of work takes in the mean."""

TARGET = 0.55
"""Load that every rule is told to keep; a rule that has bounds in its place has 0.8 and 0.3, as the API reference."""

HIGH_LOAD = 0.8
LOW_LOAD = 0.3

MIN_AGENTS = 2
MAX_AGENTS = 50

BEAT = 5.0
"""Between two reports of an agent's load."""

FIRST_BEAT = 1.0
"""Within which an agent's first report comes, as `agents_sdk/lease.py` has it."""

JITTER = 0.1
"""Reports come up to this share of the interval early, as those of `agents_sdk/lease.py`."""

START = 20.0
"""From the order of an agent until it serves, where nothing else is said."""

LEAD = 300.0
"""Before a trace begins, its first demand has been there for so long; what happens in it is not scored."""

PER_AGENT = SLOTS * TARGET / SERVICE
"""Pieces of work a second that keep one agent at the target."""
