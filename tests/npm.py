"""What npm installs, for tests of programs in JavaScript."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest


def installed(source: Path, folder: Path) -> Path:
    """Copy a program there with its packages, as `npm ci` installs them from the lock file; return the folder.

    Without npm this is a skip that is seen, and a failure in CI.
    """
    if shutil.which("npm") is None:
        message = f"npm is not here: {source.name} is NOT tested"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        sys.__stderr__.write(f"\n{message}\n") if sys.__stderr__ else warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "*.py"))
    words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    installing = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=150, check=False)
    assert installing.returncode == 0, installing.stderr
    return folder
