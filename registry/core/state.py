"""What one replica knows, and what follows when a record is learnt; `handler` says what becomes of facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from registry.core.adoption import Adoption
from registry.core.agent import Agent
from registry.core.assignment import DEREGISTERED, Assignment
from registry.core.canaries import Canaries
from registry.core.capabilities import Vocabulary
from registry.core.catalog import Catalog
from registry.core.clash import Refusals
from registry.core.deadlines import Deadlines
from registry.core.errors import not_found
from registry.core.evidence import NOTHING, REASONS, Verdict
from registry.core.flapping import returns
from registry.core.health_subject import may_be_asked
from registry.core.leases import Leases
from registry.core.ledger import Ledger
from registry.core.limits import MAX_REMEMBERED, REMOVAL_KEPT, Limits
from registry.core.path import Path
from registry.core.protection import Protection
from registry.core.query import Query
from registry.core.record import Record
from registry.core.scaler import Scaler
from registry.core.service import service_of
from registry.core.standing import Standings
from registry.core.statistics import Statistics
from registry.core.status import Status
from registry.core.suspicion import Suspicions
from registry.core.violation import Violations
from registry.core.waiters import Waiters
from registry.core.writes import Writes

_REGISTERED = ("registered", "takeover", "updated", "restored")
"""Reasons of changes that begin a lease."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal: its revision in the bucket, the last incarnation that the id had, and its last named commands."""

    revision: int
    incarnation: int
    commands: tuple[str, ...] = ()
    reason: str = DEREGISTERED
    """Why it was removed."""


NEVER = Removal(0, 0)
"""Stands for the removal of an id that the bucket does not know."""


