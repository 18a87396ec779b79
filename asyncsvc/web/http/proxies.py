"""Reverse proxies that are trusted: whom they forward for, and whether that client used TLS.

`X-Forwarded-For` and `X-Forwarded-Proto` count only on connections from the networks of
`server.trusted_proxies`; anybody else could write what it likes into them. What cannot be read in
them is left out and fails no request.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

SCHEMES = {"http": {"http": "http", "https": "https"}, "websocket": {"http": "ws", "https": "wss"}}
"""The scheme of a scope, by its type and by what the proxy names."""


class TrustedProxies:
    """The networks of the proxies; raises ValueError for a text that is no network."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(each) for each in networks]
        self._trusts = lru_cache(1024)(self._is_within)

    def _is_within(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)

    def client(self, peer: str, forwarded: Iterable[str]) -> str:
        """Return the right-most address that is no trusted proxy's, from the peer on.

        `forwarded` are the lines of X-Forwarded-For, in order.
        """
        client = peer
        for text in reversed(",".join(forwarded).split(",")):
            if not self._trusts(client):
                break
            found = _address(text)
            if found is None:
                break
            client = str(found)
        return client

    def behind(self, app: ASGIApp) -> ASGIApp:
        """The application with `client` and `scheme` of its scopes as the proxies forward them."""
        if not self._networks:
            return app

        async def forwarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] in SCHEMES and scope.get("client"):
                self._adopt(scope)
            await app(scope, receive, send)

        return forwarded

    def _adopt(self, scope: Scope) -> None:
        peer, port = scope["client"]
        if not self._trusts(peer):
            return
        found: dict[bytes, list[str]] = {b"x-forwarded-for": [], b"x-forwarded-proto": []}
        for name, value in scope["headers"]:
            if name in found:
                found[name].append(value.decode("latin-1"))
        client = self.client(peer, found[b"x-forwarded-for"])
        scope["client"] = (client, port if client == peer else 0)
        named = ",".join(found[b"x-forwarded-proto"]).rpartition(",")[2].strip().lower()
        scope["scheme"] = SCHEMES[scope["type"]].get(named, scope["scheme"])


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address of an entry, which may stand in brackets and have a port; None: there is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
