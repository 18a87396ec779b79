"""Authentication of HTTP requests and WebSockets: host, origin, token, and wrong tokens.

Both protocols have the same checks; tokens are compared in constant time and never taken from a
URL. An address with too many wrong tokens within a minute is answered 429 before its token is
compared, so that a guess cannot be confirmed. Addresses that share a proxy share this limit;
requests without any token do not count.
"""

import asyncio
import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from asyncsvc.config.settings import Server, is_loopback
from asyncsvc.errors import Forbidden, Overloaded, RequestError, TooManyAttempts, Unauthorized
from asyncsvc.web.http.errors import response

WINDOW_S = 60.0
ADDRESSES_MOST = 4096
"""Addresses that are remembered; beyond, the one that has tried least lately is forgotten."""


class Attempts:
    """`check` before a token is looked at, `failed` after a wrong one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failed)

    def check(self, address: str) -> None:
        """Raises TooManyAttempts."""
        if not self._failed:
            return
        times = self._failed.get(origin(address))
        if times is None or len(times) < self._most:
            return
        left = times[0] + WINDOW_S - asyncio.get_running_loop().time()
        if left > 0:
            raise TooManyAttempts(
                f"{self._most} wrong tokens came from this address within a minute",
                retry_after=left,
            )

    def failed(self, address: str) -> None:
        """One more wrong token."""
        key = origin(address)
        times = self._failed.setdefault(key, deque(maxlen=self._most))
        times.append(asyncio.get_running_loop().time())
        self._failed.move_to_end(key)
        if len(self._failed) > ADDRESSES_MOST:
            self._failed.popitem(last=False)


def origin(address: str) -> str:
    """The address or network that wrong tokens count for: in IPv6 a customer has at least a /64."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if not isinstance(known, IPv6Address):
        return address
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(IPv6Address(int(known) >> 64 << 64))


OPEN_PATHS = frozenset({"/", "/health", "/livez", "/readyz", "/openapi.json", "/docs"})
"""What a supervisor or a browser may read without a token: it tells nothing of any task."""
READS = frozenset({"GET", "HEAD", "OPTIONS"})
SUBPROTOCOL = "asyncsvc"
BEARER_PROTOCOL = "bearer."
MAX_OWNER = 200
CROWDED = "crowded"
"""In the scope's state of a connection that is one too many."""
LOOKED_AT = frozenset({b"host", b"origin", b"authorization", b"x-user", b"sec-websocket-protocol"})


class Authenticator:
    """The checks of a request by the settings of the server and its bearer tokens: `behind` puts an
    ASGI application behind them. `hosts` None: any Host header, as other machines may call."""

    def __init__(self, server: Server, tokens: Sequence[str]) -> None:
        self._tokens = [_digest(token) for token in tokens]
        self._origins = frozenset(one.rstrip("/").lower() for one in server.allowed_origins)
        named = {urlsplit(one).hostname or "" for one in self._origins} | {server.host.lower()}
        self.hosts = frozenset(named) if is_loopback(server.host) else None
        self._most = server.max_connections
        self._attempts = Attempts(server.wrong_tokens)

    def behind(self, app: ASGIApp) -> ASGIApp:
        """The application behind these checks; `scope["owner"]` is the owner of its tasks."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] in ("http", "websocket"):
                try:
                    scope["owner"] = self._owner_of(scope)
                except RequestError as error:
                    await _refuse(scope, receive, send, error)
                    return
            await app(scope, receive, send)

        return guarded

    def _owner_of(self, scope: Mapping[str, Any]) -> str | None:
        """The owner of the request's tasks. Raises RequestError for a request that is refused."""
        socket = scope["type"] == "websocket"
        is_open = not socket and scope["path"] in OPEN_PATHS
        if CROWDED in scope["state"] and not is_open:
            raise Overloaded(f"{self._most} connections are open already", retry_after=5)
        headers = _named(scope)
        host = headers.get(b"host", "")
        if self.hosts is not None and not _is_ours(host, self.hosts):
            # A page of another site that points its own name at us must not reach us.
            raise Forbidden("forbidden_host", "the Host header names another server")
        reads = not socket and scope["method"] in READS
        if not reads:
            secure = scope.get("scheme") in ("https", "wss")
            self._check_origin(headers.get(b"origin"), host.lower(), secure)
        if not self._tokens:
            return headers.get(b"x-user", "")[:MAX_OWNER] or None
        if is_open and reads:
            return None
        token = _bearer(headers, socket)
        if token is None:
            raise Unauthorized("a bearer token is required")
        address = (scope.get("client") or ("",))[0]
        self._attempts.check(address)
        given = _digest(token)
        # All are compared, so that the time says nothing about which one was close.
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        if not any(matches):
            self._attempts.failed(address)
            raise Unauthorized("the bearer token is not valid")
        return f"token:{given.hex()[:12]}"

    def _check_origin(self, origin: str | None, host: str, secure: bool) -> None:
        if origin is None:
            return  # not a browser, or one of its own pages
        # Without TLS of our own there may be a proxy that has it.
        own = {f"https://{host}"} if secure else {f"http://{host}", f"https://{host}"}
        if origin.lower() not in self._origins | own:
            raise Forbidden("forbidden_origin", "this origin is not allowed; see allowed_origins")


async def _refuse(scope: Scope, receive: Receive, send: Send, error: RequestError) -> None:
    if scope["type"] == "http":
        answer = response(error)
        if error.status == 401:
            answer.headers["WWW-Authenticate"] = "Bearer"
        elif error.status == 503:
            answer.headers["Connection"] = "close"  # a new one may find a place
        await answer(scope, receive, send)
        return
    # Refused before the handshake, a browser would only learn that "it failed".
    socket = WebSocket(scope, receive, send)
    await socket.accept(subprotocol=subprotocol(scope))
    await socket.close(1013 if error.status == 503 else 1008, error.code)


def subprotocol(scope: Scope) -> str | None:
    """The subprotocol to agree on: ours, if the client offers it."""
    return SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", []) else None


def _named(scope: Mapping[str, Any]) -> dict[bytes, str]:
    """The headers that the rules look at; of one that is sent twice, the first counts."""
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in LOOKED_AT and name not in found:
            found[name] = value.decode("latin-1")
    return found


@lru_cache(maxsize=256)
def _is_ours(host: str, hosts: frozenset[str]) -> bool:
    """Whether a Host header names this service."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:  # such as half an IPv6 address
        return False
    return name in hosts or is_loopback(name)


def _bearer(headers: dict[bytes, str], socket: bool) -> str | None:
    kind, _, token = headers.get(b"authorization", "").partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    offered = headers.get(b"sec-websocket-protocol", "") if socket else ""
    for protocol in offered.split(","):
        if protocol.strip().startswith(BEARER_PROTOCOL):
            return protocol.strip().removeprefix(BEARER_PROTOCOL)
    return None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
