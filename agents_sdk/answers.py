"""What came of asking many agents."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agents_sdk.protocol.discovery import AgentInfo
from agents_sdk.protocol.errors import RegistryError, UnavailableError
from agents_sdk.replies import ELSEWHERE, AgentCallError

SHOWN = 5
"""Agents whose failure a `QuorumError` tells in its message; its `answers` have all."""


class Outcome(StrEnum):
    """How asking one agent ended."""

    ANSWERED = "answered"
    ERROR = "error"
    """It answered with an error."""
    NO_RESPONDERS = "no_responders"
    """Nobody listens there, so it has not begun."""
    TIMEOUT = "timeout"
    """There was no answer by the deadline; it may have begun."""
    UNSENT = "unsent"
    """It was not asked: NATS took nothing, or there was no time left."""
    FORBIDDEN = "forbidden"
    """NATS does not let this user ask it, or hear what it answers."""
    PENDING = "pending"
    """Nobody waited for it any more: enough others had answered, or too many had failed. It may have begun."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking one agent."""

    agent: AgentInfo
    """As it was when it was found."""
    outcome: Outcome
    seconds: float
    """From the request to the answer, or to the moment at which nobody waited for it any more."""
    value: Any = None
    """What it answered with, if that was no error; None for an empty answer."""
    error: AgentCallError | RegistryError | None = None
    """What went wrong, if anything did: an `AgentCallError` if the agent says so."""

    @property
    def agent_id(self) -> str:
        """The agent's id."""
        return self.agent.agent_id

    @property
    def is_good(self) -> bool:
        """Whether the agent answered, and not with an error."""
        return self.outcome is Outcome.ANSWERED

    @property
    def not_begun(self) -> bool:
        """Whether it is sure that the agent did nothing and another one could: it is not there, full, or leaving."""
        if self.outcome is Outcome.NO_RESPONDERS:
            return True
        return isinstance(self.error, AgentCallError) and self.error.status in ELSEWHERE


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of asking many agents."""

    everybody: tuple[Answer, ...]
    """Of each agent that was asked, in the order in which it was known; those that nobody waited for are the last."""
    needed: int
    """How many good answers the quorum is, 0 without one."""

    @property
    def good(self) -> list[Answer]:
        """Those that are no errors, the quickest first."""
        return [answer for answer in self.everybody if answer.is_good]

    @property
    def missing(self) -> list[Answer]:
        """Of the agents that gave no good answer; `outcome` and `error` say why."""
        return [answer for answer in self.everybody if not answer.is_good]

    @property
    def values(self) -> list[Any]:
        """What the good answers say."""
        return [answer.value for answer in self.good]

    @property
    def met(self) -> bool:
        """Whether there are as many good answers as the quorum is."""
        return len(self.good) >= self.needed


class QuorumError(UnavailableError):
    """Fewer agents than the quorum gave a good answer. Those that were asked may have begun.

    Attributes:
        answers: What came all the same.
    """

    def __init__(self, message: str, answers: Answers) -> None:
        super().__init__(message)
        self.answers = answers


def checked(answers: Answers, topic: str) -> Answers:
    """Return answers that are enough.

    Raises:
        QuorumError: If they are not.
    """
    if answers.met:
        return answers
    good, missing = len(answers.good), answers.missing
    counted = f"{good} good {'answer' if good == 1 else 'answers'} to {topic!r} of {len(answers.everybody)} asked"
    reasons = [f"{each.agent_id}: {each.error or each.outcome}" for each in missing[:SHOWN]]
    if len(missing) > SHOWN:
        reasons.append(f"and {len(missing) - SHOWN} more")
    because = f" ({'; '.join(reasons)})" if reasons else ""
    raise QuorumError(f"{counted}; the quorum is {answers.needed}{because}", answers)
