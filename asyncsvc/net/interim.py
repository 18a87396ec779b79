"""Interim answers (1xx) before an HTTP response, bounded.

Owns the response class of all our aiohttp sessions. Promises that a server which sends more than
`INTERIM_MOST` interim answers costs its connection: aiohttp by itself reads them for as long as
they come, without a turn for anything else. Never looks into the response.
"""

from typing import Any

from aiohttp import ClientPayloadError, ClientResponse
from aiohttp.connector import Connection

INTERIM_MOST = 256
"""More than the longest wait for a response has at one a second (102 Processing)."""


class BoundedResponse(ClientResponse):
    """A response that raises ClientPayloadError where too many interim answers come before it."""

    async def start(self, connection: Connection) -> ClientResponse:
        protocol = connection.protocol
        assert protocol is not None  # the connection has just been made
        read, count = protocol.read, 0

        async def bounded() -> Any:
            nonlocal count
            message = await read()
            count += 100 <= message[0].code <= 199
            if count > INTERIM_MOST:
                raise ClientPayloadError(
                    f"more than {INTERIM_MOST} interim answers came before the response"
                )
            return message

        protocol.read = bounded  # type: ignore[method-assign]
        try:
            return await super().start(connection)
        finally:
            protocol.read = read  # type: ignore[method-assign]
