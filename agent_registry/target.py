"""Which registry a command is meant for, and how its NATS is reached."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from agent_registry import context as contexts
from agent_registry.context import Context
from agent_registry.failure import CommandError, Exit
from agents_sdk.protocol.errors import InvalidRequestError
from agents_sdk.servers import DEFAULT_URL, server_urls, without_password

if TYPE_CHECKING:
    import ssl

    from agents_sdk.dial import Address

SCHEMES = ("nats", "tls", "ws", "wss")
"""What a URL of NATS begins with."""


@dataclass(frozen=True)
class Target:
    """One registry, as the options name it.

    Attributes:
        url: URL of NATS, without user and password; several are separated by commas.
        prefix: First token of the registry's subjects.
        context: What the `nats` CLI context adds; empty when there is none.
        creds: Credentials file; the context's unless `--creds` names one.
        url_from: What says the URL: an option or a variable; empty when nothing does and it is the default.
        role: What stands before `context` and `creds` in the names of the options; `system-` for a login beside the
            registry's own.
    """

    url: str
    prefix: str
    context: Context
    creds: str
    url_from: str
    role: str = ""

    @classmethod
    def resolve(cls, nats: str | None, context: str | None, creds: Path | None, prefix: str, role: str = "") -> Target:
        """Read the options together: `--nats` over `--context`, that over `NATS_URL`, that over `NATS_CONTEXT`.

        The context that `nats context select` chose holds when none of these says anything, and for the registry's own
        login alone: nobody else is to be told its password.

        Raises:
            CommandError: If the context cannot be used, a file it names is not there, or the URL is not one of NATS.
        """
        option, variable = f"--{role}context", os.environ.get("NATS_URL")
        name, named_by = (context, option) if context or role else _by_environment(alone=not (nats or variable))
        found = contexts.load(name, named_by) if name else Context(name="")
        said = {"--nats": nats, option: found.url if context else "", "NATS_URL": variable, named_by: found.url}
        url_from, url = next(((each, url) for each, url in said.items() if url), ("", DEFAULT_URL))
        target = cls(_checked(url, url_from), prefix, found, str(creds) if creds else found.creds, url_from, role)
        target._check_files(f"--{role}creds" if creds else f"{named_by}: creds")
        return target

    @property
    def login_options(self) -> str:
        """The options that say who logs in."""
        return f"--{self.role}creds or --{self.role}context"

    @property
    def shown(self) -> str:
        """The URL for people: never with a password in it."""
        return ",".join(without_password(url) for url in self.url.split(","))

    def address(self, name: str, timeout: float) -> Address:
        """Return where to connect, and as whom.

        Args:
            name: What the connection is called.
            timeout: Seconds to wait for each server.

        Raises:
            CommandError: If a certificate of the context cannot be used.
        """
        from agents_sdk.dial import DEFAULT_INBOX_PREFIX, Address

        found = self.context
        return Address(
            server_urls(self.url),
            name,
            credentials=Path(self.creds) if self.creds else None,
            inbox_prefix=found.inbox_prefix or DEFAULT_INBOX_PREFIX,
            timeout=timeout,
            user=found.user or None,
            password=found.password or None,
            token=found.token or None,
            nkey=Path(found.nkey) if found.nkey else None,
            tls=self._tls(),
            tls_first=found.tls_first,
        )

    def options(self) -> dict[str, Any]:
        """Return what `nats.connect` needs to know beside the URL."""
        found = self.context
        given = {
            "user": found.user,
            "password": found.password,
            "token": found.token,
            "user_credentials": self.creds,
            "nkeys_seed": found.nkey,
            "inbox_prefix": found.inbox_prefix.encode(),
            "tls": self._tls(),
            "tls_handshake_first": found.tls_first,
        }
        return {name: value for name, value in given.items() if value}

    def url_with_login(self) -> str:
        """Return the URL with the context's user and password, or token, in it.

        A replica takes a URL and a credentials file and nothing else.

        Raises:
            CommandError: If the context logs in by a key or a certificate, which a URL cannot carry.
        """
        found = self.context
        if found.nkey or found.cert or found.ca or found.inbox_prefix or found.tls_first:
            raise CommandError(
                f"context {found.name!r} has an nkey, a certificate, an inbox prefix or tls_first; "
                "serve takes creds, user and password, or a token",
                code=Exit.USAGE,
            )
        if any(quote(word, safe="") != word for word in (found.token, found.user, found.password)):
            # nats-py does not undo percent-encoding, so such a word cannot be put into a URL at all.
            raise CommandError(
                f"user, password or token of context {found.name!r} has characters that a URL cannot carry",
                "use a credentials file: --creds",
                Exit.USAGE,
            )
        login = found.token or (f"{found.user}:{found.password}" if found.password else found.user)
        if not login:
            return self.url
        return ",".join(_with_login(url, login) for url in self.url.split(","))

    def _check_files(self, creds_from: str) -> None:
        named = (
            (creds_from, self.creds),
            ("nkey", self.context.nkey),
            ("cert", self.context.cert),
            ("key", self.context.key),
            ("ca", self.context.ca),
        )
        for option, path in named:
            if path and not Path(path).is_file():
                raise CommandError(f"{option}: no such file: {path}", code=Exit.USAGE)

    def _tls(self) -> ssl.SSLContext | None:
        found = self.context
        if not (found.ca or found.cert):
            return None
        import ssl

        try:
            tls = ssl.create_default_context(cafile=found.ca or None)
            if found.cert:
                tls.load_cert_chain(found.cert, found.key or None)
        except OSError as error:
            files = ", ".join(path for path in (found.ca, found.cert, found.key) if path)
            raise CommandError(
                f"the certificates of context {found.name!r} cannot be used ({files}): {error}",
                code=Exit.USAGE,
            ) from error
        return tls


def _by_environment(*, alone: bool) -> tuple[str, str]:
    """Return the context that `NATS_CONTEXT` names, or that is selected, and what says so.

    Args:
        alone: Whether nothing else says where NATS is, so that the selected one counts.
    """
    if name := os.environ.get(contexts.VARIABLE):
        return name, contexts.VARIABLE
    return (contexts.selected(), contexts.SELECTED) if alone else ("", "")


def serve_command(where: str, prefix: str) -> str:
    """Return the command that starts a registry.

    Args:
        where: URL of NATS, without a password.
        prefix: First token of the registry's subjects.
    """
    from agents_sdk.protocol.subjects import DEFAULT_PREFIX

    beside = "" if prefix == DEFAULT_PREFIX else f" --prefix {prefix}"
    return f"agent-registry serve --nats {where}{beside}"


def _checked(url: str, url_from: str) -> str:
    """Return the URLs as they will be used.

    Raises:
        CommandError: If there is none, or one is not of NATS.
    """
    for each in url.split(","):
        scheme, separator, _ = each.strip().partition("://")
        if separator and scheme not in SCHEMES:  # else nats-py would look for a host of that name
            known = ", ".join(f"{name}://" for name in SCHEMES)
            raise CommandError(f"{url_from}: NATS is not reached by {scheme}://; known are {known}", code=Exit.USAGE)
    try:
        return ",".join(server_urls(url))
    except InvalidRequestError as error:
        raise CommandError(f"{url_from}: {error.message.removeprefix('nats: ')}", code=Exit.USAGE) from error


def _with_login(url: str, login: str) -> str:
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    return url if "@" in parts.netloc else urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))
