"""Large answers: sent in parts as the client reads them, within a bound on all of them together.

Owns the room that an answer has in memory while it is sent. Promises that one which is read in
pieces holds a piece of its content, never all of it; that a reading for which there is no room
within seconds is refused with 503 `overloaded` before its status is sent, while the answer to a
request that has changed something waits for room; that a client which takes its answer too slowly
is let go, and its room with it. Never knows what the content is.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from asyncsvc.errors import AsyncsvcError, Overloaded
from asyncsvc.web.http import errors
from asyncsvc.web.http.body_memory import Bodies, Hold
from asyncsvc.web.http.streaming import Streamed, begun, cut

SENT_BYTES = 64 * 1024
"""What is handed to the transport at once, which copies it where the client does not read. An
answer up to this size needs no room."""
SENT_WITHIN_S = 30.0
"""How long a client may take for that: 2 KiB a second. A client that takes a byte now and then
must not keep the room of others; one that takes nothing is let go sooner, see `connections`."""
PIECE_ROOM = 1024 * 1024
"""Room for an answer that is read in pieces: a piece of 512 KiB, as stored and as sent."""
WHOLE_CHARS = 256 * 1024
"""Texts up to this size are put together without room."""
CHAR_BYTES = 4
"""What a character of a text takes while an answer is put together: itself, its JSON, a copy."""
READING = ("GET", "HEAD")


class TooSlow(AsyncsvcError):
    """The client takes its answer too slowly."""


class LargeAnswer(Streamed):
    """A streamed answer that holds room until it is sent."""

    def __init__(
        self, content: AsyncIterator[bytes], hold: Hold, headers: Mapping[str, str]
    ) -> None:
        super().__init__(
            in_parts(content), media_type=errors.JSON.media_type, headers=dict(headers)
        )
        self._hold = hold

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, Paced(send))
        finally:
            self._hold.release()


async def large(
    answers: Bodies,
    content: AsyncIterator[bytes],
    method: str,
    headers: Mapping[str, str] | None = None,
) -> LargeAnswer:
    """An answer of JSON that comes in pieces of 512 KiB of stored text at most. Raises Overloaded,
    and what reading the first piece raises."""
    hold = await answers.hold(PIECE_ROOM, patient=method not in READING)
    try:
        return LargeAnswer(await begun(content), hold, headers or {})
    except BaseException:
        hold.release()
        raise


class InParts(Response):
    """An answer in memory that holds room until it is sent; `roomy` makes one."""

    def __init__(self, answer: Response, hold: Hold) -> None:
        super().__init__()
        self._answer = answer
        self._hold = hold

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send_in_parts(self._answer, bytes(self._answer.body), scope, send)
        finally:
            self._hold.release()


async def roomy(
    answers: Bodies, chars: int, method: str, make: Callable[[], Awaitable[Response]]
) -> Response:
    """The answer that `make` gives, of texts of so many characters. A large one has room before
    it is made. Raises Overloaded and what `make` raises."""
    if chars <= WHOLE_CHARS:
        return await make()
    hold = await answers.hold(CHAR_BYTES * chars, patient=method not in READING)
    try:
        answer = await make()
        hold.shrink(min(hold.size, len(answer.body)))
        return InParts(answer, hold)
    except BaseException:
        hold.release()
        raise


@asynccontextmanager
async def room(answers: Bodies, chars: int) -> AsyncGenerator[None]:
    """Room for a part of a stream of so many characters, while the block lasts; none for a small
    one."""
    hold = await answers.hold(CHAR_BYTES * chars, patient=True) if chars > WHOLE_CHARS else None
    try:
        yield
    finally:
        if hold is not None:
            hold.release()


async def deliver(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer. A large one that is in memory as a whole holds room until it is sent; a
    reading without room is refused instead."""
    body = bytes(getattr(response, "body", b""))
    if len(body) <= SENT_BYTES or scope["method"] == "HEAD":
        await response(scope, receive, send)
        return
    answers: Bodies = scope["state"]["services"].answers
    try:
        hold = await answers.hold(len(body), patient=scope["method"] not in READING)
    except Overloaded as refusal:
        await errors.response(refusal)(scope, receive, send)
        return
    try:
        await send_in_parts(response, body, scope, send)
    finally:
        hold.release()


async def send_in_parts(response: Response, body: bytes, scope: Scope, send: Send) -> None:
    """Send the answer with that body in parts; it is cut where the client takes too long."""
    paced = Paced(send)
    head = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "http.response.start", **head})
    try:
        for start in range(0, len(body), SENT_BYTES):
            end = start + SENT_BYTES
            part = {"body": body[start:end], "more_body": end < len(body)}
            await paced({"type": "http.response.body", **part})
    except TooSlow as error:
        cut(scope, error)


class Paced:
    """The `send` of a request, with a time limit for each part. Raises TooSlow."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        try:
            async with asyncio.timeout(SENT_WITHIN_S):
                await self._send(message)
        except TimeoutError:
            raise TooSlow(
                f"its client took less than {SENT_BYTES} bytes in {SENT_WITHIN_S:g} s"
            ) from None


async def in_parts(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in parts of `SENT_BYTES` at most."""
    async for piece in content:
        for start in range(0, len(piece), SENT_BYTES):
            yield piece[start : start + SENT_BYTES]
