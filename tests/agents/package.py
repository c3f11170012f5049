"""The TypeScript SDK as `npm` builds it, outside this folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SDK = Path("agents_sdk") / "typescript"
VECTORS = Path("tests") / "vectors"

NPM_CI = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]


def built(shared: Path) -> Path:
    """Return the package's folder in a copy of the repository's, with what it needs, built once for all who share it.

    Without npm this is a skip that nobody overlooks, and where CI runs a failure.
    """
    if shutil.which("npm") is None:
        message = "npm is not here: the TypeScript SDK is NOT tested"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        sys.__stderr__.write(f"\n{message}\n") if sys.__stderr__ else warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    copy = shared / "typescript"
    package = copy / SDK
    with (shared / "typescript.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (copy / "built").exists():
            shutil.rmtree(copy, ignore_errors=True)
            made = shutil.ignore_patterns("node_modules", "dist")
            shutil.copytree(ROOT / SDK, package, ignore=made)
            shutil.copytree(ROOT / VECTORS, copy / VECTORS, ignore=shutil.ignore_patterns("__pycache__"))
            run(NPM_CI, package)
            run(["npm", "run", "build"], package)
            (copy / "built").touch()
    return package


def run(command: list[str], folder: Path, **changes: str) -> str:
    """Run a command to its end and return what it says."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **changes},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-8000:]}"
    return done.stdout
