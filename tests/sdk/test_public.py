"""What the package offers, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import agents_sdk
from agents_sdk.protocol.errors import ERRORS

PACKAGE = Path(agents_sdk.__file__).parent


@pytest.mark.parametrize("name", agents_sdk.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(agents_sdk, name) is getattr(agents_sdk, name)
    assert name in dir(agents_sdk)


def test_every_error_is_public() -> None:
    assert {error.__name__ for error in ERRORS.values()} <= set(agents_sdk.__all__)


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = agents_sdk.Nonsense
    assert agents_sdk.__all__ == sorted(agents_sdk.__all__)


def test_what_type_checkers_see_is_what_is_there() -> None:
    """The names under TYPE_CHECKING and those loaded on first use come from the same modules."""
    seen = {}
    for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("agents_sdk."):
            seen |= {alias.name: node.module for alias in node.names}
    assert sorted(seen) == agents_sdk.__all__
    for name, module in seen.items():
        assert getattr(agents_sdk, name) is getattr(sys.modules[module], name), name


def test_importing_it_imports_next_to_nothing() -> None:
    code = "import sys, agents_sdk; print([m for m in ('nats', 'pydantic', 'asyncio', 'registry') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert shown.stdout.strip() == "[]"


def test_it_never_imports_the_registry() -> None:
    names = ", ".join(agents_sdk.__all__)
    code = f"import sys; from agents_sdk import {names}; assert 'registry' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
