"""How long hypothesis looks for a counterexample."""

from __future__ import annotations

import os

from hypothesis import Phase, settings

MORE = int(os.environ.get("CORE_EXAMPLES", "0"))
"""Look at this many random examples instead of the few that are the same every time."""


def searching(examples: int, steps: int) -> settings:
    """Return settings for a state machine: the same examples in every run, unless `CORE_EXAMPLES` asks for more."""
    return settings(
        max_examples=MORE or examples,
        stateful_step_count=steps,
        derandomize=not MORE,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate),
    )
