"""The rules that are set, as the bucket has them, and which agents stand on which sides of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from registry.core.record import Record
from registry.core.rule import COUNTED, Rule, RuleKind

Sides = tuple[dict[str, None], ...]
"""For each side of a rule the agents on it, in the order in which they came."""


class Rules:
    """What is known of the rules."""

    def __init__(self) -> None:
        self.own: dict[str, Rule] = {}
        self.unreadable: dict[str, None] = {}
        """Rules that the bucket has in a form that cannot be read; they do not hold."""
        self.moved: dict[str, None] = {}
        """Rules that changed, or whose agents did, since they were looked at."""
        self._revisions: dict[str, int] = {}
        self._sides: dict[str, Sides] = {}
        self._filed: dict[str, dict[str, None]] = {}
        """Agent to the rules on whose sides it stands."""
        self._of_type: dict[str, list[Rule]] = {}
        self._of_capability: dict[str, list[Rule]] = {}

    def revision(self, name: str) -> int:
        """Return the revision at which the bucket has what is known of a rule; 0 if it never had it."""
        return self._revisions.get(name, 0)

    def is_there(self, name: str) -> bool:
        """Return whether the bucket has a rule of this name, readable or not."""
        return name in self.own or name in self.unreadable

    def is_already(self, name: str, rule: Rule | None) -> bool:
        """Return whether the bucket is known to have just that rule, or none."""
        return name not in self.unreadable and self.own.get(name) == rule

    def learn(
        self, name: str, rule: Rule | None, revision: int, records: Iterable[Record], readable: bool = True
    ) -> None:
        """Take what the bucket has at a revision, unless something newer is known.

        Args:
            name: Of the rule.
            rule: The rule; None if there is none.
            revision: Its revision.
            records: Of all agents that it may concern.
            readable: Whether what stands there is a rule, or nothing.
        """
        if revision <= self.revision(name):
            return
        self._revisions[name] = revision
        self.moved[name] = None
        self.unreadable.pop(name, None)
        self.own.pop(name, None)
        self._sides.pop(name, None)
        if not readable:
            self.unreadable[name] = None
        elif rule is not None:
            self.own[name] = rule
            self._sides[name] = tuple({} for _ in range(rule.side_count))
        self._arrange()
        if rule is not None:
            for record in records:
                self._file(record, rule)

    def begin_anew(self) -> None:
        """Know no rule: the bucket is another one."""
        self.moved.update(dict.fromkeys(self.own))
        for known in (self.own, self.unreadable, self._revisions, self._sides, self._filed):
            known.clear()
        self._arrange()

    def add(self, record: Record) -> None:
        """Put an agent where it stands."""
        for rule in self.concerning(record.agent_type, record.capabilities):
            self._file(record, rule)

    def discard(self, record: Record) -> None:
        """Take an agent off every side."""
        for name in self._filed.pop(record.agent_id, ()):
            for members in self._sides.get(name, ()):
                members.pop(record.agent_id, None)
            self.moved[name] = None

    def concerning(self, agent_type: str, capabilities: Collection[str]) -> Iterator[Rule]:
        """Yield the rules that may concern such an agent."""
        if self.own:
            yield from self._of_type.get(agent_type, ())
            for capability in capabilities:
                yield from self._of_capability.get(capability, ())

    def sides(self, name: str) -> Sides:
        """Return who stands on the sides of a rule."""
        return self._sides.get(name, ())

    def is_broken(self, name: str) -> bool:
        """Return whether agents break a rule now."""
        rule = self.own.get(name)
        if rule is None:
            return False
        taken = [members for members in self._sides[name] if members]
        if rule.kind is RuleKind.COMBINATION:
            return bool(taken)
        # An agent whose own version is in two ranges is in nobody's way.
        return len(taken) > 1 and len({agent_id for members in taken for agent_id in islice(members, 2)}) > 1

    def broken(self) -> Iterator[Rule]:
        """Yield the rules that agents break now."""
        return (rule for name, rule in self.own.items() if self.is_broken(name))

    def opposite(self, rule: Rule, sides: Collection[int], agent_id: str) -> tuple[str, int] | None:
        """Return another agent that stands elsewhere than on one of these sides, and where; None if nobody does."""
        for side, members in enumerate(self._sides[rule.name]):
            if any(own != side for own in sides):
                for other in members:
                    if other != agent_id:
                        return other, side
        return None

    def validate(self, records: Collection[Record]) -> None:
        """Check that everybody stands where he belongs.

        Raises:
            AssertionError: If not.
        """
        for name, rule in self.own.items():
            for side, members in enumerate(self._sides[name]):
                expected = {record.agent_id for record in records if side in _sides_of(record, rule)}
                assert set(members) == expected, f"{name}: {sorted(members)} are on side {side}, not {sorted(expected)}"
                assert all(name in self._filed[agent_id] for agent_id in members), name

    def _file(self, record: Record, rule: Rule) -> None:
        for side in _sides_of(record, rule):
            self._sides[rule.name][side][record.agent_id] = None
            self._filed.setdefault(record.agent_id, {})[rule.name] = None
            self.moved[rule.name] = None

    def _arrange(self) -> None:
        """Index the rules by what every agent that they concern has."""
        self._of_type.clear()
        self._of_capability.clear()
        for rule in self.own.values():
            if rule.agent_type is not None:
                self._of_type.setdefault(rule.agent_type, []).append(rule)
            else:
                self._of_capability.setdefault(rule.concerns, []).append(rule)


def _sides_of(record: Record, rule: Rule) -> tuple[int, ...]:
    if record.status not in COUNTED:
        return ()
    return rule.sides(record.agent_type, record.capabilities, record.version)
