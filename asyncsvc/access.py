"""Callers: who makes a request, what the caller may do, and whose things the caller sees.

Owns the scopes, the clients of the settings and their tokens. Every route, WebSocket operation
and batch asks a `Caller`, so that all ways in have the same rules. Promises that a token is held
and compared only as its SHA-256 hash. Never knows HTTP.
"""

import hashlib
import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from asyncsvc.config.settings import Client, Settings, tokens
from asyncsvc.errors import Forbidden, SettingsError

log = logging.getLogger(__name__)


class Permission(StrEnum):
    """What a route or an operation needs of its caller: a scope of the client."""

    OPEN = "open"
    """Nothing, not even a token: it tells nothing of any task."""
    READ = "read"
    SUBMIT = "submit"
    """To make tasks, and to steer and delete one's own."""
    ADMIN = "admin"
    """To see and steer everybody's, and the service itself."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request. `owner` is the owner of what the caller submits; None: it has none."""

    owner: str | None
    scopes: frozenset[Permission]

    @property
    def only(self) -> str | None:
        """The owner whose things alone the caller sees; None for an administrator, who sees all."""
        return None if Permission.ADMIN in self.scopes else self.owner or ""

    def sees(self, owner: str | None) -> bool:
        """Whether the caller may see and steer what that owner has submitted."""
        return Permission.ADMIN in self.scopes or (owner is not None and owner == self.owner)

    def require(self, scope: Permission) -> None:
        """Raises Forbidden where the caller has not the scope."""
        if scope is not Permission.OPEN and scope not in self.scopes:
            raise Forbidden(
                "forbidden_scope",
                f"this token has not the scope {scope.value}, which this needs",
            )


TOKEN = "token:"
"""Before the hash in the name of an administrator; no client's name has a colon."""
ALL = frozenset({Permission.READ, Permission.SUBMIT, Permission.ADMIN})
SERVICE = Caller(None, ALL)
"""The service itself, such as the runner of batches."""

UNKNOWN = Caller(None, frozenset())
"""A reader of an open path, without a token."""


def anybody(name: str | None) -> Caller:
    """The caller where no tokens are in use: may do all, under the owner's name that it gives."""
    return Caller(name or None, ALL)


def administrator(token: str) -> Caller:
    """The caller with a token of `server.auth_tokens_env`: its owner is a part of the hash."""
    return Caller(f"{TOKEN}{digest(token).hex()[:12]}", ALL)


def digest(token: str) -> bytes:
    """The SHA-256 hash of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Clients:
    """The callers that have tokens: those of `server.auth_tokens_env` and of `[clients.*]`.

    Raises SettingsError where two callers have the same token.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._administrators = tokens(settings, environ)
        self.adopt(settings, self.plan(settings))

    def adopt(self, settings: Settings, callers: list[tuple[bytes, Caller]]) -> None:
        """Take the callers of `plan` from now on."""
        self._callers = callers
        self.in_use = bool(callers or settings.clients)
        """Whether a token is asked for: a client whose token is not set asks for one, too."""

    def plan(self, settings: Settings) -> list[tuple[bytes, Caller]]:
        """The hash of the token of each caller under those settings. Raises SettingsError."""
        known = [(digest(token), administrator(token)) for token in self._administrators]
        for name, client in settings.clients.items():
            found = self._digest(name, client)
            if found is None:
                continue
            if any(found == held for held, _ in known):
                raise SettingsError(
                    [f"clients.{name}: its token is another's already; give each its own"]
                )
            scopes = ALL if "admin" in client.scopes else map(Permission, client.scopes)
            known.append((found, Caller(name, frozenset(scopes))))
        return known

    def caller(self, token: str) -> Caller | None:
        """The caller that has the token; None: no caller has. All are compared, so that the time
        says nothing about which hash was close."""
        given, found = digest(token), None
        for held, caller in self._callers:
            if hmac.compare_digest(given, held):
                found = caller
        return found

    def of(self, owner: str | None) -> Caller:
        """The caller with that owner, for work that goes on behind a request, such as a batch."""
        for _, caller in self._callers:
            if caller.owner == owner:
                return caller
        free = not self.in_use or owner is None or owner.startswith(TOKEN)
        return Caller(owner, ALL if free else frozenset({Permission.READ, Permission.SUBMIT}))

    def knows(self, caller: Caller) -> bool:
        """Whether the caller still has a token, and the same scopes; the service needs none."""
        return (
            not self.in_use or caller is SERVICE or any(caller == one for _, one in self._callers)
        )

    def _digest(self, name: str, client: Client) -> bytes | None:
        if client.token_sha256 is not None:
            return bytes.fromhex(client.token_sha256)
        token = self._environ.get(client.token_env or "", "").strip()
        if not token:
            log.warning("clients.%s cannot come in: %s is not set", name, client.token_env)
            return None
        return digest(token)
