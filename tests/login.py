"""Logins that a NATS server in operator mode accepts, as `nsc` would make them."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import Any

import nkeys

CONNECTED: dict[str, Any] = dict.fromkeys(["subs", "data", "payload", "imports", "exports", "conn", "leaf"], -1)
"""Limits of an account without JetStream."""

UNLIMITED: dict[str, Any] = {
    **CONNECTED,
    **dict.fromkeys(["mem_storage", "disk_storage", "streams", "consumer"], -1),
    "wildcards": True,
}
"""Limits of an account; those of its JetStream are none unless they are said."""


class Login:
    """One operator, its accounts and one user of each.

    Attributes:
        config: Lines of the server's configuration.
        credentials: Text of the user's credentials file.
        system_credentials: The same of the system account's user.
    """

    def __init__(self) -> None:
        operator, system, account = (
            _key(kind) for kind in (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_ACCOUNT)
        )
        accounts = {
            _public(each): _token(operator, each, "account", {"limits": limits})
            for each, limits in ((system, CONNECTED), (account, UNLIMITED))
        }
        self.config = "\n".join(
            (
                f"operator: {_token(operator, operator, 'operator', {'system_account': _public(system)})}",
                "resolver: MEMORY",
                f"resolver_preload: {json.dumps(accounts)}",
            )
        )
        self.credentials = _credentials(account)
        self.system_credentials = _credentials(system)


def _credentials(account: Any) -> str:
    """Return the credentials file of a new user of an account."""
    user = _key(nkeys.PREFIX_BYTE_USER)
    token = _token(account, user, "user", {"subs": -1, "data": -1, "payload": -1})
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )


def _key(kind: int) -> Any:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), kind)))


def _public(key: Any) -> str:
    return str(key.public_key.decode())


def _token(issuer: Any, subject: Any, kind: str, claims: dict[str, Any]) -> str:
    body = {
        "jti": os.urandom(16).hex(),
        "iat": int(time.time()),
        "iss": _public(issuer),
        "sub": _public(subject),
        "name": kind,
        "nats": {**claims, "type": kind, "version": 2},
    }
    signed = b".".join(_base64(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body))
    return b".".join((signed, _base64(issuer.sign(signed)))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
