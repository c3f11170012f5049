"""What a replica knows before it has heard anything: the settings, and nobody."""

from __future__ import annotations

import random
from dataclasses import fields

from agents_sdk.protocol.vocabulary import AgentCapability
from registry.core.adoption import Adoption
from registry.core.capabilities import Vocabulary
from registry.core.limits import Limits
from registry.core.scaler import Scaler
from registry.core.service import SYNADIA
from registry.core.state import RegistryState
from registry.settings import Settings, default_policy
from registry.shell.clock import id_source
from registry.shell.foreign import PROMPT


def blank_state(settings: Settings, replica_id: str) -> RegistryState:
    """Return the state of a replica that knows nobody yet."""
    new_id = id_source(replica_id)
    limits = Limits(**{limit.name: getattr(settings, limit.name) for limit in fields(Limits)})
    protocols, extra = settings.adopted_protocols(), settings.extra_capabilities()
    vocabulary = Vocabulary(
        [str(name) for name in AgentCapability], [*extra, *([PROMPT] if SYNADIA in protocols else ())]
    )
    scaler = Scaler(settings.auto_scaling_enabled, default_policy(settings), new_id)
    adoption = Adoption(protocols, settings.adopted_services(), settings.adopt_interval)
    return RegistryState(limits, vocabulary, scaler, random.random, new_id, settings.prefix, adoption)
