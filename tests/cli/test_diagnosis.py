"""From facts to findings: what the doctor concludes from what it saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from agent_registry.doctor.diagnosis import diagnose
from agent_registry.doctor.facts import Facts, Gap, Lease, Peer, Permissions, Projection, Unseen, Usage, Why
from agent_registry.doctor.finding import Finding, Severity
from agent_registry.doctor.servers import is_allowed, missing_permissions
from agents_sdk.protocol.subjects import Subjects
from tests.cli.deployment import LEADER, NS, agents, control, events, facts, replica, server

BROKEN, NOTE, OK = Severity.BROKEN, Severity.NOTE, Severity.OK


@dataclass(frozen=True)
class Case:
    """Something that is not as it should be, and what is said of it."""

    name: str
    seen: Facts
    check: str
    severity: Severity
    promise: int | None
    says: str
    change: str = ""
    """Part of it; empty when there is nothing to change."""

    def __str__(self) -> str:
        return self.name


def found(seen: Facts, check: str) -> list[Finding]:
    return [finding for finding in diagnose(seen).findings if finding.check == check]


@pytest.mark.parametrize("servers", [1, 3])
def test_a_deployment_that_is_well(servers: int) -> None:
    """Every check says so, once, and the sync that a power cut needs is the only note."""
    diagnosis = diagnose(facts(servers))
    assert diagnosis.holds
    assert [finding.check for finding in diagnosis.of(NOTE)] == ["power"]
    checks = [finding.check for finding in diagnosis.of(OK)]
    assert checks == [
        "nats",
        "space",
        "durability",
        "copies",
        "settings",
        "registry",
        "leader",
        "drops",
        "events",
        "connections",
    ]
    assert not any(finding.change for finding in diagnosis.of(OK))


def alone(**settings: Any) -> Facts:
    return facts(agents=agents(**settings))


def telling(**settings: Any) -> Facts:
    return facts(events=events(**settings))


DURABILITY = [
    Case("memory", alone(storage="memory"), "durability", BROKEN, 1, "in memory only", "nats stream restore"),
    Case("async", alone(persist_mode="async"), "durability", BROKEN, 1, "persist_mode: async", "nats stream restore"),
    Case("events in memory", telling(storage="memory"), "durability", BROKEN, 3, "REGISTRY_EVENTS does not survive"),
    Case(
        "control in memory",
        facts(control=control(storage="memory")),
        "durability",
        NOTE,
        None,
        "the leader's epoch go with nats-server",
        "KV_registry_control.backup",
    ),
    Case("synced now and then", facts(), "power", NOTE, 1, "in the last 2 min at most", "sync_interval: always"),
    Case(
        "sync not seen",
        facts(servers=(server(sync=None),)),
        "power",
        NOTE,
        1,
        "cannot be seen with this login",
        "--system-context",
    ),
    Case(
        "sync of one server not seen",
        facts(3, servers=(server(1, sync=0.0), server(2, sync=0.0), server(3, sync=None))),
        "power",
        NOTE,
        1,
        "cannot be seen",
        "--system-context",
    ),
    Case(
        "a server that is down has no say",
        facts(3, servers=(server(1, sync=0.0), server(2, sync=0.0))),
        "power",
        OK,
        1,
        "is on disk (sync_interval: always); n3 does not answer",
    ),
    Case(
        "two that are down have none",
        facts(3, servers=(server(1, sync=10.0),)),
        "power",
        NOTE,
        1,
        "in the last 10 s at most (sync_interval); n2 and n3 do not answer",
        "sync_interval: always",
    ),
    Case(
        "what was acknowledged stays, though nothing more is",
        facts(3, servers=(server(1),)),
        "durability",
        OK,
        1,
        "registrations acknowledged so far survive kill -9 of every registry and nats-server; no more are until a "
        "majority of its 3 servers is back",
    ),
    Case(
        "the slowest server counts",
        facts(3, servers=(server(1, sync=0.0), server(2, sync=10.0), server(3, sync=60.0))),
        "power",
        NOTE,
        1,
        "in the last 60 s at most",
        "sync_interval: always",
    ),
]

COPIES = [
    Case(
        "one copy in a cluster",
        facts(servers=tuple(map(server, (1, 2, 3)))),
        "copies",
        NOTE,
        1,
        "1 copy of KV_registry_agents, KV_registry_control, REGISTRY_EVENTS, though 3 servers could keep 3",
        "nats stream edit KV_registry_agents --replicas 3 && nats stream edit KV_registry_control --replicas 3 && ",
    ),
    Case(
        "another number than the setting's",
        facts(wanted_copies=3),
        "copies",
        NOTE,
        1,
        "AGENT_REGISTRY_KV_REPLICAS is 3",
        "--replicas 3  # once there are 3 servers with JetStream; now: 1",
    ),
    Case("two copies", facts(2, servers=tuple(map(server, (1, 2)))), "copies", NOTE, 1, "the loss of either"),
    Case(
        "a server is down",
        facts(
            3,
            agents=replace(agents(3), peers=(Peer("n2", current=True, offline=False), Peer("n3", False, offline=True))),
        ),
        "copies",
        NOTE,
        1,
        "2 of 3 copies are there (not that of n3); without one more nothing can be written",
        "nats server report jetstream",
    ),
    Case(
        "a server has just gone down",
        facts(3, servers=tuple(map(server, (1, 3)))),
        "copies",
        NOTE,
        1,
        "KV_registry_agents: 2 of 3 copies are there (not that of n2); ",
        "nats server report jetstream",
    ),
    Case(
        "two servers have just gone down",
        facts(3, servers=(server(1),)),
        "copies",
        BROKEN,
        1,
        "KV_registry_agents: 1 of 3 copies are there (not that of n2, n3), which is no majority: nothing can be "
        "written",
        "nats server report jetstream",
    ),
    Case(
        "one of five",
        facts(5, servers=tuple(map(server, (1, 2, 3, 4)))),
        "copies",
        NOTE,
        1,
        "KV_registry_agents: 4 of 5 copies are there (not that of n5); 1 more server may go",
        "nats server report jetstream",
    ),
    Case(
        "a server was taken out",
        facts(3, agents=replace(agents(3), peers=agents(3).peers[:1])),
        "copies",
        NOTE,
        1,
        "2 of 3 copies are there; ",
        "nats server report jetstream",
    ),
    Case(
        "a copy is behind",
        facts(
            3, agents=replace(agents(3), peers=(agents(3).peers[0], Peer("n3", current=False, offline=False, lag=7)))
        ),
        "copies",
        NOTE,
        1,
        "the copy on n3 is behind, by 7 operations",
        "look again",
    ),
    Case(
        "no leader, for there is no majority",
        facts(
            3,
            servers=(server(1),),
            agents=replace(agents(3), leader="", peers=(Peer("n1", True, False), *agents(3).peers)),
        ),
        "copies",
        BROKEN,
        1,
        "KV_registry_agents: 1 of 3 copies are there (not that of n2, n3), which is no majority",
        "report",
    ),
    Case("no leader", facts(3, agents=replace(agents(3), leader="")), "copies", BROKEN, 1, "has no leader", "report"),
]

SETTINGS = [
    Case("sealed", alone(sealed=True), "settings", BROKEN, 1, "sealed is true", "nats stream restore"),
    Case("a mirror", alone(mirror={"name": "X"}), "settings", BROKEN, 1, "copies another stream", "nats stream rm"),
    Case("no acknowledgements", alone(no_ack=True), "settings", BROKEN, 1, "no_ack is true", "--ack"),
    Case("a work queue", alone(retention="workqueue"), "settings", BROKEN, 1, "workqueue", "nats stream restore"),
    Case("an age", alone(max_age=3600 * NS), "settings", BROKEN, 1, "max_age is 60 min", "--max-age 0"),
    Case(
        "another subject",
        alone(subjects=["x"]),
        "settings",
        BROKEN,
        1,
        "does not take $KV.registry_agents.>",
        "--subjects '$KV.registry_agents.>'",
    ),
    Case(
        "a short history",
        alone(max_msgs_per_subject=1),
        "settings",
        BROKEN,
        3,
        "max_msgs_per_subject is 1: a new leader may not find",
        "nats stream edit KV_registry_agents --max-msgs-per-subject 8",
    ),
    Case("small records", alone(max_msg_size=1024), "settings", NOTE, None, "max_msg_size is 1 KiB", "--max-msg-size"),
    Case("no roll-ups", alone(allow_rollup_hdrs=False), "settings", NOTE, None, "never swept", "--allow-rollup"),
    Case("no TTL", alone(allow_msg_ttl=None), "settings", NOTE, None, "allow_msg_ttl is not set", "--allow-msg-ttl"),
    Case("no direct gets", alone(allow_direct=False), "settings", NOTE, None, "the leading server", "--allow-direct"),
    Case(
        "a limit that drops records",
        alone(max_bytes=1024, discard="old"),
        "settings",
        BROKEN,
        1,
        "once full it drops old records (max_bytes, discard: old)",
        "--discard new --max-bytes=-1",
    ),
    Case(
        "a limit", alone(max_msgs=100), "settings", NOTE, 1, "once full it refuses writes (max_msgs)", "--max-msgs=-1"
    ),
    Case("discard without a limit", alone(discard="old"), "settings", NOTE, 1, "discard is old", "--discard new"),
    Case("control ages", facts(control=control(max_age=NS)), "settings", BROKEN, None, "KV_registry_control: max_age"),
    Case("events refused when full", telling(discard="new"), "settings", BROKEN, 3, "discard is new", "--discard old"),
    Case(
        "a short window",
        telling(duplicate_window=10 * NS),
        "settings",
        BROKEN,
        3,
        "duplicate_window is 10 s",
        "--dupe-window 120s",
    ),
    Case("younger events", telling(max_age=3600 * NS), "settings", NOTE, None, "max_age is 60 min", "--max-age 7d"),
    Case("fewer events", telling(max_bytes=1024**2), "settings", NOTE, None, "1 MiB", "--max-bytes 1024MiB"),
    Case("counted events", telling(max_msgs=100), "settings", NOTE, None, "max_msgs is 100", "--max-msgs=-1"),
    Case("a work queue of events", telling(retention="interest"), "settings", BROKEN, 3, "interest"),
]


def without(why: Why) -> Facts:
    """JetStream does not answer, and its streams do not for the same reason."""
    unseen = Unseen(why)
    return facts(jetstream=unseen, agents=unseen, control=unseen, events=unseen, replicas=(), lease=unseen)


MISSING = [
    Case(
        "not made yet",
        facts(agents=Unseen(Why.ABSENT), replicas=()),
        "settings",
        NOTE,
        None,
        "KV_registry_agents does not exist; the first registry that starts makes it",
    ),
    Case("gone", facts(agents=Unseen(Why.ABSENT)), "settings", BROKEN, 1, "is gone, while a registry runs", "restart"),
    Case("forbidden", facts(events=Unseen(Why.FORBIDDEN)), "settings", BROKEN, 3, "cannot be judged", "--creds"),
    Case("silent", facts(events=Unseen(Why.SILENT)), "settings", BROKEN, 3, "has no leader, or is", "report jetstream"),
    Case("no JetStream", without(Why.UNSERVED), "jetstream", BROKEN, 1, "is off for this account", "jetstream {"),
    Case("JetStream forbidden", without(Why.FORBIDDEN), "jetstream", BROKEN, 1, "no promise can be judged", "--creds"),
    Case("JetStream silent", without(Why.SILENT), "jetstream", BROKEN, 1, "has no leader, or is overloaded", "report"),
    Case(
        "only JetStream is silent",
        facts(3, jetstream=Unseen(Why.SILENT)),
        "jetstream",
        NOTE,
        None,
        "JetStream itself does not answer (it has no leader, or is overloaded): registries that run go on",
        "look again",
    ),
    Case(
        "no majority, and JetStream is silent",
        facts(3, servers=(server(1),), jetstream=Unseen(Why.SILENT, "unavailable")),
        "jetstream",
        NOTE,
        None,
        "JetStream itself does not answer (unavailable): no registry can start",
        "look again",
    ),
    Case(
        "only JetStream is forbidden",
        facts(jetstream=Unseen(Why.FORBIDDEN)),
        "jetstream",
        NOTE,
        None,
        "limits were not seen",
    ),
]

ROOM = [
    Case(
        "nearly used",
        facts(usages=(Usage("file storage", "the account", 85 * 1024, 100 * 1024),)),
        "space",
        NOTE,
        1,
        "85 KiB of 100 KiB of the file storage of the account are used",
        "raise the limit",
    ),
    Case(
        "used up",
        facts(usages=(Usage("consumers", "the account", 10, 10),)),
        "space",
        BROKEN,
        1,
        "10 of 10 of the consumers",
        "raise the limit",
    ),
    Case(
        "no room to start",
        facts(events=Unseen(Why.ABSENT), replicas=(), usages=(Usage("file storage", "the account", 0, 1024**2),)),
        "space",
        BROKEN,
        None,
        "reserves 1 GiB, and the file storage of the account has 1 MiB left",
        "raise the limit",
    ),
    Case(
        "a stream nearly full",
        facts(events=replace(events(), bytes=1000 * 1024**2)),
        "space",
        NOTE,
        3,
        "REGISTRY_EVENTS has 1000 MiB of 1 GiB; then the oldest events go",
        "nats stream edit REGISTRY_EVENTS --max-bytes 4096MiB",
    ),
]

SERVERS = [
    Case("old", facts(servers=(server(version="2.10.3"),)), "nats", BROKEN, 2, "n1 (2.10.3)", "nats-server 2.11"),
    Case(
        "different versions",
        facts(3, servers=(server(1), server(2, version="2.11.0"), server(3))),
        "nats",
        NOTE,
        None,
        "2.11.0, 2.15.1",
        "finish the upgrade",
    ),
    Case(
        "number not seen", facts(servers=Unseen(Why.FORBIDDEN)), "nats", OK, None, "how many servers there are was not"
    ),
    Case(
        "a user that cannot serve",
        facts(user="ada", replicas=(), permissions=Permissions(publish_allow=("registry.>", "_INBOX.>"))),
        "permissions",
        NOTE,
        None,
        "user ada may not publish $KV.registry_agents.>, ",
        "allow it",
    ),
    Case(
        "the registry's own user",
        facts(user="ada", registry_users=frozenset({"ada"}), permissions=Permissions(publish_deny=("$KV.>",))),
        "permissions",
        NOTE,
        None,
        "may not publish $KV.registry_agents.>, publish $KV.registry_control.>, publish $KV.registry_assignments.>:",
        "allow it",
    ),
    Case(
        "a user that can",
        facts(user="ada", replicas=(), permissions=Permissions(publish_deny=("secret.>",))),
        "permissions",
        OK,
        None,
        "user ada may do what a registry does",
    ),
]

STOOD_STILL = replica("two", answers=False, named_by=frozenset({"connection"}))

REPLICAS = [
    Case("nobody", facts(replicas=()), "registry", BROKEN, None, "no registry with prefix registry answers", "serve"),
    Case(
        "whoever led last",
        facts(replicas=()),
        "leader",
        NOTE,
        None,
        "one led last, epoch 3; it renewed its lease 1.5 s",
    ),
    Case(
        "not for this user",
        facts(replicas=(), denied=True),
        "registry",
        BROKEN,
        None,
        "was not seen: NATS does not",
        "--creds",
    ),
    Case(
        "one stands still",
        facts(replicas=(LEADER, STOOD_STILL)),
        "registry",
        BROKEN,
        None,
        "replica two does not answer, though it is connected to NATS",
        "restart its process",
    ),
    Case(
        "the lease of one that is gone",
        facts(replicas=(LEADER, replica("two", answers=False, named_by=frozenset({"lease"})))),
        "registry",
        NOTE,
        None,
        "it holds the leader's lease: it has ended without handing the lease over",
    ),
    Case(
        "different versions",
        facts(replicas=(LEADER, replica("two", version="0.2.0"))),
        "registry",
        NOTE,
        None,
        "replicas of different versions: 0.1.0, 0.2.0",
        "restart the older ones",
    ),
    Case(
        "catching up",
        facts(replicas=(LEADER, replica("two", revision_before=5, revision=9))),
        "registry",
        NOTE,
        2,
        "replica two is 3 revisions behind and catching up",
        "look again",
    ),
    Case(
        "behind for good",
        facts(replicas=(LEADER, replica("two", revision_before=9, revision=9))),
        "registry",
        BROKEN,
        2,
        "replica two is 3 revisions behind and does not move",
        "restart",
    ),
    Case(
        "nobody leads",
        facts(replicas=(replica(),), lease=Lease("two", 3, 4.0)),
        "leader",
        BROKEN,
        3,
        "nobody leads: no events are published, no health is checked, nothing is scaled; the lease is two's, epoch 3, "
        "renewed 4.0 s ago",
        "AGENT_REGISTRY_LEADER_LEASE",
    ),
    Case(
        "nobody can lead",
        facts(3, servers=(server(1),), replicas=(replica(),)),
        "leader",
        BROKEN,
        3,
        "nobody can lead until a majority of its 3 servers is back",
        "nats server report jetstream",
    ),
    Case(
        "nobody can lead without JetStream",
        facts(3, agents=Unseen(Why.SILENT), control=Unseen(Why.SILENT), replicas=(replica(),)),
        "leader",
        BROKEN,
        3,
        "nobody can lead until JetStream answers",
        "nats server report jetstream",
    ),
    Case(
        "two lead",
        facts(replicas=(LEADER, replica("two", leader=True, epoch=4))),
        "leader",
        BROKEN,
        3,
        "one (epoch 3), two (epoch 4)",
        "restart the process of one",
    ),
    Case(
        "one leads that lost the lease",
        facts(lease=Lease("two", 4, 1.0)),
        "leader",
        BROKEN,
        3,
        "one leads with epoch 3, though the lease has epoch 4",
        "restart the process of one",
    ),
    Case("one leads", facts(), "leader", OK, None, "one leads, epoch 3, for 12 min"),
    Case("no event tells since when", facts(led_for=None), "leader", OK, None, "one leads, epoch 3"),
    Case(
        "dropped",
        facts(replicas=(replace(LEADER, dropped=5),)),
        "drops",
        NOTE,
        4,
        "replica one has dropped 5 messages",
        "heartbeat_interval",
    ),
    Case(
        "lost",
        facts(replicas=(replace(LEADER, resyncs=1),)),
        "drops",
        NOTE,
        2,
        "fell silent for replica one once",
        "log_",
    ),
]

TOLD = [
    Case(
        "a change without an event",
        facts(projection=Projection(9, 12, Gap(10, 65.0))),
        "events",
        BROKEN,
        3,
        "the change of revision 10, 65 s ago, has no event; only those up to revision 9 were published",
        "event_not_taken",
    ),
    Case(
        "nobody there to publish it",
        facts(projection=Projection(None, 12, Gap(1, 65.0)), replicas=()),
        "events",
        NOTE,
        3,
        "has no event; none were published; the next leader publishes it",
    ),
    Case(
        "a bucket made anew",
        facts(projection=Projection(400, 12)),
        "events",
        BROKEN,
        3,
        "events go up to revision 400, the bucket only to 12",
        "nats stream purge REGISTRY_EVENTS --subject 'registry.events.status.>'",
    ),
    Case(
        "too much to look at", facts(projection=Projection(9, 12, searched_to=11)), "events", OK, 3, "up to revision 11"
    ),
    Case(
        "not for this user",
        facts(projection=Unseen(Why.FORBIDDEN)),
        "events",
        NOTE,
        3,
        "was not seen with this login",
        "--creds",
    ),
    Case(
        "JetStream went away meanwhile",
        facts(projection=Unseen(Why.SILENT, "unavailable")),
        "events",
        NOTE,
        3,
        "was not seen: JetStream does not answer (unavailable)",
        "look again",
    ),
]

DEAF = replace(LEADER, watched=False)
"""A leader that does not hear when connections end."""

CONNECTIONS = [
    Case(
        "no accounts",
        facts(replicas=(DEAF,), account="$G"),
        "connections",
        NOTE,
        None,
        "the registry does not hear when a connection ends: a crashed agent is found by its next health check",
        "a system_account in nats-server.conf, as in deploy/nats-accounts.conf",
    ),
    Case(
        "not exported",
        facts(replicas=(DEAF,)),
        "connections",
        NOTE,
        None,
        "the registry does not hear",
        'imports: [ { stream: { account: SYS, subject: "$SYS.ACCOUNT.AGENTS.DISCONNECT" } } ]',
    ),
    Case(
        "not allowed",
        facts(
            replicas=(DEAF,),
            user="ada",
            registry_users=frozenset({"ada"}),
            permissions=Permissions(subscribe_deny=("$SYS.>",)),
        ),
        "connections",
        NOTE,
        None,
        "the registry does not hear",
        "let user ada subscribe to $SYS.ACCOUNT.*.DISCONNECT",
    ),
    Case(
        "what another user may says nothing",
        facts(
            replicas=(DEAF,),
            user="eve",
            registry_users=frozenset({"ada"}),
            permissions=Permissions(subscribe_deny=("$SYS.>",)),
        ),
        "connections",
        NOTE,
        None,
        "the registry does not hear",
        "account_token_position: 3",
    ),
    Case(
        "one of two",
        facts(replicas=(LEADER, replica("two", watched=False))),
        "connections",
        NOTE,
        None,
        "two does not hear",
        "account_token_position: 3",
    ),
    Case(
        "all of them", facts(replicas=(LEADER, replica("two"))), "connections", OK, None, "asks a crashed agent at once"
    ),
]

CASES = [*DURABILITY, *COPIES, *SETTINGS, *MISSING, *ROOM, *SERVERS, *REPLICAS, *TOLD, *CONNECTIONS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_concluded(case: Case) -> None:
    matching = [finding for finding in found(case.seen, case.check) if case.says in finding.message]
    assert len(matching) == 1, found(case.seen, case.check)
    finding = matching[0]
    assert (finding.severity, finding.promise) == (case.severity, case.promise)
    assert case.change in finding.change
    if case.severity is BROKEN:
        assert not diagnose(case.seen).holds


@pytest.mark.parametrize("case", [case for case in CASES if case.severity is BROKEN], ids=str)
def test_what_is_broken_says_what_to_change(case: Case) -> None:
    assert all(finding.change for finding in diagnose(case.seen).of(BROKEN))


def test_the_worst_comes_first() -> None:
    severities = [finding.severity for finding in diagnose(alone(storage="memory", allow_direct=False)).findings]
    assert severities == sorted(severities, key=[BROKEN, NOTE, OK].index)


def test_a_setting_that_is_wrong_is_not_said_to_be_right() -> None:
    assert [finding.severity for finding in found(alone(sealed=True), "settings")] == [BROKEN]


def test_a_replica_that_does_not_say_whether_it_hears() -> None:
    """One of an older version, or one whose statistics are not for this user."""
    assert found(facts(replicas=(replace(LEADER, watched=None),)), "connections") == []


def test_a_missing_event_has_its_time_before_the_replicas_are_asked() -> None:
    """A replica is judged by a revision that was read before; one that knows more already is not behind."""
    assert found(facts(replicas=(replace(LEADER, revision=20),)), "registry")[0].severity is OK


@pytest.mark.parametrize("why", [Why.UNSERVED, Why.FORBIDDEN, Why.SILENT])
def test_what_is_true_of_all_of_jetstream_is_said_once(why: Why) -> None:
    assert [finding.check for finding in diagnose(without(why)).of(BROKEN)] == ["jetstream", "registry"]
    assert found(without(why), "settings") == []


# What an acknowledgement means, and what is lost.

THREE = tuple(map(server, (1, 2, 3)))
ALWAYS = tuple(server(number, sync=0.0) for number in (1, 2, 3))
HERE = tuple(server(number, host="127.0.0.1") for number in (1, 2, 3))

ACKNOWLEDGED: list[tuple[str, Facts, tuple[int, int | None, float | None], str]] = [
    ("R1", facts(), (1, 0, 120.0), "in memory of 1 server, safe from kill -9; on disk within 2 min (sync_interval)"),
    ("R1 always", facts(servers=ALWAYS[:1]), (1, 1, 0.0), "on disk of 1 server (sync_interval: always)"),
    ("R1 unseen", facts(servers=(server(sync=None),)), (1, None, None), "within 2 min unless sync_interval is set"),
    ("R1 async", alone(persist_mode="async"), (0, 0, 120.0), "may not have written it anywhere yet"),
    ("R1 async always", facts(agents=agents(persist_mode="async"), servers=ALWAYS[:1]), (0, 0, 120.0), "persist_mode"),
    ("R1 memory", alone(storage="memory"), (1, 0, None), "in memory of 1 server, on disk of none"),
    ("R3", facts(3), (2, 0, 120.0), "in memory of 2 of 3 servers, safe from kill -9; on disk within 2 min"),
    ("R3 always", facts(3, servers=ALWAYS), (2, 2, 0.0), "on disk of 2 of 3 servers"),
    (
        "R3 memory",
        facts(3, agents=agents(3, storage="memory")),
        (2, 0, None),
        "in memory of 2 of 3 servers, on disk of none",
    ),
    (
        "R3 always, one down",
        facts(3, servers=ALWAYS[:2]),
        (2, 2, 0.0),
        "on disk of 2 of 3 servers (sync_interval: always); n3 does not answer",
    ),
    (
        "R3 always, two down",
        facts(3, servers=ALWAYS[:1]),
        (2, 2, 0.0),
        "; n2 and n3 do not answer; none can be acknowledged until a majority of its 3 servers is back",
    ),
    ("R5", facts(5), (3, 0, 120.0), "in memory of 3 of 5 servers"),
]


@pytest.mark.parametrize(
    ("seen", "expected", "says"), [row[1:] for row in ACKNOWLEDGED], ids=[row[0] for row in ACKNOWLEDGED]
)
def test_what_an_acknowledgement_means(seen: Facts, expected: tuple[int, int | None, float | None], says: str) -> None:
    acknowledged = diagnose(seen).acknowledgement
    assert acknowledged is not None
    assert (acknowledged.in_memory_of, acknowledged.on_disk_of, acknowledged.sync_interval) == expected
    assert says in acknowledged.text


LOST = [
    # registry, nats-server, machine, power, disk
    ("R1", facts(), "nothing nothing everything recent everything"),
    ("R1 always", facts(servers=ALWAYS[:1]), "nothing nothing everything nothing everything"),
    ("R1 unseen", facts(servers=(server(sync=None),)), "nothing nothing everything unknown everything"),
    ("R1 async", alone(persist_mode="async"), "nothing recent everything recent everything"),
    ("R1 memory", alone(storage="memory"), "nothing everything everything everything nothing"),
    ("R1 of 3", facts(servers=THREE), "nothing nothing everything recent everything"),
    ("R2", facts(2), "nothing nothing nothing recent nothing"),
    ("R3", facts(3), "nothing nothing nothing recent nothing"),
    ("R3 always", facts(3, servers=ALWAYS), "nothing nothing nothing nothing nothing"),
    ("R3 memory", facts(3, agents=agents(3, storage="memory")), "nothing nothing nothing everything nothing"),
    ("R3 on one machine", facts(3, servers=HERE), "nothing nothing everything recent unknown"),
]


@pytest.mark.parametrize(("seen", "expected"), [row[1:] for row in LOST], ids=[row[0] for row in LOST])
def test_what_is_lost_in_which_accident(seen: Facts, expected: str) -> None:
    lost = diagnose(seen).losses
    assert [loss.accident for loss in lost] == [
        "registry_killed",
        "nats_killed",
        "machine_lost",
        "power_lost",
        "disk_lost",
    ]
    assert [loss.lost for loss in lost] == expected.split()


def test_without_a_leader_nobody_is_behind() -> None:
    """Which copies are up to date is the leader's to say."""
    peers = tuple(Peer(f"n{number}", current=False, offline=False) for number in (1, 2, 3))
    (finding,) = found(facts(3, agents=replace(agents(3), leader="", peers=peers)), "copies")
    assert finding.message == "KV_registry_agents has no leader: nothing can be written"


