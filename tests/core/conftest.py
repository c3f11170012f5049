"""A world with one leading replica, checked when the test has ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.shell import Shell, World


@pytest.fixture
def world() -> Iterator[World]:
    """A bucket, a clock, and no replica yet."""
    world = World()
    yield world
    world.check()


@pytest.fixture
def shell(world: World) -> Shell:
    """A replica that leads."""
    return world.replica("one", leading=True)
