"""Connections that go to addresses which the rules of `egress` admitted, and to no other.

Owns the lookup of names for URLs that came from outside, and aiohttp sessions that are bound to the
addresses found. Promises that a name is looked up once for a request and that what was checked is
what is connected, whatever the name means a moment later; no proxy, no cookie, no connection that
is used twice. Never follows a redirect by itself: each is another URL to be checked.

It uses aiohttp as it is: httpx has no place for a resolver or for the making of sockets.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from asyncsvc.net.bounded_reads import bounded_socket
from asyncsvc.net.egress import Egress, Target
from asyncsvc.net.response_heads import BoundedResponse

RESOLVING = 4
"""Threads for looking up names: a name server that does not answer holds up only their owner."""

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host."""


class Resolver:
    """Names looked up by the system, in threads of its own. `close` it at the end."""

    def __init__(self, name: str) -> None:
        self._threads = ThreadPoolExecutor(RESOLVING, name)

    async def __call__(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, _addresses, host, port
        )
        return list(dict.fromkeys(found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class PinnedAddresses(AbstractResolver):
    """Knows the admitted addresses and nothing else."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    def socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """The last look, at what is about to be connected."""
        address = info[4]
        if ip_address(address[0]) not in map(ip_address, self._addresses):
            raise OSError(f"{address[0]} is not an address that was admitted")
        return bounded_socket(info)

    async def close(self) -> None:
        """There is nothing to close."""


async def admitted(egress: Egress, target: Target, lookup: Lookup) -> list[str]:
    """The addresses of a target that may be connected. Raises Refused or socket.gaierror."""
    if target.literal is not None:
        return [str(target.literal)]
    return egress.admitted(target, await lookup(target.host, target.port))


def session(addresses: list[str]) -> aiohttp.ClientSession:
    """A session for one request, whatever its host, to these addresses. It decompresses nothing
    and has no time limit: both belong to its caller."""
    pinned = PinnedAddresses(addresses)
    connector = aiohttp.TCPConnector(
        resolver=pinned, socket_factory=pinned.socket, use_dns_cache=False, force_close=True
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        response_class=BoundedResponse,
        trust_env=False,
        skip_auto_headers=("Accept-Encoding",),
    )
