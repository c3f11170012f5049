"""The process that makes the load: reads one JSON object from its command line, prints one when it is done.

Only the standard library, and as little work per message as possible, so that it is never what is measured.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice

from bench import fleet
from bench.wire import Wire, message, request

CHUNK = 512
"""Beats between two that ask for an answer, which says that all before were taken."""

CHUNKS_ON_THEIR_WAY = 8
VARIANTS = 2
"""Different beats made for each agent; they come in turn."""


def windowed(wire: Wire, frames: Iterator[bytes], window: int, seconds: float, most: int) -> dict:
    """Keep `window` requests unanswered until time or number is up, then wait for the last answers."""
    started = time.perf_counter()
    sent = min(window, most)
    wire.send(b"".join(islice(frames, sent)))
    done = 0
    while done < sent:
        came = wire.answers()
        done += came
        more = min(came, most - sent) if time.perf_counter() - started < seconds else 0
        sent += more
        if more:
            wire.send(b"".join(islice(frames, more)))
    return {"ops": done, "seconds": time.perf_counter() - started}


def requests(wire: Wire, job: dict) -> dict:
    """Ask the queries in turn. Every `per_beat` of them, a heartbeat of a random agent moves its load."""
    asked = [request(job["subject"], query) for query in fleet.QUERIES]
    chance, agents, per_beat = random.Random(job["seed"]), job.get("agents", 0), job.get("per_beat", 0)

    def frames() -> Iterator[bytes]:
        seq = fleet.seq_base()
        for turn, query in enumerate(cycle(asked)):
            if per_beat and turn % per_beat == 0:
                number, seq = chance.randrange(agents), seq + 1
                subject = f"{job['beat_subject']}.{fleet.agent_id(number)}"
                yield message(subject, fleet.beat(number, seq, chance)) + query
            else:
                yield query

    return windowed(wire, frames(), job["window"], job["seconds"], 10**9)


def registrations(wire: Wire, job: dict) -> dict:
    """Register agents that are not there yet."""
    forms = [json.dumps({"agent_id": "AGENT_ID_HERE", **fleet.registration(n)}).encode() for n in range(420)]

    def frames() -> Iterator[bytes]:
        number = 0
        while True:
            for form in forms:
                number += 1
                key = b"r%d-%08d" % (job["seed"], number)
                yield request(job["subject"], form.replace(b"AGENT_ID_HERE", key))

    return windowed(wire, frames(), job["window"], job["seconds"], job.get("most", 10**9))


def beats(wire: Wire, job: dict) -> dict:
    """Send heartbeats of all agents over and over; every so many one asks for an answer, which bounds the queue."""
    chance, mark = random.Random(job["seed"]), fleet.FIRST_SEQ + 1
    chunks = []
    for _ in range(VARIANTS):
        for first in range(0, job["agents"], CHUNK):
            numbers = range(first, min(first + CHUNK, job["agents"]))
            subjects = [f"{job['subject']}.{fleet.agent_id(number)}" for number in numbers]
            payloads = [fleet.beat(number, mark, chance) for number in numbers]
            frames = [message(*beat) for beat in zip(subjects, payloads, strict=True)]
            frames[-1] = request(subjects[-1], payloads[-1])
            chunks.append((len(numbers), b"".join(frames)))
    number, ops, seq, base = str(mark).encode(), 0, 0, fleet.seq_base()

    def chunk_frames() -> Iterator[bytes]:
        nonlocal ops, seq
        per_pass = len(chunks) // VARIANTS
        for turn, (size, chunk) in enumerate(cycle(chunks)):
            seq = base + turn // per_pass
            ops += size
            yield chunk.replace(b'"seq":' + number, b'"seq":%d' % seq)

    most = -(-job["agents"] // CHUNK) if job.get("once") else 10**9
    result = windowed(wire, chunk_frames(), CHUNKS_ON_THEIR_WAY, job["seconds"], most)
    return {**result, "ops": ops}


def fill(wire: Wire, job: dict) -> dict:
    """Write agents' records straight into a bucket."""
    chance = random.Random(job["seed"])
    frames = (
        request(f"{job['subject']}{key}", fleet.record(key, number, chance))
        for number, key in ((number, fleet.agent_id(number)) for number in range(job["agents"]))
    )
    return windowed(wire, frames, job["window"], 1e9, job["agents"])


JOBS = {"requests": requests, "registrations": registrations, "beats": beats, "fill": fill}


def main() -> None:
    job = json.loads(sys.argv[1])
    wire = Wire(job["url"])
    result = JOBS[job["job"]](wire, job)
    wire.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