def test_losses_say_what_stops() -> None:
    """Nothing lost is not nothing felt."""

    def texts(seen: Facts) -> list[str]:
        return [loss.text for loss in diagnose(seen).losses]

    two = facts(3, replicas=(LEADER, replica("two")))
    assert texts(two)[:2] == ["nothing; another replica takes over", "nothing; writes may wait for some seconds"]
    degraded = replace(agents(3), peers=(agents(3).peers[0], Peer("n3", current=False, offline=True)))
    assert texts(facts(3, agents=degraded))[1] == "nothing; no writes until it is back"
    assert texts(facts(3, servers=THREE[:1], replicas=two.replicas)) == [
        "nothing; no replica can start, or take over, until a majority of its 3 servers is back",
        "nothing; nothing is written until a majority of its 3 servers is back",
        "nothing, if each server has a machine of its own; "
        "nothing is written until a majority of its 3 servers is back",
        "what was acknowledged in the last 2 min at most",
        "nothing, if each server has a disk of its own",
    ]
    assert texts(facts(servers=THREE))[1:3] == [
        "nothing; if it is n1, no writes until it is back",
        "everything, if it is that of server n1: there is 1 copy",
    ]


def test_nothing_is_said_of_a_bucket_that_was_not_seen() -> None:
    diagnosis = diagnose(facts(agents=Unseen(Why.SILENT)))
    assert (diagnosis.acknowledgement, diagnosis.losses) == (None, ())


