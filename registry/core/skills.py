"""Skills of an A2A agent card, by which agents are found beside their capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AGENT_CARD = "a2a_card"
"""Where in its metadata an agent keeps its card."""

NONE: frozenset[str] = frozenset()
"""One for all agents without a card."""


def skills_in(metadata: Mapping[str, Any]) -> frozenset[str]:
    """Return the ids of the skills that the card in an agent's metadata names.

    Cards are checked when an agent registers; but the bucket may hold one that nobody has checked, so what is no id of
    a skill is passed over.
    """
    if AGENT_CARD not in metadata:
        return NONE
    card = metadata[AGENT_CARD]
    skills = card.get("skills") if isinstance(card, Mapping) else None
    named = (skill.get("id") for skill in skills if isinstance(skill, Mapping)) if isinstance(skills, list) else ()
    return frozenset(skill_id for skill_id in named if isinstance(skill_id, str)) or NONE
