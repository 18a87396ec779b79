"""Open WebSockets: sending with a bound on the wait, and closing with a reason.

Owns the set of open sockets, that of followers over plain HTTP, and the rule for slow readers.
Promises that one which does not
read is closed with 1013 after `STALL_S`, having held no more than the transport's buffer;
that it has lost nothing, as its cursor brings it back. Never looks into what is sent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from websockets.frames import Frame, Opcode

from asyncsvc.access import Caller

DONE, STOPPING, NOT_UTF8, REFUSED, TOO_BIG, TOO_SLOW = 1000, 1001, 1007, 1008, 1009, 1013
BAD_MESSAGES, NO_TASK = 4400, 4404
CLOSE_CODES = {
    DONE: "done: the task's last event was sent",
    STOPPING: "the service is stopping; come back with `after`",
    NOT_UTF8: "a message is no UTF-8",
    REFUSED: "no valid token, a scope that is missing, an origin that is not allowed, or too many "
    "pings; the reason names the code of the error",
    TOO_BIG: "a frame above 1 MiB, or more than 1024 fragments; submit large tasks over HTTP",
    TOO_SLOW: "the client did not read for five seconds, or too many connections are open; come "
    "back with `after`",
    BAD_MESSAGES: "the fifth bad message, or an `after` beyond the last event, also of a finished "
    "task; an `error` message comes first",
    NO_TASK: "no such task",
}
"""With which codes the service closes a WebSocket, and why."""
STALL_S = 5.0
"""How long one frame may find no room before the reader counts as too slow."""
REVOKED = "the token is no longer valid"
CLOSE_WITHIN_S = 30.0
"""How long a client has to take what is still sent to it when it is closed."""
CHECK_EVERY = 16
FLUSH_S = 2.0
"""How long a stop waits for the readers to have received everything."""
CaughtUp = Callable[[], Awaitable[None]]
"""Returns when a socket's client has been sent all that is committed."""
CLOSE, WRITE = "asyncsvc.close", "asyncsvc.write"
"""Extensions of our server, see server.py: close a socket even where its buffer is full; write a
whole frame at once where the buffer has room."""
SHARED_FRAMES, SHARED_BYTES = 256, 4096
"""How many frames are in memory for the other followers of a task, and up to which size."""


def _frame(text: str) -> bytes:
    """A text as a WebSocket frame of a server, which has no mask."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


class Closed(Exception):
    """The socket is closed; a sender may stop."""


class Socket:
    """One accepted WebSocket."""

    def __init__(
        self,
        socket: WebSocket,
        shared_frame: Callable[[str], bytes] = _frame,
        stall_s: float = STALL_S,
    ) -> None:
        self._socket = socket
        self._shared_frame = shared_frame
        self._stall_s = stall_s
        self._closed = False
        extensions = socket.scope.get("extensions") or {}
        self._close_now: Callable[[int, str], None] | None = extensions.get(CLOSE)
        self._write_now: Callable[[bytes], bool] = extensions.get(WRITE, _has_no_room)

    async def send(self, texts: Iterable[str]) -> None:
        """Send each text as a frame, in order. Raises Closed.

        While the buffer has room, a frame is written without a timer; a small one is serialised
        once for all the followers that get it.
        """
        rest = iter(texts)
        for text in rest:
            if self._closed:
                raise Closed
            make = self._shared_frame if len(text) <= SHARED_BYTES else _frame
            if not self._write_now(make(text)):
                await self._send_when_room(chain((text,), rest))

    async def _send_when_room(self, frames: Iterable[str]) -> None:
        """Send text frames in order, each as soon as the buffer has room. Raises Closed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._stall_s) as limit:
                for count, frame in enumerate(frames, 1):
                    if self._closed:
                        raise Closed
                    await self._socket.send({"type": "websocket.send", "text": frame})
                    if count % CHECK_EVERY == 0:
                        limit.reschedule(loop.time() + self._stall_s)
        except TimeoutError:
            await self.close(TOO_SLOW, "too slow; come back with after")
            raise Closed from None
        except (WebSocketDisconnect, RuntimeError, OSError):
            # The client has gone; starlette says RuntimeError where we had closed before.
            self._closed = True
            raise Closed from None

    async def close(self, code: int, reason: str = "") -> None:
        """Close once; the first code counts."""
        if self._closed:
            return
        self._closed = True
        now = self._close_now
        if now is not None and self._socket.application_state is WebSocketState.CONNECTED:
            # A full buffer would hold up starlette's close until the client reads, or for ever.
            now(code, reason)
            return
        with suppress(WebSocketDisconnect, RuntimeError, OSError):
            await self._socket.close(code, reason)

    async def receive(self) -> str:
        """The next message, of text or of bytes that are UTF-8. Raises Closed."""
        try:
            message = await self._socket.receive()
        except RuntimeError:
            raise Closed from None
        if message["type"] == "websocket.disconnect":
            self._closed = True
            raise Closed
        text: str | None = message.get("text")
        if text is not None:
            return text
        try:
            return bytes(message.get("bytes") or b"").decode()
        except UnicodeDecodeError:
            await self.close(NOT_UTF8, "a message must be UTF-8")
            raise Closed from None


def _has_no_room(_: bytes) -> bool:
    """What another server than ours answers to a whole frame."""
    return False


class Sockets:
    """All open sockets, so that a stop can close them, the frames that several get, and the
    followers over plain HTTP, so that a token that is taken away ends them as well."""

    def __init__(self) -> None:
        self._open: dict[Socket, tuple[CaughtUp, Caller]] = {}
        self._followers: dict[object, tuple[Callable[[], None], Caller]] = {}
        self.shared_frame = lru_cache(SHARED_FRAMES)(_frame)
        """A text as a frame, serialised once for all sockets that get it."""
        self.stopping = False
        self.subscriptions = 0
        """Subscriptions to single tasks, of all sockets together."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, socket: Socket, caught_up: CaughtUp, author: Caller) -> None:
        self._open[socket] = caught_up, author

    def discard(self, socket: Socket) -> None:
        self._open.pop(socket, None)

    @contextmanager
    def following(self, end: Callable[[], None], author: Caller) -> Iterator[None]:
        """A follower over plain HTTP while the block lasts; `end` ends it."""
        key = object()
        self._followers[key] = end, author
        try:
            yield
        finally:
            del self._followers[key]

    async def close_unknown(self, knows: Callable[[Caller], bool]) -> None:
        """Close the sockets of callers who may no longer come in, or have other scopes now, and
        end what they follow over plain HTTP."""
        for end, author in list(self._followers.values()):
            if not knows(author):
                end()
        for socket, (_, author) in list(self._open.items()):
            if not knows(author):
                await socket.close(REFUSED, REVOKED)

    async def close_all(self) -> None:
        """Close every socket because the service stops, once it has what was committed."""
        self.stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await asyncio.gather(*(caught_up() for caught_up, _ in self._open.values()))
        for socket in list(self._open):
            await socket.close(STOPPING, "the service is stopping")