class RegistryState:
    """Everything one replica knows.

    Args:
        limits: Times and bounds.
        vocabulary: The capabilities that may be used.
        scaler: Decides how many agents there should be.
        random: Returns a number from 0.0 up to but without 1.0.
        new_id: Returns a new unique id, usable as an agent id.
        prefix: First token or tokens of the registry's own subjects.
        adoption: Which services are adopted; None for none.
    """

    def __init__(
        self,
        limits: Limits,
        vocabulary: Vocabulary,
        scaler: Scaler,
        random: Callable[[], float],
        new_id: Callable[[], str],
        prefix: str = "registry",
        adoption: Adoption | None = None,
    ) -> None:
        self.limits = limits
        self.vocabulary = vocabulary
        self.scaler = scaler
        self.random = random
        self.new_id = new_id
        self.prefix = prefix
        self.adoption = adoption or Adoption()
        self.catalog = Catalog(random)
        self.agents = self.catalog.agents
        self.writes = Writes()
        self.refusals = Refusals()
        self.violations = Violations()
        self.removed: dict[str, Removal] = {}
        """The latest removals: older entries of the log bring nobody back, and whoever registers the id
        again writes over the removal. Only an optimisation beyond that: a forgotten one is found by reading the
        bucket."""
        self.unswept: dict[str, float] = {}
        """Removals whose history is still in the log, by the instant at which to sweep it, earliest first."""
        self.deadlines = Deadlines(self.due_at)
        self.probes = Deadlines(self._probe_at)
        self.probing: set[str] = set()
        """Agents with a probe on its way."""
        self.canaries = Canaries(random)
        self.connections_watched = False
        """Whether connections that end are heard of."""
        self.unsaved: dict[str, float] = {}
        """Agents whose vitals differ from their checkpoint, by the instant at which to save them, earliest first."""
        self.unassessed: dict[str, None] = {}
        """Agents whose record somebody else changed since the last tick, or that were to be assessed while it was not
        sure who leads. Were they assessed at once, two replicas that both believe to lead, and disagree, would
        overwrite each other without end."""
        self.ledger = Ledger(self.agents, self.catalog.moved, self._expires_at)
        self.waiters = Waiters()
        self.draining: dict[str, None] = {}
        """Agents that drain and are to be told so; again, when they were late, for they may not have heard it."""
        self.statistics = Statistics()
        self.path = Path(limits.reconnect_grace)
        self.leases = Leases(self.path)
        self.protection = Protection(limits.protection_share, limits.reconnect_grace)
        self.standings = Standings(limits.warm_up, self.catalog.moved)
        self.suspicions = Suspicions(self.agents, limits.suspicion_below, self.leases, self.path, self.standings)
        self.leading = False
        self.sure = False
        """Whether it is certain that nobody else leads; what a leader decides by itself waits for that."""
        self.epoch = 0
        self.scouted_at = 0.0
        """Instant at which others were last asked because one could not be reached."""
        self.scaling_at = 0.0
        """Instant of the next look at all capabilities."""
        self.scaling_queue: list[str] = []
        """Capabilities not looked at yet in this round, the next one last."""
        self.wall_offset = 0.0
        """Unix time minus the monotonic instant, as of the last tick."""

    def find(self, query: Query) -> tuple[list[Agent], int]:
        """Return the best agents for a query, and how many match.

        Raises:
            RefusedError: If the query names a capability that is not known.
        """
        self.statistics.discoveries += 1
        self.check_capabilities(query.capabilities)
        return self.catalog.find(query)

    def check_capabilities(self, names: Iterable[str], field: str = "capabilities") -> None:
        """Refuse names that are not in the vocabulary, unless an agent has them all the same.

        Raises:
            RefusedError: `invalid_request`.
        """
        self.vocabulary.check((name for name in names if name not in self.catalog.by_capability), field)

    def get(self, agent_id: str) -> Agent:
        """Return one agent.

        Raises:
            RefusedError: `not_found`.
        """
        agent = self.agents.get(agent_id)
        if agent is None:
            raise not_found(agent_id)
        return agent

    def wall(self, at: float) -> float:
        """Return the Unix time of an instant, in whole milliseconds."""
        return round(at + self.wall_offset, 3)

    def _expires_at(self, assignment: Assignment) -> float:
        return assignment.expires_at - self.wall_offset

    def due_at(self, agent_id: str) -> float | None:
        """Return the instant at which something is to be done about an agent if nothing is heard until then."""
        agent = self.agents.get(agent_id)
        if agent is None:
            return None
        record = agent.record
        if record.status is Status.OFFLINE:
            return max(agent.since + self.limits.offline_retention, agent.lapse_at)
        due = self.leases.end(agent)
        if record.status is Status.DEREGISTERING:
            due = min(due, agent.since + self.limits.drain_timeout)
        elif not self.leases.is_late(agent_id):
            due = min(due, self.leases.late_at(agent))
        if record.status is Status.DEGRADED and record.status_reason == "flapping" and record.flaps is not None:
            due = min(due, record.flaps["until"] - self.wall_offset)
        return max(due, agent.lapse_at)

    def health_subject(self, record: Record) -> str | None:
        """Return where an agent is asked how it is; None if nowhere.

        Anybody may have written the record, and before what is refused now was refused. A service is asked by a PING
        to its one instance; the subject that it names may be one that others of its kind answer on, too.
        """
        if record.adopted is not None and (service := service_of(record)) is not None:
            return service.subject("PING")
        subject = record.health_subject
        return subject if subject is not None and may_be_asked(subject, self.prefix) else None

    def _probe_at(self, agent_id: str) -> float | None:
        agent = self.agents.get(agent_id)
        if agent is None or agent.status is Status.OFFLINE or self.health_subject(agent.record) is None:
            return None
        return agent.probe_at

    def apply(self, record: Record, revision: int, at: float) -> Agent:
        """Make a durable record the one that is known."""
        agent = self.agents.get(record.agent_id)
        wall = self.wall(at)
        if agent is None:
            agent = self._newcomer(record, revision, at)
        else:
            before = agent.record
            agent.revision = revision
            agent.change_revision = record.change_revision or revision
            if record.incarnation != before.incarnation or before.status is Status.OFFLINE:
                _reset_vitals(agent, record)
            came_back = before.status is Status.OFFLINE and record.status is not Status.OFFLINE
            registered = record.change is not None and record.change.reason in _REGISTERED
            if came_back or registered or record.incarnation != before.incarnation:
                self.heard(agent, at)
                agent.forget_absence()
                agent.signs += 1
                agent.seq = -1  # who registers may have been started anew, and then counts from the start
            elif record.last_heartbeat > before.last_heartbeat:  # what another replica was told counts here, too
                self.heard(agent, at - max(0.0, wall - record.last_heartbeat))
            if record.status is not before.status:
                agent.since, agent.lapse_at = at, 0.0
                if record.status in (Status.OFFLINE, Status.DEREGISTERING):
                    self.leases.forget(record.agent_id)  # nobody is missed who left
            if self.health_subject(record) != self.health_subject(before):
                agent.forget_absence()
            if record.heartbeat_interval != before.heartbeat_interval:
                agent.rhythm, agent.suspicion = None, 0.0
            self.catalog.replace(agent, record)
            self._look_at_reservations(agent, before, at)
            if returns(record.flaps) > returns(before.flaps):
                self.statistics.returns += 1
                self.standings.returned(agent, at)
        self.adoption.learn(record)
        self.standings.stand(agent, at)
        self.watch(agent, at)
        return agent

    def _look_at_reservations(self, agent: Agent, before: Record, at: float) -> None:
        """Doubt the assignments of an agent that went away, or whose instance is another one."""
        is_another = agent.record.incarnation != before.incarnation
        if is_another:
            self.ledger.recount(agent, None)
        if is_another or agent.status is Status.OFFLINE:
            self.doubt(agent.agent_id, at)

    def doubt(self, agent_id: str, at: float) -> None:
        """Have it looked at whether an agent's assignments have to end; only the leader ends them."""
        if self.leading:
            self.ledger.doubt(agent_id, at)

    def _newcomer(self, record: Record, revision: int, at: float) -> Agent:
        wall = self.wall(at)
        load_at = None
        if record.load_reported_at is not None:
            load_at = at - max(0.0, wall - record.load_reported_at)
        agent = Agent(record, revision, heard=at, since=at - max(0.0, wall - record.status_since), load_at=load_at)
        agent.busy_until = record.busy_until - self.wall_offset if record.busy_until else 0.0
        self.removed.pop(record.agent_id, None)
        self.unswept.pop(record.agent_id, None)
        self.catalog.add(agent)
        self.ledger.recount(agent, record.load_reported_at)
        self.doubt(record.agent_id, at)
        if record.flaps is not None:
            self.standings.returned(agent, at - max(0.0, wall - record.flaps["at"]))
        return agent

    def heard(self, agent: Agent, at: float) -> None:
        """Take note of a sign of life at an instant."""
        agent.heard = max(agent.heard, at)
        if agent.suspicion:
            self.suspicions.clear(agent, at)
        leases, agent_id = self.leases, agent.record.agent_id
        if leases.unreachable:
            leases.unreachable.discard(agent_id)
        if leases.is_late(agent_id):
            leases.forget(agent_id)
            self.watch(agent, at)

    def watch(self, agent: Agent, at: float) -> None:
        """Look at an agent when something is due: its lease, its next probe. Only the leader does."""
        if not self.leading:
            return
        if agent.record.status is Status.DEREGISTERING:
            self.draining.setdefault(agent.agent_id)
        self.deadlines.watch(agent.agent_id)
        self.canaries.watch(agent.record, at)
        if agent.agent_id not in self.probes and self.health_subject(agent.record) is not None:
            agent.probe_at = at + self.random() * self.limits.health_check_interval
            self.probes.watch(agent.agent_id)

    def lead(self, at: float, epoch: int) -> None:
        """Begin to lead. Every lease runs anew, and what was found by probing in an earlier term is found again."""
        self.leading, self.epoch = True, epoch
        self.adoption.begin()
        self.leases.pardon(at)
        self.protection.clear()
        for agent in self.agents.values():
            if agent.evidence is not NOTHING:
                agent.evidence = agent.evidence.told()
                self.catalog.moved(agent)
            if agent.record.status_reason in (REASONS[Verdict.HUNG], REASONS[Verdict.BUSY]):
                agent.finding().unanswered(at)
            elif agent.record.status_reason == REASONS[Verdict.SLOW]:
                agent.finding().answered(at, is_late=True)
            self.watch(agent, at)

    def follow(self, epoch: int) -> None:
        """Lead no longer."""
        self.leading, self.epoch = False, epoch
        self.deadlines.clear()
        self.probes.clear()
        self.draining.clear()
        self.leases.clear()
        self.protection.clear()
        self.canaries.clear()

    def known_revision(self, agent_id: str) -> int:
        """Return the revision of the newest entry that is known of an id; 0 if there is none."""
        agent, removal = self.agents.get(agent_id), self.removed.get(agent_id)
        if agent is not None:
            return agent.revision
        return 0 if removal is None else removal.revision

    def learn(self, agent_id: str, record: Record | None, revision: int, at: float, swept: bool = False) -> None:
        """Take what the bucket holds at a revision, unless something newer is known.

        Acknowledgements, answers to reads and the log overtake each other; the revision decides.

        Args:
            agent_id: The key.
            record: The record; None when the key was removed by hand.
            revision: Its revision.
            at: The instant now.
            swept: Whether the bucket holds nothing older of it.
        """
        if revision <= self.known_revision(agent_id):
            return
        if record is None or record.is_removal:
            self.forget(agent_id, revision, record)
            if not swept:
                self.unswept[agent_id] = at + REMOVAL_KEPT
        else:
            self.apply(record, revision, at)

    def forget(self, agent_id: str, revision: int, record: Record | None) -> None:
        """Take an agent out that is durably gone.

        Args:
            agent_id: Its id.
            revision: Of its removal; 0 if the bucket never had it.
            record: The last it had, if the removal tells.
        """
        known = self.agents[agent_id].record if agent_id in self.agents else None
        last = record or known
        before = self.removed.pop(agent_id, None)
        self.unswept.pop(agent_id, None)
        if revision:
            if last is not None:
                reason = DEREGISTERED if record is None or record.change is None else record.change.reason
                self.removed[agent_id] = Removal(revision, last.incarnation, last.commands, reason)
            elif before is not None:
                self.removed[agent_id] = replace(before, revision=revision)
            else:
                self.removed[agent_id] = Removal(revision, 0)
            if len(self.removed) > MAX_REMEMBERED:
                self.unswept.pop(next(iter(self.removed)), None)  # swept by a later leader, who finds it in the log
                del self.removed[next(iter(self.removed))]
        agent = self.agents.get(agent_id)
        if agent is not None:
            self.catalog.remove(agent)
            self.adoption.remove(agent_id)
            self.doubt(agent_id, 0.0)
            self.unsaved.pop(agent_id, None)
            self.deadlines.watch(agent_id)
            self.probes.watch(agent_id)
            self.canaries.forget(agent_id)
            self.leases.forget(agent_id)
            self.standings.forget(agent_id)
            self.suspicions.forget(agent_id)

    def begin_anew(self) -> None:
        """Know nobody, neither who is there nor who was removed."""
        for agent_id in list(self.agents):
            self.forget(agent_id, 0, None)
        self.removed.clear()
        self.unswept.clear()
        self.unassessed.clear()

    def validate(self) -> None:
        """Check every cross-reference.

        Raises:
            AssertionError: Naming the first that does not hold.
        """
        self.catalog.validate()
        self.adoption.validate(agent.record for agent in self.agents.values())
        self.deadlines.validate()
        self.probes.validate()
        self.canaries.validate({agent_id: agent.record for agent_id, agent in self.agents.items()}, self.leading)
        self.writes.validate()
        self.ledger.validate()
        for agent_id in self.agents:
            assert not self.leading or agent_id in self.deadlines, f"{agent_id} has no deadline"
        for agent_id in self.unswept:
            assert agent_id in self.removed, f"{agent_id} is to be swept but was not removed"
        for agent_id in self.unsaved:
            assert agent_id in self.agents, f"{agent_id} is unsaved but unknown"


def _reset_vitals(agent: Agent, record: Record) -> None:
    """Start anew with what a new instance's record says."""
    agent.health = record.health_score
    agent.load = record.load_factor
    agent.load_at = None
    agent.metrics = record.performance_metrics
    agent.last_heartbeat = record.last_heartbeat
    agent.seq = -1
    agent.evidence = NOTHING
    agent.rhythm, agent.suspicion = None, 0.0
    agent.busy_until = 0.0
