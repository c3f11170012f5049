"""Whether registries hear of connections that end, and what NATS lacks for that."""

from __future__ import annotations

from agent_registry.doctor.facts import Facts
from agent_registry.doctor.finding import Finding, note, ok
from agent_registry.doctor.servers import is_allowed
from registry.shell.connections import EVENTS

EXAMPLE = "deploy/nats-accounts.conf"
"""Where it can be read how all of it looks."""

NO_ACCOUNT = ("", "$G")
"""What the account is called where none are configured."""


def findings(facts: Facts) -> list[Finding]:
    """Return what to say about it; nothing where no replica says whether it hears of them."""
    saying = [replica for replica in facts.answering if replica.watched is not None]
    deaf = [replica.replica for replica in saying if not replica.watched]
    if not saying:
        return []
    if not deaf:
        return [ok("connections", "the registry hears when a connection ends, and asks a crashed agent at once")]
    who = "the registry does" if len(deaf) == len(saying) else f"{' and '.join(deaf)} {'do' if deaf[1:] else 'does'}"
    message = f"{who} not hear when a connection ends: a crashed agent is found by its next health check, not at once"
    return [note("connections", message, change=_change(facts))]


def _change(facts: Facts) -> str:
    allowed, user = facts.permissions, facts.user
    if facts.account in NO_ACCOUNT:
        return f"accounts {{ ... }} and a system_account in nats-server.conf, as in {EXAMPLE}"
    if (
        allowed
        and user in facts.registry_users
        and not is_allowed(EVENTS, allowed.subscribe_allow, allowed.subscribe_deny)
    ):
        return f"let user {user} subscribe to {EVENTS}; {EXAMPLE} has the rest that is needed"
    export = f'exports: [ {{ stream: "{EVENTS}", account_token_position: 3 }} ]'
    subject = EVENTS.replace("*", facts.account)
    imported = f'imports: [ {{ stream: {{ account: SYS, subject: "{subject}" }} }} ]'
    return f"{export}  # in the system account, here SYS; and in {facts.account}: {imported}; see {EXAMPLE}"
