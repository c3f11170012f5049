"""The Synadia Agent Protocol, version 0.3: the names of an agent, and what it says of itself there."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from agents_sdk.protocol.errors import Detail, InvalidRequestError

SYNADIA = "synadia"

SERVICE = "agents"
"""Name of the micro service that every agent of the protocol is."""

QUEUE = "agents"
"""Queue group of both endpoints."""

VERSION = "0.3"
PROMPT = "prompt"
STATUS = "status"

MAX_TOKEN = 63
"""Characters of a token that is made here; the protocol asks for no more."""

_TOKENS = {
    "agent": (r"[a-z0-9-]{1,128}", "1 to 128 characters of a-z, 0-9 and -"),
    "owner": (r"[A-Za-z0-9_-]{1,128}", "1 to 128 characters of A-Z, a-z, 0-9, _ and -"),
    "session": (r"[A-Za-z0-9_-]{1,128}", "1 to 128 characters of A-Z, a-z, 0-9, _ and -"),
}


@dataclass(frozen=True, slots=True)
class Synadia:
    """How an agent is called in the Synadia Agent Protocol; what is left out follows from the agent.

    Agents with the same three names are instances of one, and share its prompts.

    Args:
        agent: What kind of agent it is; made from its type: `trading_agent` becomes `trading-agent`.
        owner: Who runs it; the user that it runs as.
        session: Which one it is; its id.
        heartbeat_interval: Seconds between two heartbeats, a whole number; who is silent for three counts as gone.
    """

    agent: str = ""
    owner: str = ""
    session: str = ""
    heartbeat_interval: int = 30

    def subject(self, verb: str) -> str:
        """Return the subject of `prompt`, `status` or `hb`, the heartbeat."""
        return f"agents.{verb}.{self.agent}.{self.owner}.{self.session}"

    @property
    def metadata(self) -> dict[str, str]:
        """What the micro service says of itself."""
        return {"agent": self.agent, "owner": self.owner, "session": self.session, "protocol_version": VERSION}

    def beat(self, agent_id: str, instance_id: str) -> dict[str, Any]:
        """Return a heartbeat, which is also the answer on `status`.

        Args:
            agent_id: Its id in the registry, of which the protocol knows nothing.
            instance_id: The id of the micro service.
        """
        return {
            "agent": self.agent,
            "owner": self.owner,
            "session": self.session,
            "instance_id": instance_id,
            "ts": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "interval_s": self.heartbeat_interval,
            "agent_id": agent_id,
        }


def spoken(speak: Any, agent_type: str, agent_id: str) -> Synadia | None:
    """Return the names of an agent that is to speak a protocol, complete; None if it speaks none.

    Args:
        speak: What the application says: `synadia`, names, or None.
        agent_type: The agent's type.
        agent_id: Its id.

    Raises:
        InvalidRequestError: A `ValueError` that names the field.
    """
    if speak is None:
        return None
    names = Synadia() if speak == SYNADIA else speak
    if not isinstance(names, Synadia):
        raise _wrong("speak", f"must be {SYNADIA!r} or Synadia(...); got {speak!r}")
    full = replace(
        names,
        agent=names.agent or re.sub(r"[^a-z0-9-]", "-", agent_type.lower())[:MAX_TOKEN],
        owner=names.owner or re.sub(r"[^a-z0-9_-]", "-", _user().lower())[:MAX_TOKEN],
        session=names.session or agent_id,
    )
    for name, (pattern, words) in _TOKENS.items():
        given = getattr(full, name)
        if not isinstance(given, str) or re.fullmatch(pattern, given) is None:
            raise _wrong(f"speak.{name}", f"must be {words}; got {given!r}")
    interval: Any = full.heartbeat_interval
    if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
        raise _wrong("speak.heartbeat_interval", f"must be a whole number of seconds, 1 or more; got {interval!r}")
    return full


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        return "default"


def _wrong(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: {message}", [Detail(field, message)])
