"""README's table of settings says what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from registry.settings import Settings

README = Path(__file__).parents[2] / "README.md"


def _shown(default: Any) -> str:
    if default in (None, ""):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_every_setting_stands_in_readme_with_its_default_and_meaning() -> None:
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", README.read_text(), re.MULTILINE))
    wanted = {
        name.upper(): f"{_shown(field.default)} | {' '.join((field.description or '').split())}"
        for name, field in Settings.model_fields.items()
    }
    assert table == wanted
