"""A NATS credentials file: a user's token, and the seed that proves it is his."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from nats.errors import Error as NatsError

_TOKEN = re.compile(rb"-{3,}BEGIN NATS USER JWT-{3,}\s+(\S+)\s+-{3,}END NATS USER JWT-{3,}")
_SEED = re.compile(rb"-{3,}BEGIN USER NKEY SEED-{3,}\s+(\S+)\s+-{3,}END USER NKEY SEED-{3,}")


class CredentialsError(NatsError, ValueError):
    """A credentials file does not hold what it should; to nats-py a failed attempt like any other."""


class Credentials:
    """The login in a file, read anew for each connection: it may be renewed, and is half written for a moment then.

    nats-py can read such a file itself. But what it does not expect there ends its reconnecting for ever, and a seed
    without a token has it search the end of the file without end.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Make sure that the file can be used.

        Raises:
            FileNotFoundError: If it is not there.
            CredentialsError: If it does not hold a user's login.
        """
        if not self._path.is_file():
            raise FileNotFoundError(f"credentials: there is no file {str(self._path)!r}")
        self.token()
        self.sign("")

    def token(self) -> bytearray:
        """Return the user's token."""
        return bytearray(self._find(_TOKEN, "token"))

    def sign(self, nonce: str) -> bytes:
        """Return the signature of what the server wants signed, in base64."""
        import nkeys  # type: ignore[import-untyped]

        seed = self._find(_SEED, "seed")
        try:
            signature: bytes = nkeys.from_seed(bytearray(seed)).sign(nonce.encode())
        except (nkeys.NkeysError, ValueError) as error:
            raise self._unusable("its seed is none") from error
        return base64.b64encode(signature)

    def _find(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        found = pattern.search(self._path.read_bytes())
        if found is None:
            raise self._unusable(f"it has no {what}")
        return found[1]

    def _unusable(self, why: str) -> CredentialsError:
        return CredentialsError(f"credentials: {str(self._path)!r} is no credentials file of a NATS user: {why}")
