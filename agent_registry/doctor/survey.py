"""Looking at a deployment: all questions at once where that is possible, each with an end to its waiting."""

from __future__ import annotations

import asyncio

from agent_registry.doctor import reading
from agent_registry.doctor.facts import Facts, Lease, Unseen
from agent_registry.doctor.inquiry import Entry, Inquiry
from agent_registry.doctor.projection import projection
from agent_registry.doctor.roll_call import ask_replicas, call_roll
from agents_sdk.protocol.subjects import Subjects
from registry.shell.election import KEY as LEADER_KEY


async def survey(
    where: str, subjects: Subjects, inquiry: Inquiry, system: Inquiry | None, wanted_copies: int | None
) -> Facts:
    """Return what can be seen of a deployment.

    Args:
        where: URL of NATS, without a password.
        subjects: Names of the registry.
        inquiry: Asks in the registry's account.
        system: Asks in the system account, if somebody gave a login for it.
        wanted_copies: What `AGENT_REGISTRY_KV_REPLICAS` says here, if it is set.

    Raises:
        UnavailableError: If the connection to NATS is lost meanwhile.
    """
    agents_stream, control_stream = f"KV_{subjects.agents_bucket}", f"KV_{subjects.control_bucket}"
    nats, streams, registry = await asyncio.gather(
        asyncio.gather(
            (system or inquiry).ask_all("$SYS.REQ.SERVER.PING.VARZ"),
            # Unused: a server to which nobody of this account is connected counts, too.
            inquiry.ask_all("$SYS.REQ.ACCOUNT.PING.STATZ", {"include_unused": True}),
            inquiry.ask("$SYS.REQ.USER.INFO"),
            inquiry.ask("$JS.API.INFO"),
        ),
        asyncio.gather(
            inquiry.ask(f"$JS.API.STREAM.INFO.{agents_stream}"),
            inquiry.ask(f"$JS.API.STREAM.INFO.{control_stream}"),
            inquiry.ask(f"$JS.API.STREAM.INFO.{subjects.events_stream}"),
            inquiry.ask(f"$JS.API.STREAM.INFO.KV_{subjects.assignments_bucket}"),
        ),
        asyncio.gather(
            inquiry.newest(agents_stream, f"$KV.{subjects.agents_bucket}.>"),
            inquiry.newest(control_stream, f"$KV.{subjects.control_bucket}.{LEADER_KEY}"),
            inquiry.newest(subjects.events_stream, subjects.registry_event("leader_changed")),
            call_roll(inquiry, subjects),
        ),
    )
    varz, statz, user, account = nats
    newest, lease_entry, led_event, roll_call = registry
    now = reading.server_time(*streams)
    agents, control, events, assignments = map(reading.stream_in, streams)
    lease = _lease(lease_entry, now)
    if isinstance(lease, Lease) and lease.replica:
        roll_call.name(lease.replica, "lease")
    replicas, told = await asyncio.gather(
        ask_replicas(inquiry, subjects, roll_call), projection(inquiry, subjects, agents, events, now)
    )
    who = {} if isinstance(user, Unseen) else user.get("data", {})
    return Facts(
        where=where,
        subjects=subjects,
        connected=reading.connected_server(inquiry.server_info, varz),
        servers=reading.servers_in(statz, varz),
        agents=agents,
        control=control,
        events=events,
        assignments=assignments,
        jetstream=account if isinstance(account, Unseen) else None,
        usages=(*reading.usages_of_account(account), *reading.usages_of_servers(varz)),
        user=str(who.get("user", "")),
        account=str(who.get("account", "")),
        permissions=reading.permissions_in(who.get("permissions")),
        registry_users=frozenset(roll_call.users),
        newest_revision=0 if isinstance(newest, Unseen) else newest.sequence,
        lease=lease,
        led_for=_led_for(led_event, lease, now),
        replicas=replicas,
        denied=roll_call.denied,
        projection=told,
        wanted_copies=wanted_copies,
    )


def _lease(entry: Entry | Unseen, now: float) -> Lease | Unseen:
    if isinstance(entry, Unseen):
        return entry
    lease = entry.document
    return Lease(str(lease.get("replica", "")), int(lease.get("epoch", 0)), max(0.0, now - entry.at))


def _led_for(event: Entry | Unseen, lease: Lease | Unseen, now: float) -> float | None:
    if isinstance(event, Unseen) or isinstance(lease, Unseen):
        return None
    told = event.document
    if (told.get("replica"), told.get("epoch")) != (lease.replica, lease.epoch):
        return None
    return max(0.0, now - event.at)
