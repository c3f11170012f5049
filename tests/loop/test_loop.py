"""The loop, once, with all that may happen to it while the load is high."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.loop import checks
from tests.loop.play import Loop, Plan

PLAN = Plan(seconds=40.0)


@pytest.mark.timeout(180)
async def test_a_step_with_a_crash_an_illness_and_a_registry_that_is_killed(tmp_path: Path) -> None:
    """From nobody to the least there should be, up with the load, and down again; the registry's death is a pause."""
    async with Loop(PLAN, tmp_path) as loop:
        await loop.reached(lambda seen: seen.agents >= PLAN.min_agents, "the least there should be")
        load = await loop.load()
        enough = PLAN.high / checks.CAPACITY / 0.8
        await loop.reached(lambda seen: seen.agents >= enough, "agents enough for the step")

        crashed = (await loop.agents())[0]
        await loop.kill(crashed)
        ill = (await loop.agents())[-1]
        await loop.fall_ill(ill)
        await loop.restart_registry()
        await loop.reached(lambda seen: seen.agents >= enough, "agents enough after the restart")

        await asyncio.to_thread(load.process.wait)
        await loop.reached(lambda seen: seen.agents <= PLAN.min_agents, "the fall back to the least")
        course, left = loop.course, await loop.agents()

    assert checks.within_bounds(course) == []
    assert ill not in left
    replacements = [order for _, order in course.orders if order.action == "replace"]
    assert {name for order in replacements for name in order.agents} == {ill}
    ids = [order.order_id for _, order in course.orders]
    assert len(ids) == len(set(ids))
    generations = [(order.generation, order.attempt) for _, order in course.orders]
    assert generations == sorted(set(generations)), "a registry that was killed goes on counting"
    actions = [order.action for _, order in course.orders if order.action != "replace"]
    assert actions == sorted(actions, key=["scale_up", "scale_down"].index), "up, then down, and no flip"
