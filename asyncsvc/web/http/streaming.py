"""Streamed responses, cut where the rest of the content cannot be read.

The connection is then closed before the end of the body, so that a client never takes a part for
the whole; the log has one line and no traceback. Work for a client that hangs up is cancelled.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, AnyStr, TypeVar

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from asyncsvc.errors import AsyncsvcError
from asyncsvc.web.http.body import ClientLeft

log = logging.getLogger(__name__)
T = TypeVar("T")

LIVE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The headers of a stream that no proxy may store or hold back."""


class Streamed(StreamingResponse):
    """A streamed answer, cut where its content fails. Raises nothing that is known."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer until its end, or until the client hangs up.

        starlette's own way leaves the last piece, with the frames of a cancelled read, in a cycle
        that waits for the garbage collector.
        """
        try:
            await unless_left(receive, self.stream_response(send))
        except AsyncsvcError as error:
            cut(scope, error)


class Watched:
    """The `send` of a request, and whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self.begun = False
        self._send = send

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


async def unless_left(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work gives; it is cancelled, and gives None, where the client hangs up before.
    Raises what the work raises."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
        del working, leaving  # an exception holds this frame, and the task the exception


async def for_client(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """The same for work whose result is needed: raises ClientLeft where the client hangs up
    before."""

    async def worked() -> tuple[T]:
        return (await work(),)

    found = await unless_left(receive, worked())
    if found is None:
        raise ClientLeft("the client left before its turn")
    return found[0]


@asynccontextmanager
async def place(receive: Receive, places: asyncio.Semaphore) -> AsyncGenerator[None]:
    """Hold one of the places; what goes on there is not cancelled. Raises ClientLeft where the
    client hangs up before one is free."""
    if places.locked():
        await for_client(receive, places.acquire)
    else:
        await places.acquire()
    try:
        yield
    finally:
        places.release()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def cut(scope: Scope, error: AsyncsvcError) -> None:
    """Log why the answer ends early. The server closes the connection of an answer that has not
    come to its end."""
    log.warning("the answer to %s %s is cut: %s", scope["method"], scope["path"], error)


async def begun(content: AsyncIterator[AnyStr]) -> AsyncIterator[AnyStr]:
    """The same content once its first part is read. Raises what reading that part raises, so
    that it is answered with a status."""
    first = await anext(content, None)

    async def whole() -> AsyncIterator[AnyStr]:
        if first is not None:
            yield first
        async for part in content:
            yield part

    return whole()
