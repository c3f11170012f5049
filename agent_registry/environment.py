"""The registry's settings, as the environment of this process has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_registry.failure import CommandError, Exit

if TYPE_CHECKING:
    from registry.settings import Settings


def settings(**changes: Any) -> Settings:
    """Return the settings, and log as they say.

    Args:
        changes: What the command line says otherwise.

    Raises:
        CommandError: If a variable is wrong.
    """
    from pydantic import ValidationError

    from registry.settings import Settings
    from registry.shell import logs

    try:
        found = Settings(**changes)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = "_".join(str(step) for step in fault["loc"]).upper()
        raise CommandError(f"AGENT_REGISTRY_{name}: {fault['msg']}; got {fault['input']!r}", code=Exit.USAGE) from None
    logs.configure(found)
    return found
