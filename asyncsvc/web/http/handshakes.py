"""TLS handshakes of the HTTP server: a bounded number at once, each in bounded time.

A connection comes to the HTTP server, and into its count of connections, when its handshake is
done. The certificate can be renewed while connections are open: they keep theirs, new ones get the
new one.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger(__name__)

PAUSE_S = 0.1
"""After a connection that the system could not give us, such as for lack of descriptors."""


class Handshakes:
    """Accepts TLS connections of a listening socket and gives each to a protocol of its own.

    `most` handshakes are under way at once: beyond them a connection is closed at once. Each may
    take `patience_s`.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_context: Callable[[], ssl.SSLContext],
        most: int,
        patience_s: float,
    ) -> None:
        self._listener = listener
        self._make_context = make_context
        self._context = make_context()
        self._most = most
        self._patience_s = patience_s
        self._open: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def renew(self) -> None:
        """Read the certificate again. Raises SettingsError; then the old one stays."""
        self._context = self._make_context()

    def begin(self, protocol: Callable[[], asyncio.Protocol], backlog: int) -> None:
        """Accept connections from now on."""
        self._listener.listen(backlog)
        self._accepting = asyncio.create_task(self._accept(protocol), name="TLS connections")

    async def close(self) -> None:
        """Accept nothing more, and end the handshakes that are under way."""
        tasks = [*self._open, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("a connection cannot be accepted: %s", error)
                await asyncio.sleep(PAUSE_S)
                continue
            if len(self._open) >= self._most:
                connection.close()
                await asyncio.sleep(0)
                continue
            task = asyncio.create_task(self._greet(connection, protocol), name="TLS handshake")
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _greet(
        self, connection: socket.socket, protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        """A handshake; one that fails is the client's affair, and closes the connection."""
        with suppress(OSError, asyncio.TimeoutError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._patience_s,
            )
