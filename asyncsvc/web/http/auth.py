"""Authentication of HTTP requests and WebSockets: host, origin, token, and wrong tokens.

Both protocols have the same checks; a token is never taken from a URL. What the caller may then do
is decided by `access`. Wrong tokens are limited by address and in all: beyond the limit a wrong
one is answered 429, while a right one comes in from the same address, as people share addresses.
Requests without any token do not count.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Container, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from asyncsvc.access import UNKNOWN, Caller, Clients, anybody
from asyncsvc.config.settings import Server, is_loopback
from asyncsvc.errors import Forbidden, Overloaded, RequestError, TooManyAttempts, Unauthorized
from asyncsvc.web.http.errors import response

WINDOW_S = 60.0
ADDRESSES_MOST = 4096
"""Addresses that are remembered; beyond, the one that has tried least lately is forgotten."""
ALL_ADDRESSES = 50
"""How many times the limit of one address all of them have together."""


class Attempts:
    """Wrong tokens within a minute, `most` from one address and `in_all` from all."""

    def __init__(self, most: int, in_all: int | None = None) -> None:
        self._most = most
        self._all: deque[float] = deque(maxlen=in_all or most * ALL_ADDRESSES)
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failed)

    def failed(self, address: str) -> None:
        """One more wrong token. Raises TooManyAttempts where it is one too many."""
        now, key = asyncio.get_running_loop().time(), origin(address)
        times = self._failed.setdefault(key, deque(maxlen=self._most))
        self._failed.move_to_end(key)
        if len(self._failed) > ADDRESSES_MOST:
            self._failed.popitem(last=False)
        from_here, from_all = _left(times, now), _left(self._all, now)
        if (left := max(from_here, from_all)) > 0:
            where = f"{self._most} wrong tokens came from this address"
            where = where if from_here else "too many wrong tokens came"
            raise TooManyAttempts(f"{where} within a minute", retry_after=left)
        times.append(now)
        self._all.append(now)


def _left(times: "deque[float]", now: float) -> float:
    """Seconds until one more may be added to a full window; 0: at once."""
    return max(times[0] + WINDOW_S - now, 0.0) if len(times) == times.maxlen else 0.0


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


READS = frozenset({"GET", "HEAD", "OPTIONS"})
SUBPROTOCOL = "asyncsvc"
BEARER_PROTOCOL = "bearer."
MAX_OWNER = 200
CROWDED = "crowded"
"""In the scope's state of a connection that is one too many."""
LOOKED_AT = frozenset({b"host", b"origin", b"authorization", b"x-user", b"sec-websocket-protocol"})


class Authenticator:
    """The checks of a request by the settings of the server and the clients' tokens: `behind` puts
    an ASGI application behind them. `hosts` None: any Host header, as other machines may call.

    `open_paths` may be read without a token.
    """

    def __init__(self, server: Server, clients: Clients, open_paths: Container[str] = ()) -> None:
        self._clients = clients
        self._open_paths = open_paths
        self._origins = frozenset(one.rstrip("/").lower() for one in server.allowed_origins)
        named = {urlsplit(one).hostname or "" for one in self._origins} | {server.host.lower()}
        self.hosts = frozenset(named) if is_loopback(server.host) else None
        self._most = server.max_connections
        self._under_way = 0
        """Requests, also of clients that have left."""
        self._attempts = Attempts(server.wrong_tokens)

    def behind(self, app: ASGIApp) -> ASGIApp:
        """The application behind these checks; `scope["caller"]` is the caller."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] not in ("http", "websocket"):
                await app(scope, receive, send)
                return
            try:
                scope["caller"] = self._caller(scope)
            except RequestError as error:
                await _refuse(scope, receive, send, error)
                return
            self._under_way += 1
            try:
                await app(scope, receive, send)
            finally:
                self._under_way -= 1

        return guarded

    def _caller(self, scope: Mapping[str, Any]) -> Caller:
        """Who makes the request. Raises RequestError for a request that is refused."""
        socket = scope["type"] == "websocket"
        is_open = not socket and scope["path"] in self._open_paths
        if CROWDED in scope["state"] and not is_open:
            raise Overloaded(f"{self._most} connections are open already", retry_after=5)
        if self._under_way >= self._most and not is_open:
            # Connections bound them as long as their clients wait for the answers.
            raise Overloaded(f"{self._most} requests are under way already", retry_after=5)
        headers = _named(scope)
        host = headers.get(b"host", "")
        if self.hosts is not None and not _is_ours(host, self.hosts):
            # A page of another site that points its own name at us must not reach us.
            raise Forbidden("forbidden_host", "the Host header names another server")
        reads = not socket and scope["method"] in READS
        if not reads:
            secure = scope.get("scheme") in ("https", "wss")
            self._check_origin(headers.get(b"origin"), host.lower(), secure)
        if not self._clients.in_use:
            return anybody(headers.get(b"x-user", "")[:MAX_OWNER])
        if is_open and reads:
            return UNKNOWN
        token = _bearer(headers, socket)
        if token is None:
            raise Unauthorized("a bearer token is required")
        caller = self._clients.caller(token)
        if caller is None:
            self._attempts.failed((scope.get("client") or ("",))[0])
            raise Unauthorized("the bearer token is not valid")
        return caller

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
