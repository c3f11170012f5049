"""Orders through whatever happens: leaders that come, go and stand still, writes that are lost or late, agents that
start, die and idle. No order is told twice, none is told that is not durable, and none breaks its policy."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from registry.core.events import Verb
from registry.core.policy import Policy
from registry.core.status import Status
from tests.core.search import searching
from tests.core.shell import Fate, Shell, World

POLICY = Policy(min_agents=2, max_agents=6, stabilisation_down=20.0, warm_up=5.0, order_timeout=40.0)

CAPABILITIES = st.sampled_from([("analysis",), ("vision",), ("analysis", "vision")])

LOADS = st.sampled_from([0.0, 0.1, 0.5, 0.79, 0.9, 1.0])


class Leaders(RuleBasedStateMachine):
    """Two replicas, of which one leads, or both believe to, or none does."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(scaling=True, policy=POLICY)
        self.count = 0
        self.loads: dict[str, float] = {}

    @initialize()
    def start(self) -> None:
        self.world.replica("one", leading=True)
        self.world.replica("two")

    def somebody(self) -> Shell:
        return next(shell for shell in self.world.shells if not shell.manual)

    @rule(capabilities=CAPABILITIES)
    def start_one(self, capabilities: tuple[str, ...]) -> None:
        self.count += 1
        self.loads[f"a{self.count}"] = 0.5
        self.somebody().register(f"a{self.count}", capabilities=capabilities, heartbeat_interval=5.0)

    @precondition(lambda self: self.loads)
    @rule(which=st.integers(0, 20), verb=st.sampled_from([Verb.DEREGISTER, Verb.DRAIN]))
    def one_goes(self, which: int, verb: Verb) -> None:
        agent_id = sorted(self.loads)[which % len(self.loads)]
        del self.loads[agent_id]
        self.somebody().command(verb, agent_id)

    @precondition(lambda self: self.loads)
    @rule(load=LOADS, health=st.sampled_from([1.0, 1.0, 0.55, 0.3]), which=st.integers(0, 20))
    def one_changes(self, load: float, health: float, which: int) -> None:
        agent_id = sorted(self.loads)[which % len(self.loads)]
        self.loads[agent_id] = load
        self.world.beat(agent_id, load_factor=load, health_score=health)

    @rule(load=LOADS)
    def all_change(self, load: float) -> None:
        self.loads = dict.fromkeys(self.loads, load)

    @rule(seconds=st.sampled_from([1, 6, 30, 60]))
    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.world.advance(1.0, step=1.0)
            for agent_id, load in self.loads.items():
                self.world.beat(agent_id, load_factor=load)

    @rule(which=st.integers(0, 1))
    def the_other_leads(self, which: int) -> None:
        """The old leader learns so in time."""
        self.world.shells[1 - which].follow()
        self.world.shells[which].lead()

    @precondition(lambda self: not any(shell.manual for shell in self.world.shells))
    @rule(which=st.integers(0, 1))
    def one_stands_still(self, which: int) -> None:
        """The other one leads; the old leader does not hear so yet."""
        self.world.shells[which].manual = self.world.shells[which].deaf = True
        self.world.shells[1 - which].lead()

    @precondition(lambda self: any(shell.manual for shell in self.world.shells))
    @rule()
    def it_goes_on(self) -> None:
        for shell in self.world.shells:
            if shell.manual:
                shell.release()
                shell.follow()

    @rule(fate=st.sampled_from([Fate.UNACKED, Fate.LOST, Fate.LATE]))
    def a_write_goes_wrong(self, fate: Fate) -> None:
        self.somebody().fates.append(fate)

    @rule()
    def late_writes_arrive(self) -> None:
        self.world.land_late()

    @invariant()
    def orders_are_right(self) -> None:
        told = [order for shell in self.world.shells for order in shell.orders]
        ids = [order["order_id"] for order in told]
        assert len(ids) == len(set(ids)), "an order was told twice"
        attempts = [
            (order["capability"], order["action"] == "rebalance", order["generation"], order["attempt"])
            for order in told
        ]
        assert len(attempts) == len(set(attempts)), "two orders are the same attempt"
        durable = {
            order.order_id for entry in self.world.ordered.log for order in entry.orders.all_open()
        }  # fmt: skip
        assert durable.issuperset(ids), "an order was told that is not durable"
        for order in told:
            assert POLICY.min_agents <= order["desired"] or order["action"] == "replace", order
            assert order["desired"] <= POLICY.max_agents or order["action"] != "scale_up", order

    @invariant()
    def nobody_is_named_whom_another_capability_needs(self) -> None:
        for shell in self.world.shells:
            for order in shell.orders[-1:]:
                assert order["action"] != "scale_down" or order["agents"], order

    def teardown(self) -> None:
        self.it_goes_on()
        self.world.check()
        if any(shell.state.leading for shell in self.world.shells):
            self._comes_to_rest()

    def _comes_to_rest(self) -> None:
        """With loads that are right and orders that are carried out, nothing is ordered any more."""
        leader = next(shell for shell in self.world.shells if shell.state.leading)
        for _ in range(60):
            self.all_change(0.5)
            for agent in list(leader.state.agents.values()):
                if agent.agent_id in self.loads:
                    self.world.beat(agent.agent_id, load_factor=0.5, health_score=1.0)
            self.time_passes(6)
            for capability in ("analysis", "vision"):
                report = leader.state.scaler.report(capability, [])
                for order in report["orders"]:
                    self._carry_out(leader, order)
        for capability in ("analysis", "vision"):
            report = leader.state.scaler.report(capability, [])
            serving = [
                agent
                for agent in leader.state.catalog.of_capability(capability)
                if agent.status in (Status.ACTIVE, Status.DEGRADED)
            ]
            assert not report["orders"], report
            assert not serving or POLICY.min_agents <= len(serving) <= POLICY.max_agents, report

    def _carry_out(self, leader: Shell, order: dict[str, object]) -> None:
        for agent_id in order["agents"] if order["action"] != "rebalance" else ():  # type: ignore[attr-defined]
            if agent_id in self.loads:
                del self.loads[agent_id]
                leader.command(Verb.DEREGISTER, agent_id)
        if order["action"] == "scale_up":
            missing = order["desired"] - leader.state.scaler.report(str(order["capability"]), [])["observed"]["agents"]  # type: ignore[operator]
            for _ in range(missing):
                self.start_one((str(order["capability"]),))


Leaders.TestCase.settings = searching(examples=15, steps=25)
TestLeaders = Leaders.TestCase
