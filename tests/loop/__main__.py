"""`python -m tests.loop`: a shape of load passes over agents that are started and stopped as the registry orders."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.loop import checks
from tests.loop.play import Course, Loop, Plan


async def play(plan: Plan, folder: Path) -> Course:
    """Play a plan, and print what is seen a line a second."""
    async with Loop(plan, folder) as loop:
        await loop.reached(lambda seen: seen.agents >= plan.min_agents, "the least there should be")
        load = await loop.load()
        await asyncio.to_thread(load.process.wait)
        await loop.reached(lambda seen: seen.agents <= plan.min_agents, "the fall back to the least")
        sys.stdout.write(load.stdout)
        return loop.course


def main() -> int:
    parser = argparse.ArgumentParser(prog="make loop", description=__doc__)
    parser.add_argument("--shape", choices=("step", "ramp", "sine", "spike"), action="append", help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each shape; default: %(default)s")
    parser.add_argument("--high", type=float, default=44.0, help="calls a second at the most; default: %(default)s")
    told = parser.parse_args()
    failures = 0
    for shape in told.shape or ("step", "ramp", "sine", "spike"):
        plan = Plan(shape=shape, seconds=told.seconds, high=told.high)
        course = asyncio.run(play(plan, Path(tempfile.mkdtemp(prefix=f"loop-{shape}-"))))
        failures += _tell(course)
    return 1 if failures else 0


def _tell(course: Course) -> int:
    plan, second = course.plan, 0
    for seen in course.between(0.0, course.seen[-1].at):
        if seen.at >= second:
            load = "   -" if seen.load is None else f"{seen.load:.2f}"
            sys.stdout.write(f"{seen.at:5.0f} s  {seen.agents} of {seen.desired} agents  load {load}  {seen.reason}\n")
            second += 1
    outside = checks.within_bounds(course)
    orders = [f"{at:.1f} s {order.action} to {order.desired}" for at, order in course.orders if at > 0]
    sys.stdout.write(f"{plan.shape}: {len(orders)} orders: {', '.join(orders)}\n")
    if plan.shape == "step":
        start = checks.start_time(course)
        sys.stdout.write(
            f"agents start in {start:.1f} s; enough of them {checks.caught_up(course):.1f} s after the step; "
            f"back to {plan.min_agents} after {checks.fell_back(course) or float('nan'):.1f} s\n"
        )
    sys.stdout.write(f"out of bounds: {', '.join(outside) or 'never'}\n\n")
    return len(outside)


if __name__ == "__main__":
    sys.exit(main())
