"""Records that are too large for the bucket."""

from __future__ import annotations

from registry.core.changes import refuse
from registry.core.commands import resume
from registry.core.effects import Effect
from registry.core.errors import RefusedError
from registry.core.events import WriteRefused
from registry.core.state import RegistryState


def refused(state: RegistryState, event: WriteRefused) -> list[Effect]:
    """End a write that cannot take place; trying again would change nothing."""
    pending = state.writes.get(event.agent_id)
    if pending is None or pending.record.write_id != event.write_id:
        return []
    waiting = state.writes.end(event.agent_id)
    effects: list[Effect] = []
    if pending.command is not None:
        refusal = RefusedError("payload_too_large", f"metadata: {event.why}", ("metadata", event.why))
        effects += refuse(state, pending.command.reply, refusal)
    return effects + resume(state, waiting)
