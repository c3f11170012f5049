"""Adopting services: they know nothing of the registry, become agents, are watched and measured.

The leader calls all services now and then. Who answers and is not known is asked what it is, and registered as any
agent is, under the id of its instance. From then on it is probed like every agent, by a PING to that one instance. How
much work it has done it is asked in turn; load and success rate follow from two answers.
"""

from __future__ import annotations

from registry.core.adoption import RATE
from registry.core.agent import Agent
from registry.core.assignment import DEREGISTERED
from registry.core.changes import assess
from registry.core.commands import requested
from registry.core.effects import CallServices, DescribeService, Effect, MeasureService, ShareVitals
from registry.core.events import TelemetryReceived
from registry.core.path import TICK
from registry.core.probing import hinted
from registry.core.service import SYNADIA, service_of
from registry.core.service_events import ServiceDescribed, ServiceMeasured, ServiceSeen
from registry.core.state import RegistryState
from registry.core.status import Status
from registry.core.telemetry import heard, renew

LEFT = (DEREGISTERED, "draining")
"""Reasons of a removal after which an instance that is still there is left alone, as long as the removal is known."""


def adoption_due(state: RegistryState, at: float) -> list[Effect]:
    """Call services, and ask those whose turn it is."""
    adoption, most = state.adoption, round(RATE * TICK)
    effects: list[Effect] = []
    if adoption.call_is_due(at):
        effects.append(CallServices(adoption.calls()))
    effects += [DescribeService(service) for service in adoption.to_ask(most)]
    for agent_id in adoption.turns(at, most):
        agent = state.agents.get(agent_id)
        service = None if agent is None else service_of(agent.record)
        if agent is None or service is None or agent.status is Status.OFFLINE:
            adoption.end_turns(agent_id)
        else:
            effects.append(MeasureService(service, agent.record.incarnation))
    return effects


def service_seen(state: RegistryState, event: ServiceSeen) -> list[Effect]:
    """Take an answer to a call, or a heartbeat, for a sign of life of somebody who is known, or is to be."""
    adoption, service = state.adoption, event.service
    if state.leading and not event.is_beat:
        adoption.answered()
    if adoption.protocol_of(service.name) is None or event.registers_itself:
        return []
    agent = state.agents.get(service.id)
    if agent is None or agent.status is Status.OFFLINE:
        if state.leading and not _is_shut_out(state, service.id, agent):
            adoption.met(service, event.at)
        return []
    if service_of(agent.record) != service:
        return []  # an id that somebody registered
    if state.leading:
        adoption.take_turns(agent.agent_id, event.at, state.random())
        if agent.agent_id in adoption.strayed:
            del adoption.strayed[agent.agent_id]
            adoption.met(service, event.at, known=True)
    if event.is_beat:
        beat = TelemetryReceived(
            event.at, None, None, agent.agent_id, health_score=event.health_score, load_factor=event.load_factor,
            is_beat=True, ack=False,
        )  # fmt: skip
        return heard(state, beat)
    if not state.leading:
        return []
    renew(state, agent, event.at)
    return assess(state, agent, event.at)


def _is_shut_out(state: RegistryState, service_id: str, agent: Agent | None) -> bool:
    """Return whether an instance is not to become an agent: it was removed, or its id is somebody else's."""
    if agent is not None:
        return service_of(agent.record) is None
    removal = state.removed.get(service_id)
    return removal is not None and removal.reason in LEFT


def service_described(state: RegistryState, event: ServiceDescribed) -> list[Effect]:
    """Register a service that has said what it is; or know its connection anew."""
    service = state.adoption.told(event.service_id)
    if service is None or not state.leading:
        return []
    agent = state.agents.get(service.id)
    if event.registration is None or _is_shut_out(state, service.id, agent):
        state.adoption.shun(service.id, event.at)
        return []
    if agent is not None and event.registration.connection is None:  # nobody has said so in time
        event.registration.connection = agent.record.connection
    return requested(state, event.registration)


def service_measured(state: RegistryState, event: ServiceMeasured) -> list[Effect]:
    """Work out the load of a service, and tell every replica; ask again whoever could not be asked."""
    agent = state.agents.get(event.agent_id)
    if not state.leading or agent is None or agent.record.incarnation != event.incarnation:
        return []
    if event.nobody:
        return hinted(state, agent, event.at)
    if event.sample is None:
        return []  # what it may mean that it does not answer is for a probe to find
    before = state.adoption.samples.get(agent.agent_id)
    state.adoption.samples[agent.agent_id] = event.sample
    load, metrics = event.sample.since(before, agent.record.max_concurrency or 1)
    if (agent.record.adopted or {}).get("protocol") == SYNADIA:
        load = None  # a prompt is worked on in a task of its own, and its service counts the time to start that
    return [ShareVitals(agent.agent_id, agent.record.incarnation, load, metrics)]
