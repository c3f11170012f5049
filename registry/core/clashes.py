"""What a registration may clash with: claims that others hold, and rules."""

from __future__ import annotations

from registry.core.clash import CLAIM, Clash, ClashError
from registry.core.events import RegisterRequested
from registry.core.record import Record
from registry.core.rule import COUNTED, Rule, RuleAction, RuleKind
from registry.core.state import RegistryState


def check_clashes(state: RegistryState, wanted: RegisterRequested, known: Record | None) -> None:
    """Refuse a registration that clashes with what is known.

    Args:
        state: What is known.
        wanted: The registration; its agent has an id by now.
        known: What the agent is registered with now.

    Raises:
        ClashError: If it claims what another one holds, or would break a rule that it does not break already.
    """
    if wanted.claims:
        _check_claims(state, wanted)
    for rule in state.catalog.rules.concerning(wanted.agent_type, wanted.capabilities):
        if rule.action is RuleAction.REFUSE:
            _check_rule(state, wanted, known, rule)


def _check_claims(state: RegistryState, wanted: RegisterRequested) -> None:
    agent_id = wanted.agent_id or ""
    coming = dict(state.writes.claims(agent_id))
    for claim in wanted.claims:
        holder = state.catalog.claims.holder(claim) or coming.get(claim)
        if holder is not None and holder != agent_id:
            raise claim_held(claim, holder, agent_id)


def claim_held(claim: str, holder: str, agent_id: str) -> ClashError:
    """Return the refusal of a claim that another agent holds."""
    message = f"{claim!r} is held by agent {holder!r}"
    return ClashError(Clash(CLAIM, claim, agent_id, holder, message), "claims")


def _check_rule(state: RegistryState, wanted: RegisterRequested, known: Record | None, rule: Rule) -> None:
    sides = rule.sides(wanted.agent_type, wanted.capabilities, wanted.version)
    before = _sides(rule, known) if known is not None and known.status in COUNTED else ()
    if set(sides).issubset(before):
        return  # who is there already stays as he is, whatever was decreed since
    agent_id = wanted.agent_id or ""
    if rule.kind is RuleKind.COMBINATION:
        message = f"rule {rule.name!r} lets no agent have {rule.what_of(0)} together"
        raise ClashError(Clash(str(rule.kind), rule.name, agent_id, None, message), "capabilities")
    found = state.catalog.rules.opposite(rule, sides, agent_id) or _coming(state, rule, sides, agent_id)
    if found is not None:
        other, side = found
        message = (
            f"rule {rule.name!r} lets no {wanted.version} run beside {rule.what_of(side)}, which agent {other!r} runs"
        )
        raise ClashError(Clash(str(rule.kind), rule.name, agent_id, other, message), "version")


def _coming(state: RegistryState, rule: Rule, sides: tuple[int, ...], agent_id: str) -> tuple[str, int] | None:
    """Return another agent that is about to stand on another side, and on which."""
    ranges = [(side, known) for side, known in enumerate(rule.versions) if any(own != side for own in sides)]
    for (agent_type, version), records in state.writes.by_kind():
        side = next((side for side, known in ranges if known.accepts(version)), None)
        if side is None or rule.agent_type not in (None, agent_type):
            continue
        for record in records:
            if record.agent_id != agent_id and record.status in COUNTED and side in _sides(rule, record):
                return record.agent_id, side
    return None


def _sides(rule: Rule, record: Record) -> tuple[int, ...]:
    return rule.sides(record.agent_type, record.capabilities, record.version)
