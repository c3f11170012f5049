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
    from registry.settings import SettingsError, read
    from registry.shell import logs

    try:
        found = read(**changes)
    except SettingsError as error:
        raise CommandError(str(error), code=Exit.USAGE) from None
    logs.configure(found)
    return found
