"""The context files of the `nats` CLI, so that whoever has one need not say again where NATS is."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_registry.failure import CommandError, Exit

_UNSUPPORTED = ("nsc", "socks_proxy", "user_jwt", "user_seed", "windows_cert_store")
"""Fields that change how a connection is made in ways that nats-py does not offer."""

_FIELDS = ("url", "creds", "user", "password", "token", "nkey", "cert", "key", "ca", "inbox_prefix")


@dataclass(frozen=True)
class Context:
    """What a context file says, as far as it is understood here; an empty field says nothing."""

    name: str
    url: str = ""
    creds: str = ""
    user: str = ""
    password: str = ""
    token: str = ""
    nkey: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    inbox_prefix: str = ""


def folder() -> Path:
    """Return where the `nats` CLI keeps its contexts."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "nats" / "context"


def load(name: str, option: str = "--context") -> Context:
    """Read the context called `name`.

    Args:
        name: As the `nats` CLI knows it.
        option: What named it, for the errors.

    Raises:
        CommandError: If there is none, it cannot be read, or it asks for something that cannot be done here.
    """
    if re.fullmatch(r"[^/\\\s]+", name) is None:
        raise CommandError(f"{option}: {name!r} is not the name of a context", "see: nats context ls", Exit.USAGE)
    path = folder() / f"{name}.json"
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CommandError(f"{option}: no context {name!r} ({path} does not exist)", _known(), Exit.USAGE) from None
    except (OSError, ValueError) as error:
        raise CommandError(f"{option}: cannot read {path}: {error}", code=Exit.USAGE) from error
    if not isinstance(found, dict):
        raise CommandError(f"{option}: {path} must hold a JSON object", code=Exit.USAGE)
    return _understood(name, found, option)


def _understood(name: str, found: dict[str, Any], option: str) -> Context:
    odd = [field for field in _UNSUPPORTED if found.get(field)]
    if odd:
        raise CommandError(
            f"{option}: context {name!r} uses {', '.join(odd)}, which agent-registry does not support",
            "say it with --nats and --creds instead",
            Exit.USAGE,
        )
    fields = {field: str(found.get(field) or "") for field in _FIELDS}
    for field in ("creds", "nkey", "cert", "key", "ca"):
        if fields[field]:
            fields[field] = str(Path(fields[field]).expanduser())
    return Context(name=name, **fields)


def _known() -> str:
    names = sorted(path.stem for path in folder().glob("*.json"))
    return f"there are: {', '.join(names)}" if names else "there are none; make one with: nats context add"
