"""One POST to an address that a client has named.

The connection goes to an address that the rules admitted for this very try (`net.pinned`). Promises
no redirect, a few KB read at most, one deadline over all of it, and an answer in words instead of
an exception. Never tries again, never decides what a status means.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from asyncsvc import __version__
from asyncsvc.net.egress import Egress, Refused, Target
from asyncsvc.net.pinned import Lookup, admitted, session

READ_BYTES = 4096
READ_S = 1.0
"""The status is all that counts; the body is read so that the receiver can end in peace."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status, or why there is none. `refused`: by our own rules."""

    status: int | None = None
    error: str | None = None
    retry_after: str | None = None
    refused: bool = False


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
            addresses = await admitted(egress, target, lookup)
            return await _send(target, addresses, body, headers, limit)
    except Refused as error:
        return Answer(error=f"refused: {error}", refused=True)
    except TimeoutError:
        return Answer(error=f"no answer within {timeout_s:g} s")
    except socket.gaierror as error:
        return Answer(error=f"its name cannot be resolved: {error.strerror or error}")
    except (aiohttp.ClientError, OSError, UnicodeError, ValueError) as error:
        return Answer(error=f"no answer: {error or type(error).__name__}"[:500])


async def _send(
    target: Target,
    addresses: list[str],
    body: bytes,
    headers: Mapping[str, str],
    limit: asyncio.Timeout,
) -> Answer:
    async with (
        session(addresses) as client,
        client.post(
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
