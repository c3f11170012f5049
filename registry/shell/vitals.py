"""What an agent says of itself when it is asked, as far as it is understood."""

from __future__ import annotations

from typing import Any

import orjson


def vitals_in(payload: bytes) -> tuple[float | None, float | None]:
    """Return health and load from a health check's answer, as far as it has them; any answer is a sign of life."""
    try:
        answer = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None, None
    if not isinstance(answer, dict):
        return None, None
    return _score(answer.get("health_score")), _score(answer.get("load_factor"))


def _score(value: Any) -> float | None:
    is_score = isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0
    return float(value) if is_score else None
