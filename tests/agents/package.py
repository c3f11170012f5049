"""The TypeScript SDK as `npm` builds it, outside this folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from tests.npm import installed

ROOT = Path(__file__).parents[2]
SDK = Path("agents_sdk") / "typescript"
VECTORS = Path("tests") / "vectors"


def built(shared: Path) -> Path:
    """Return the package's folder in a copy of the repository's, with what it needs, built once for all."""
    copy = shared / "typescript"
    package = copy / SDK
    with (shared / "typescript.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (copy / "built").exists():
            shutil.rmtree(copy, ignore_errors=True)
            installed(ROOT / SDK, package)
            shutil.copytree(ROOT / VECTORS, copy / VECTORS)
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
