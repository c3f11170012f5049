"""Scenarios: how each trace is made from a number of agents and a seed. Instants and durations are virtual seconds."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.simulation.life import Cut, End, Life
from tests.simulation.network import CLOSING
from tests.simulation.trace import Span, Trace

LONG = 480.0
"""Of traces in which somebody dies: Eureka needs up to 240 s, and the last die after 230."""

SHORT = 300.0

RETURN = (0.1, 2.5)
"""A client of NATS has a connection again so long after it is possible."""

STALE = (10.0, 15.0)
"""A NATS server closes a connection that does not answer its pings after so long: `ping_interval` 5 s, `ping_max` 2, as
`agent-registry up` and `deploy/` have it. The server's own defaults take 4 to 6 minutes."""

DYING = (60.0, 230.0)
"""When single agents die."""


def _crash(at: float) -> Life:
    return Life(end=End.CRASHED, ends=at, closed=at + CLOSING / 2)


def _power_loss(at: float, chance: Random) -> Life:
    """Return a life that ends with its host: nobody closes the connection but the server's pings."""
    return Life(end=End.CRASHED, ends=at, closed=at + chance.uniform(*STALE))


def _hang(at: float, chance: Random) -> Life:
    return Life(end=End.HUNG, ends=at, closed=at + chance.uniform(*STALE))


def _paused(chance: Random, least: float, most: float, every: tuple[float, float], until: float) -> Life:
    pauses, at = [], chance.random() * every[1]
    while at < until:
        length = chance.uniform(least, most)
        pauses.append((at, at + length))
        at += max(length + 0.1, chance.uniform(*every))
    return Life(tuple(pauses))


def steady(agents: int, seed: int) -> Trace:
    """Nothing happens; messages take 20 ms in the mean."""
    return Trace("steady", seed, SHORT, [Life() for _ in range(agents)], latency=0.02)


def pauses(agents: int, seed: int) -> Trace:
    """One agent in ten stands still for 2 s in every 5, as for garbage collection or a blocking call."""
    chance = Random(f"{seed} pauses")
    lives = [_paused(chance, 2.0, 2.0, (5.0, 5.0), SHORT) if n % 10 == 0 else Life() for n in range(agents)]
    return Trace("pauses 2 s in 5", seed, SHORT, lives)


def starved(agents: int, seed: int) -> Trace:
    """One agent in ten stands still for 3 to 8 s, two or three times a minute."""
    chance = Random(f"{seed} starved")
    lives = [_paused(chance, 3.0, 8.0, (20.0, 40.0), SHORT) if n % 10 == 0 else Life() for n in range(agents)]
    return Trace("pauses 3-8 s", seed, SHORT, lives)


def loss(agents: int, seed: int, share: float) -> Trace:
    """A part of all messages is lost: beats, probes and their answers alike."""
    return Trace(f"loss {share:.0%}", seed, SHORT, [Life() for _ in range(agents)], loss=share)


def partition(agents: int, seed: int, share: float, length: float, is_closed: bool) -> Trace:
    """A part of the agents is cut off for a while.

    Connections that are closed at once leave nobody listening: probes find no responders. Others are silent, and probes
    time out, until the server's pings close them; their clients know of nothing before that.
    """
    kind = "closed" if is_closed else "silent"
    name = f"cut {share:.0%} {length:g} s, {kind}"
    chance, begin = Random(f"{seed} {name}"), 120.0

    def cut() -> Life:
        end = begin + length
        closed = begin if is_closed else begin + chance.uniform(*STALE)
        back = end + chance.uniform(*RETURN) if closed <= end else end
        return Life(cuts=(Cut(begin, back, closed, "Read Error" if is_closed else "Stale Connection"),))

    lives = [cut() if n < agents * share else Life() for n in range(agents)]
    return Trace(name, seed, SHORT, lives)


def nats_restarts(agents: int, seed: int) -> Trace:
    """NATS is away for 1, 2 and 4 s; every client, and the registry too, comes back on its own."""
    chance = Random(f"{seed} nats")
    spans: tuple[Span, ...] = ((60.0, 61.0), (150.0, 152.0), (230.0, 234.0))

    def away() -> Life:
        return Life(cuts=tuple(Cut(begin, end + chance.uniform(*RETURN), begin, None) for begin, end in spans))

    lives = [away() for _ in range(agents)]
    outages = tuple((begin, end + chance.uniform(*RETURN)) for begin, end in spans)
    return Trace("NATS restarts", seed, SHORT, lives, outages=outages)