# Permissions.


@pytest.mark.parametrize(
    ("subject", "allow", "deny", "expected"),
    [
        ("a.b", (), (), True),
        ("a.b", ("a.b",), (), True),
        ("a.b", ("a.*",), (), True),
        ("a.b", ("*.b",), (), True),
        ("a.b", (">",), (), True),
        ("a.b", ("a.c", "a.>"), (), True),
        ("a.b", ("a",), (), False),
        ("a.b", ("a.b.>",), (), False),
        ("a.b", ("a.b.c",), (), False),
        ("a.>", ("a.>",), (), True),
        ("a.>", ("a.*",), (), False),
        ("a.>", ("a.b",), (), False),
        ("a.b.>", ("a.>",), (), True),
        ("a.b", (), ("a.b",), False),
        ("a.b", (), ("a.>",), False),
        ("a.b", (), ("b.>",), True),
        ("a.>", (), ("a.secret",), False),
        ("a.>", (), ("a",), True),
        ("a.b", ("a.>",), ("a.*",), False),
        ("a.b", (), ("a.b.c",), True),
    ],
)
def test_is_allowed(subject: str, allow: tuple[str, ...], deny: tuple[str, ...], expected: bool) -> None:
    assert is_allowed(subject, allow, deny) is expected


def test_permissions_that_suffice() -> None:
    """What stands in the list is enough, and each of it is needed."""
    publish = ("$KV.>", "$JS.API.>", "registry.>", "agent.>", "_INBOX.>")
    subscribe = ("registry.>", "$SRV.>", "_INBOX.>")
    assert missing_permissions(Permissions(publish, (), subscribe, ()), Subjects()) == []
    for pattern in publish:
        rest = tuple(each for each in publish if each != pattern)
        assert missing_permissions(Permissions(rest, (), subscribe, ()), Subjects()), pattern
    for pattern in subscribe:
        rest = tuple(each for each in subscribe if each != pattern)
        assert missing_permissions(Permissions(publish, (), rest, ()), Subjects()) == [f"subscribe {pattern}"]
