"""The context files of the `nats` CLI, so that whoever has one need not say again where NATS is."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_registry.failure import CommandError, Exit

VARIABLE = "NATS_CONTEXT"

SELECTED = "the selected nats context"
"""What names the context that `nats context select` chose, for errors."""

_TEXTS = ("url", "user", "password", "token", "inbox_prefix")
_FILES = ("creds", "nkey", "cert", "key", "ca")

_SCHEMES = ("file", "env", "op", "nsc", "data")
"""A credential that begins with one of these and a colon is not there itself, but says where the `nats` CLI gets it."""

_WITHOUT_EFFECT = (
    "name", "description", "color_scheme", "jetstream_event_prefix",
    "windows_cert_match_by", "windows_cert_match", "windows_ca_certs_match",  # nothing without `windows_cert_store`
)  # fmt: skip
"""Fields that change nothing here."""


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
    tls_first: bool = False


def folder() -> Path:
    """Return where the `nats` CLI keeps its contexts."""
    return _root() / "context"


def selected() -> str:
    """Return the name of the context that `nats context select` chose; empty when there is none."""
    try:
        return (_root() / "context.txt").read_text("utf-8").strip()
    except (OSError, ValueError):  # to the `nats` CLI, too, one that it cannot read is none
        return ""


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
    return _understood(name, found, f"{option}: context {name!r}")


def _understood(name: str, found: dict[str, Any], where: str) -> Context:
    known = (*_TEXTS, *_FILES, "tls_first", *_WITHOUT_EFFECT)
    odd = [field for field, value in found.items() if value and field not in known]
    if odd:
        raise CommandError(
            f"{where} uses {', '.join(odd)}, which agent-registry does not support",
            "say it with --nats and --creds instead",
            Exit.USAGE,
        )
    texts = {field: _text(str(found.get(field) or ""), f"{where}: {field}") for field in _TEXTS}
    files = {field: _file(str(found.get(field) or ""), f"{where}: {field}") for field in _FILES}
    return Context(name=name, **texts, **files, tls_first=bool(found.get("tls_first")))


def _text(value: str, where: str) -> str:
    """Return a value, or that of the environment variable that it refers to."""
    scheme, rest = _reference(value)
    if scheme == "env":
        variable = rest.removeprefix("//")
        if not os.environ.get(variable):
            raise CommandError(f"{where} is in the variable {variable!r}, which is not set", code=Exit.USAGE)
        return os.environ[variable]
    if scheme:
        raise _unreadable(where, scheme)
    return value


def _file(value: str, where: str) -> str:
    """Return the path of a file."""
    scheme, rest = _reference(value)
    if scheme not in ("", "file"):
        raise _unreadable(where, scheme)
    return str(Path(os.path.expandvars(rest.removeprefix("//") if scheme else value)).expanduser()) if value else ""


def _reference(value: str) -> tuple[str, str]:
    """Return the scheme of a reference, and what follows its colon; an empty scheme for what is there itself."""
    scheme, colon, rest = value.partition(":")
    return (scheme.lower(), rest) if colon and scheme.lower() in _SCHEMES else ("", value)


def _unreadable(where: str, scheme: str) -> CommandError:
    return CommandError(
        f"{where} is a reference to {scheme}:, which agent-registry does not follow",
        "name a file instead, or say it with --nats and --creds",
        Exit.USAGE,
    )


def _root() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "nats"


def _known() -> str:
    names = sorted(path.stem for path in folder().glob("*.json"))
    return f"there are: {', '.join(names)}" if names else "there are none; make one with: nats context add"