def stalls(agents: int, seed: int) -> Trace:
    """The watcher's process stands still for 10 s twice, and for 30 s once."""
    spans = ((60.0, 70.0), (121.7, 131.7), (220.0, 250.0))
    return Trace("watcher stalls", seed, SHORT, [Life() for _ in range(agents)], stalls=spans)


def restarts(agents: int, seed: int) -> Trace:
    """The watcher's process is started anew: gone for 3 s, and for 20 s."""
    spans = ((60.0, 63.0), (180.0, 200.0))
    return Trace("watcher restarts", seed, SHORT, [Life() for _ in range(agents)], downs=spans)


def _dying(name: str, agents: int, seed: int, die: Callable[[float, Random], Life]) -> Trace:
    """One agent in ten dies, each on its own."""
    chance = Random(f"{seed} {name}")
    lives = [die(chance.uniform(*DYING), chance) if n % 10 == 0 else Life() for n in range(agents)]
    return Trace(name, seed, LONG, lives)


def crashes(agents: int, seed: int) -> Trace:
    """Processes are killed, one at a time; their hosts close the connections."""
    return _dying("crashes", agents, seed, lambda at, _: _crash(at))


def power_losses(agents: int, seed: int) -> Trace:
    """Hosts go away, one at a time; nobody closes the connections but the server's pings."""
    return _dying("power losses", agents, seed, _power_loss)


def hangs(agents: int, seed: int) -> Trace:
    """Processes hang for good, one at a time."""
    return _dying("hangs", agents, seed, _hang)


def half_crashes(agents: int, seed: int) -> Trace:
    """Every other agent is killed at the same instant."""
    lives = [_crash(120.0) if n % 2 == 0 else Life() for n in range(agents)]
    return Trace("half crash", seed, LONG, lives)


def departures(agents: int, seed: int) -> Trace:
    """Half of the fleet deregisters within a minute; one in twenty of the others is killed after that."""
    chance = Random(f"{seed} departures")
    lives = []
    for n in range(agents):
        if n % 2 == 0:
            at = chance.uniform(60.0, 120.0)
            lives.append(Life(end=End.LEFT, ends=at, closed=at + 0.05))
        else:
            lives.append(_crash(chance.uniform(180.0, 230.0)) if n % 40 == 1 else Life())
    return Trace("departures, then crashes", seed, LONG, lives)


def bad_day(agents: int, seed: int) -> Trace:
    """Some of all at once: 2 % of messages lost, agents that pause, NATS away once, and one agent in twenty dies."""
    chance = Random(f"{seed} bad day")
    begin, end = 150.0, 152.0
    lives = []
    for n in range(agents):
        life = Life()
        if n % 20 == 0:
            die = (lambda at, _: _crash(at), _power_loss, _hang)[n // 20 % 3]
            life = die(chance.uniform(*DYING), chance)
        elif n % 10 == 1:
            life = _paused(chance, 1.0, 4.0, (10.0, 30.0), LONG)
        if life.ends > begin:
            life.cuts = (Cut(begin, end + chance.uniform(*RETURN), begin, None),)
        lives.append(life)
    outages = ((begin, end + chance.uniform(*RETURN)),)
    return Trace("bad day", seed, LONG, lives, loss=0.02, outages=outages)


Make = Callable[[int, int], Trace]


def _partition(share: float, length: float, is_closed: bool) -> Make:
    return lambda agents, seed: partition(agents, seed, share, length, is_closed)


CUTS = (
    (0.1, 0.0, True), (0.1, 2.0, True), (0.4, 2.0, True), (1.0, 2.0, True),
    (0.1, 8.0, False), (0.1, 8.0, True), (0.4, 8.0, False), (0.4, 8.0, True), (1.0, 8.0, False), (1.0, 8.0, True),
    (0.4, 60.0, False), (0.4, 60.0, True), (1.0, 60.0, False), (1.0, 60.0, True),
)  # fmt: skip
"""Part of the agents, seconds, and whether connections are closed at once."""

SCENARIOS: tuple[Make, ...] = (
    steady,
    pauses,
    starved,
    lambda agents, seed: loss(agents, seed, 0.01),
    lambda agents, seed: loss(agents, seed, 0.05),
    *(_partition(*what) for what in CUTS),
    nats_restarts,
    stalls,
    restarts,
    crashes,
    power_losses,
    hangs,
    half_crashes,
    departures,
    bad_day,
)
"""All, in the order of the tables."""
