"""The ledger: which slots of which agents are reserved, as the bucket has it and as what is on its way will make it.

Theory of operation
-------------------
The bucket's log is the order in which assignments are made, renewed and ended. A *step* does one of the three. Steps
are decided on the *view*: what is durable, and all steps that were decided before. They are written in the order in
which they were decided, one commit at a time, and a commit is taken only if the log still ends where it was known to
end (`Nats-Expected-Last-Sequence`). What others wrote meanwhile was then known when the steps were decided. So what is
written was decided on everything that was written before it, whoever wrote it: no slot is given twice, and a task that
has an assignment gets no second one, also while two replicas believe to lead. One that stood still and does not know
that it leads no more cannot write, for the log has moved.

When a commit is not taken, or nobody says whether it was, or others have written after it what the steps behind it do
not know of, all steps are taken back, the log is learnt up to its end, and then everything is decided again. What was
taken after all is found there: a new assignment by its task, an end by its id.

An assignment has one step at a time, but for its end, which can follow any other. What is asked for meanwhile and needs
what the step makes is decided when that is durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from registry.core.agent import Agent
from registry.core.assignment import Assignment
from registry.core.assignment_events import (
    AssignmentRequested,
    ReleaseRequested,
)
from registry.core.deadlines import Deadlines
from registry.core.limits import MAX_COMMIT

Request = AssignmentRequested | ReleaseRequested


@dataclass(slots=True)
class Step:
    """An assignment to be made, renewed or, in its final form, ended; and who is answered once that is durable."""

    assignment: Assignment
    requests: list[Request] = field(default_factory=list)
    renews: bool = False
    """Whether the assignment was durable before, and lives on."""
    then: list[Request] = field(default_factory=list)
    """Requests that are decided once it is durable."""
    landed: bool = False
    """Whether the log shows that it is this step that ended the assignment."""

    @property
    def ends(self) -> bool:
        """Whether it ends the assignment."""
        return self.assignment.ended is not None


@dataclass(slots=True)
class Commit:
    """Steps on their way to the bucket."""

    number: int
    expected: int
    """Where the log must end."""
    steps: list[Step]


class Ledger:
    """All assignments that live.

    Args:
        agents: All agents by id; their reservations are kept here.
        moved: Told of each agent whose reservations changed.
        due_at: Returns the instant at which an assignment that lives expires.
    """

    def __init__(
        self, agents: Mapping[str, Agent], moved: Callable[[Agent], None], due_at: Callable[[Assignment], float]
    ) -> None:
        self.revision = 0
        """The log is known up to this revision."""
        self.live: dict[str, Assignment] = {}
        """Durable, by id."""
        self.underway: Commit | None = None
        self.pending: deque[Step] = deque()
        """Decided, not on their way yet."""
        self.learning = 0
        """Number of the look at the log that is under way; 0 if none is. Nothing is decided meanwhile."""
        self.held: list[Request] = []
        """Requests that wait for that."""
        self.doubtful: dict[str, float] = {}
        """Agents whose assignments may have to end, because something became of them, by the instant since which."""
        self.deadlines = Deadlines(self._due_at)
        self._agents = agents
        self._moved = moved
        self._due = due_at
        self._tasks: dict[str, str] = {}
        """Of the view: the assignment of a task."""
        self._holdings: dict[str, dict[str, Assignment]] = {}
        """Of the view: the assignments of an agent."""
        self._steps: dict[str, Step] = {}
        """The last step of each assignment that has one on its way."""
        self._numbers = 0

    def __len__(self) -> int:
        return len(self.live)

    @property
    def undecided(self) -> int:
        """Steps and requests that wait for a commit."""
        return len(self.pending) + len(self.held) + (len(self.underway.steps) if self.underway else 0)

    def of_task(self, task_id: str) -> Assignment | None:
        """Return the assignment that a task has, or is about to have."""
        assignment_id = self._tasks.get(task_id)
        if assignment_id is None:
            return None
        return self.live.get(assignment_id) or self._steps[assignment_id].assignment

    def of_agent(self, agent_id: str) -> list[Assignment]:
        """Return the assignments that an agent has or is about to have, but for those that are about to end."""
        return list(self._holdings.get(agent_id, {}).values())

    def holders(self) -> list[str]:
        """Return the agents that have assignments."""
        return list(self._holdings)

    def step_of(self, assignment_id: str) -> Step | None:
        """Return the last step that is on its way for an assignment."""
        return self._steps.get(assignment_id)

    def add(self, step: Step) -> None:
        """Take a step that was decided."""
        self.pending.append(step)
        self._steps[step.assignment.assignment_id] = step
        if step.ends:
            self._give_back(step.assignment)
        else:
            self._reserve(step.assignment)

    def begin(self) -> Commit | None:
        """Return the next commit, now on its way; None if there is none, or this is not the time."""
        if self.underway is not None or self.learning or not self.pending:
            return None
        steps = [self.pending.popleft() for _ in range(min(MAX_COMMIT, len(self.pending)))]
        self._numbers += 1
        self.underway = Commit(self._numbers, self.revision, steps)
        return self.underway

    def learn(self) -> int:
        """Decide nothing until the log has been learnt; return the number of the look at it."""
        self._numbers += 1
        self.learning = self._numbers
        return self.learning

    def committed(self, revision: int) -> list[Step]:
        """Take note that the commit is durable, up to a revision; return its steps, with their tokens."""
        commit, self.underway = self.underway, None
        assert commit is not None, "somebody has to have begun it"
        for number, step in enumerate(commit.steps, start=1):
            assignment_id = step.assignment.assignment_id
            if not (step.ends or step.renews):
                step.assignment = replace(step.assignment, token=commit.expected + number)
            if self._steps.get(assignment_id) is step:
                del self._steps[assignment_id]
            if commit.expected + number > self.revision:
                self._store(assignment_id, None if step.ends else step.assignment)
            else:  # the log was quicker than the acknowledgement, and may have told of its end, too
                self.deadlines.watch(assignment_id)
        self.revision = max(self.revision, revision)
        return commit.steps

    def take_back(self) -> list[Step]:
        """Take back every step that is not durable; return them in order. The view is what is durable again."""
        steps = [*(self.underway.steps if self.underway else ()), *self.pending]
        self.underway = None
        self.pending.clear()
        self._steps.clear()
        for step in reversed(steps):
            assignment = self.live.get(step.assignment.assignment_id)
            if assignment is None:
                self._give_back(step.assignment)
            else:
                self._reserve(assignment)
        return steps

    def learnt(self, revision: int) -> list[Request]:
        """Take note that the log is known up to a revision; return the requests that waited for that."""
        self.revision, self.learning = max(self.revision, revision), 0
        held, self.held = self.held, []
        return held

    def heard(self, assignment_id: str, assignment: Assignment | None, revision: int) -> bool:
        """Take an entry of the log; return whether it was not known.

        Args:
            assignment_id: Which.
            assignment: What the entry holds; None if that is no assignment.
            revision: Of the entry.
        """
        if revision <= self.revision:
            return False
        self.revision = revision
        step = self._steps.get(assignment_id)
        if assignment is not None and assignment.ended is None:
            self._store(assignment_id, assignment)
            if step is None or not step.ends:
                self._reserve(assignment)
        else:
            ended = assignment and assignment.ended
            if step is not None and step.ends and step.assignment.ended == ended:
                step.landed = True
            self.forget(assignment_id)
        return True

    def forget(self, assignment_id: str) -> None:
        """Take note that an assignment has ended, if it lived, or is about to."""
        step = self._steps.get(assignment_id)
        if step is not None and not step.ends:  # somebody else has ended it before that was acknowledged
            del self._steps[assignment_id]
            self._give_back(step.assignment)
        known = self.live.get(assignment_id)
        if known is not None:
            self._store(assignment_id, None)
            self._give_back(known)

    def watch(self) -> None:
        """Look at every assignment when it expires."""
        for assignment_id in self.live:
            self.deadlines.watch(assignment_id)

    def _store(self, assignment_id: str, assignment: Assignment | None) -> None:
        if assignment is None:
            self.live.pop(assignment_id, None)
        else:
            self.live[assignment_id] = assignment
        self.deadlines.watch(assignment_id)

    def _due_at(self, assignment_id: str) -> float | None:
        assignment = self.live.get(assignment_id)
        return None if assignment is None else self._due(assignment)

    def _reserve(self, assignment: Assignment) -> None:
        """Put an assignment into the view, unless it is there."""
        holdings = self._holdings.setdefault(assignment.agent_id, {})
        if assignment.assignment_id in holdings:
            return
        holdings[assignment.assignment_id] = assignment
        self._tasks[assignment.task_id] = assignment.assignment_id
        self._count(assignment, assignment.slots)

    def _give_back(self, assignment: Assignment) -> None:
        """Take an assignment out of the view, if it is there."""
        holdings = self._holdings.get(assignment.agent_id, {})
        if holdings.pop(assignment.assignment_id, None) is None:
            return
        if not holdings:
            del self._holdings[assignment.agent_id]
        if self._tasks.get(assignment.task_id) == assignment.assignment_id:
            del self._tasks[assignment.task_id]
        self._count(assignment, -assignment.slots)

    def _count(self, assignment: Assignment, slots: int) -> None:
        agent = self._agents.get(assignment.agent_id)
        if agent is not None and agent.record.incarnation == assignment.incarnation:
            agent.reserved += slots
            self._moved(agent)

    def recount(self, agent: Agent, load_at: float | None) -> None:
        """Count what is reserved of an agent that is new, or another incarnation than before.

        Args:
            agent: Which.
            load_at: Unix time of its last load report; None if there was none.
        """
        mine = [each for each in self._holdings.get(agent.agent_id, {}).values() if _is_of(each, agent)]
        reserved = sum(each.slots for each in mine)
        then = sum(each.slots for each in mine if load_at is not None and each.assigned_at <= load_at)
        if (reserved, then) != (agent.reserved, agent.reserved_then):
            agent.reserved, agent.reserved_then = reserved, then
            self._moved(agent)

    def doubt(self, agent_id: str, at: float) -> None:
        """Have it looked at whether an agent's assignments have to end."""
        if agent_id in self._holdings:
            self.doubtful.setdefault(agent_id, at)

    def begin_anew(self) -> list[Step]:
        """Know no assignment; return the steps that were on their way."""
        steps = self.take_back()
        for assignment_id in list(self.live):
            self.forget(assignment_id)
        self.revision = 0
        self.doubtful.clear()
        return steps

    def validate(self) -> None:
        """Check every cross-reference, and that no agent has given more slots than it has.

        Raises:
            AssertionError: Naming the first that does not hold.
        """
        view = {key: each for holdings in self._holdings.values() for key, each in holdings.items()}
        ending = {key for key, step in self._steps.items() if step.ends}
        making = {key for key, step in self._steps.items() if not (step.ends or step.renews)}
        assert set(view) == (set(self.live) - ending) | making, "the view is what is durable and what is on its way"
        if not self.underway and not self.pending:  # else somebody else's may be heard of, which ours will lose against
            tasks = {each.task_id: each.assignment_id for each in view.values()}
            assert self._tasks == tasks, "a task is filed under its assignment"
            assert len(tasks) == len(view), "no task has two"
        for agent_id, holdings in self._holdings.items():
            assert holdings, f"{agent_id} holds nothing"
        for agent in self._agents.values():
            mine = [each for each in view.values() if _is_of(each, agent)]
            assert agent.reserved == sum(each.slots for each in mine), f"{agent.agent_id} has {agent.reserved} reserved"
        self.deadlines.validate()


def _is_of(assignment: Assignment, agent: Agent) -> bool:
    return assignment.agent_id == agent.agent_id and assignment.incarnation == agent.record.incarnation
