"""One POST to an address that a client has named.

Owns the connection: it goes to an address that the rules admitted for this very try, and to no
other, whatever the name means a moment later. Promises no redirect, no proxy, no cookie, a few
KB read at most, one deadline over all of it, and an answer in words instead of an exception.
Never tries again, never decides what a status means.

It uses aiohttp as it is: httpx has no place for a resolver or for the making of sockets.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from asyncsvc import __version__
from asyncsvc.net.egress import Egress, Refused, Target

READ_BYTES = 4096
READ_S = 1.0
"""The status is all that counts; the body is read so that the receiver can end in peace."""
RESOLVING = 4
"""Threads for looking up names: a name server that does not answer holds up only ourselves."""

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status, or why there is none. `refused`: by our own rules."""

    status: int | None = None
    error: str | None = None
    retry_after: str | None = None
    refused: bool = False


class Resolver:
    """Names looked up by the system, in threads of our own. `close` it at the end."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVING, "webhook-names")

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


class _Pinned(AbstractResolver):
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
        family, kind, protocol, _, address = info
        if ip_address(address[0]) not in map(ip_address, self._addresses):
            raise OSError(f"{address[0]} is not an address that was admitted")
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """There is nothing to close."""


async def post(
    egress: Egress,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout_s: float,
    lookup: Lookup,
) -> Answer:
    """Send it once."""
    try:
        async with asyncio.timeout(timeout_s) as limit:
            target = egress.target(url)
            addresses = await _admitted(egress, target, lookup)
            return await _send(target, addresses, body, headers, limit)
    except Refused as error:
        return Answer(error=f"refused: {error}", refused=True)
    except TimeoutError:
        return Answer(error=f"no answer within {timeout_s:g} s")
    except socket.gaierror as error:
        return Answer(error=f"its name cannot be resolved: {error.strerror or error}")
    except (aiohttp.ClientError, OSError, UnicodeError, ValueError) as error:
        return Answer(error=f"no answer: {error or type(error).__name__}"[:500])


async def _admitted(egress: Egress, target: Target, lookup: Lookup) -> list[str]:
    if target.literal is not None:
        return [str(target.literal)]
    return egress.admitted(target, await lookup(target.host, target.port))


async def _send(
    target: Target,
    addresses: list[str],
    body: bytes,
    headers: Mapping[str, str],
    limit: asyncio.Timeout,
) -> Answer:
    pinned = _Pinned(addresses)
    connector = aiohttp.TCPConnector(
        resolver=pinned, socket_factory=pinned.socket, use_dns_cache=False, force_close=True
    )
    async with (
        aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept-Encoding",),
        ) as session,
        session.post(
            target.url,
            data=body,
            headers={
                "Content-Type": "application/json",
                "User-Agent": f"asyncsvc/{__version__}",
                **headers,
            },
            allow_redirects=False,
        ) as response,
    ):
        answer = Answer(response.status, retry_after=response.headers.get("Retry-After"))
        limit.reschedule(None)  # it has answered; how slowly its body comes matters no more
        await _read(response)
        return answer


async def _read(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(READ_S):
            await response.content.readexactly(READ_BYTES)
    except (TimeoutError, EOFError, aiohttp.ClientError, OSError):
        return
