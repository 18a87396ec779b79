"""One HTTP exchange over ASGI: body, answer, pauses that end with the connection, TCP reset.

A client that leaves is noticed at the next pause or write, at once, and raised as ClientGone.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MOST_BODY_BYTES = 32 * 1024 * 1024
JSON_TYPE = (b"content-type", b"application/json")


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


class BodyTooLarge(Exception):
    """The request body is above 32 MiB."""


class Exchange:
    """One request and its answer; ``arrived`` is loop time and ``arrived_at`` wall time."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.stamp()
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self._headers: Headers = scope["headers"]
        self.status: int | None = None
        # Called before the last byte of an answer leaves, so that a client that reads it finds
        # the place already free.
        self.before_end: Callable[[], None] = lambda: None
        self._receive = receive
        self._send = send
        self._transport: asyncio.Transport | None = scope.get("state", {}).get("transport")
        self._gone = False
        self._ended = False
        self._watcher: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def stamp(self) -> None:
        """Take this moment for that of the arrival."""
        self.arrived, self.arrived_at = self.now(), time.time()

    def header(self, name: bytes) -> str | None:
        for key, value in self._headers:
            if key == name:
                return str(value, "latin-1")
        return None

    @property
    def gone(self) -> bool:
        if not self._gone and self._transport is not None and not self._ended:
            self._gone = self._transport.is_closing()
        return self._gone

    async def read_body(self) -> bytes:
        """Return the whole request body; raises ClientGone or BodyTooLarge."""
        pieces: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone = True
                raise ClientGone
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > MOST_BODY_BYTES:
                raise BodyTooLarge
            more = message.get("more_body", False)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def start(self, status: int, headers: Headers) -> None:
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes) -> None:
        """Send part of the body; raises ClientGone where the client has gone."""
        if self.gone:
            raise ClientGone
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        """Send the last part of the body; the call gives its place back before."""
        if self.gone:
            raise ClientGone
        self.before_end()
        self._ended = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def reply(self, status: int, body: bytes, headers: Headers) -> None:
        """A whole answer of known length."""
        if self.gone:
            raise ClientGone
        length = (b"content-length", b"%d" % len(body))
        await self.start(status, [*headers, length])
        await self.end(body)

    async def reply_json(
        self, status: int, payload: object, headers: Headers | None = None
    ) -> None:
        await self.reply(status, orjson.dumps(payload), [JSON_TYPE, *(headers or [])])

    async def pause_until(self, due: float) -> None:
        """Wait for a moment of loop time; raises ClientGone as soon as the client leaves."""
        await self.pause(due - self.now())

    async def pause(self, seconds: float) -> None:
        """Wait; raises ClientGone as soon as the client leaves. Nothing to wait for: no delay."""
        if self.gone:
            raise ClientGone
        if seconds <= 0:
            return
        waiter = self._wait()
        timer = self._loop.call_later(seconds, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
        if self.gone:
            raise ClientGone

    async def hang(self) -> None:
        """Wait until the client leaves, then raise ClientGone."""
        while not self.gone:
            await self._wait()
        raise ClientGone

    async def yield_to_loop(self) -> None:
        """Let the loop turn once, so that a leaving client is seen in a stream without pauses."""
        await asyncio.sleep(0)
        if self.gone:
            raise ClientGone

    async def abort(self) -> None:
        """Close the connection with a TCP reset: nothing more is sent, no terminating chunk.

        Raises RuntimeError where the server does not hand its transport over (see serving.py).
        """
        if self._transport is None:
            raise RuntimeError("an abrupt close needs the server of asyncsvc.simulator.running()")
        self.before_end()
        if not self._transport.is_closing():
            _linger_zero(self._transport)
            self._transport.abort()
        self._ended = True
        await self.settle()

    async def settle(self) -> None:
        """Wait until the server, too, knows that the connection is closed: it takes an answer
        that is missing before then for a mistake of ours and says so in the log."""
        await (self._watcher or self._watch())

    def close(self) -> None:
        """Stop watching the connection; for the end of the call."""
        if self._watcher is not None:
            self._watcher.cancel()

    def _wait(self) -> "asyncio.Future[None]":
        if self._watcher is None:
            self._watcher = self._loop.create_task(self._watch())
        self._waiter = self._loop.create_future()
        return self._waiter

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = not self._ended
        if self._waiter is not None:
            _wake(self._waiter)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


def _linger_zero(transport: asyncio.Transport) -> None:
    """Make the coming close a reset. Set through a duplicate: the loop's own socket object may be
    a stand-in that refuses options, while the option belongs to the connection itself."""
    with socket.socket(fileno=socket.dup(transport.get_extra_info("socket").fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
