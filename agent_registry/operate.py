"""Commands that change one agent, or end an assignment: suspend, resume, drain, deregister, release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agent_registry.options import AgentIdArgument, AsJson, aimed
from agent_registry.output import emit, screen
from agent_registry.session import ask
from agent_registry.target import Target
from agent_registry.wording import because

if TYPE_CHECKING:
    from agents_sdk.protocol.discovery import AgentInfo

Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the log and the event.", show_default=False)
]


@aimed
def suspend(target: Target, agent_id: AgentIdArgument, *, reason: Reason = None, as_json: AsJson = False) -> None:
    """Take an agent out of service until `resume`: it is not discovered, but lives on."""
    agent = ask(target, lambda registry: registry.suspend_agent(agent_id, reason))
    _show(agent, as_json, f"not discovered until: agent-registry resume {agent_id}")


@aimed
def resume(target: Target, agent_id: AgentIdArgument, *, reason: Reason = None, as_json: AsJson = False) -> None:
    """Put a suspended agent back into service."""
    agent = ask(target, lambda registry: registry.resume_agent(agent_id, reason))
    _show(agent, as_json, "")


@aimed
def drain(target: Target, agent_id: AgentIdArgument, *, reason: Reason = None, as_json: AsJson = False) -> None:
    """Let an agent finish and leave: no new work, gone when it says so or its time is up."""
    agent = ask(target, lambda registry: registry.drain_agent(agent_id, reason))
    _show(agent, as_json, "gets no new work and is removed when it has finished")


@aimed
def deregister(target: Target, agent_id: AgentIdArgument, *, reason: Reason = None, as_json: AsJson = False) -> None:
    """Remove an agent's registration at once; one that is not there is no error.

    A running SDK agent would register again: stop it, or drain it.
    """
    removed = ask(target, lambda registry: registry.deregister_agent(agent_id, reason))
    if as_json:
        emit({"agent_id": agent_id, "deregistered": removed})
    else:
        done = f"{agent_id} deregistered" if removed else f"no agent {agent_id!r} is registered; nothing to do"
        screen().print(done, markup=False)


@aimed
def release(
    target: Target,
    assignment_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the assignment.", show_default=False)],
    *,
    as_json: AsJson = False,
) -> None:
    """End an assignment, so that its slots are free; one that has ended is no error."""
    released = ask(target, lambda registry: registry.release(assignment_id))
    if as_json:
        emit({"assignment_id": assignment_id, "released": released})
    else:
        done = f"{assignment_id} released" if released else f"no assignment {assignment_id!r} lives; nothing to do"
        screen().print(done, markup=False)


def _show(agent: AgentInfo, as_json: bool, then: str) -> None:
    if as_json:
        emit(agent)
        return
    from agent_registry.tables import status_text

    why = because(agent.status_reason, agent.status_note)
    line = status_text(agent.status)
    line = line.__class__.assemble(f"{agent.agent_id} is ", line, f" ({why})" if why else "")
    if then:
        line.append(f"; {then}")
    screen().print(line)
