"""The made-up agents: their records, registrations, heartbeats and the queries that look for them."""

from __future__ import annotations

import json
import random
import time

CAPABILITIES = ("trading", "research", "risk_management", "sentiment_analysis", "chart_analysis", "execution")
"""Everybody has the first one, so that each query ranks the whole fleet."""

TYPES = ("trading_agent", "research_agent", "risk_agent", "execution_agent")
REGIONS = ("eu-west-1", "us-east-1", "ap-south-1")

QUERIES = tuple(
    json.dumps({"capabilities": ["trading"], "limit": 10, **rest}).encode()
    for rest in ({}, {"sort_by": "load"}, {"min_health_score": 0.7, "max_load_factor": 0.9}, {"tags": ["gpu"]})
)
"""Callers ask different things; these are asked in turn."""

FIRST_SEQ = 10**15
"""Sequence numbers are of one length, so that a payload can be made by replacing one."""


def agent_id(number: int) -> str:
    return f"agent-{number:06d}"


def seq_base() -> int:
    """A sequence number above all that earlier processes used: they count on by less than one a microsecond."""
    return FIRST_SEQ + int(time.time() * 1e6) % FIRST_SEQ


def registration(number: int) -> dict:
    """What an agent says of itself; its lease outlasts the measurement."""
    return {
        "agent_type": TYPES[number % len(TYPES)],
        "capabilities": sorted({"trading", CAPABILITIES[number % len(CAPABILITIES)]}),
        "version": f"1.{number % 7}.0",
        "tags": ["gpu" if number % 2 else "cpu", f"team-{number % 5}"],
        "metadata": {"region": REGIONS[number % 3], "host": f"node-{number % 50}", "model": "large-v3"},
        "instance_id": f"{number:06d}-7f3a9c2e",
        "heartbeat_interval": 3600.0,
        "heartbeat_timeout": 86400.0,
        "max_concurrency": 8,
    }


def record(key: str, number: int, chance: random.Random) -> bytes:
    """The record of an agent that registered and has been checkpointed since, as the registry itself writes it."""
    import orjson

    from registry.core.record import Change, Record
    from registry.core.status import Status

    now = round(time.time(), 3)
    fields = registration(number)
    made = Record(
        **{**fields, "capabilities": tuple(fields["capabilities"]), "tags": tuple(fields["tags"])},
        agent_id=key,
        status=Status.ACTIVE,
        status_since=now,
        registered_at=now,
        last_heartbeat=now,
        health_score=round(chance.uniform(0.82, 1.0), 4),
        load_factor=round(chance.random(), 4),
        performance_metrics={
            "requests_served": float(chance.randrange(10**6)),
            "success_rate": round(chance.uniform(0.9, 1.0), 4),
            "avg_response_time": round(chance.uniform(0.01, 0.5), 4),
        },
        write_id=f"bench-{number}",
        change=Change(Status.REGISTERING, "registered", now, 0),
    )
    return orjson.dumps(made.to_json())


def beat(number: int, seq: int, chance: random.Random) -> bytes:
    """A heartbeat of some 200 bytes. Healthy, so that it changes no status; any load."""
    return (
        b'{"agent_id":"%b","incarnation":1,"seq":%d,"health_score":%.4f,"load_factor":%.4f,"response_time":%.4f,'
        b'"metrics":{"requests_served":%d,"success_rate":%.4f,"avg_response_time":%.4f}}'
    ) % (
        agent_id(number).encode(),
        seq,
        chance.uniform(0.82, 0.9999),
        chance.random(),
        chance.uniform(0.01, 0.5),
        seq - FIRST_SEQ,
        chance.uniform(0.9, 0.9999),
        chance.uniform(0.01, 0.5),
    )
