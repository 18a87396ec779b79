"""A receiver of callbacks on a real socket, which answers as a test wants it to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Post:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def task(self) -> dict[str, Any]:
        """The task, once the official library has checked the signature."""
        task: dict[str, Any] = Webhook(SECRET).verify(self.body, self.headers)
        return task


Writer = asyncio.StreamWriter
Reply = Callable[[Writer], Awaitable[None]]


def status(code: int, *headers: str, body: bytes = b"") -> Reply:
    """An ordinary answer."""

    async def reply(writer: Writer) -> None:
        lines = [f"HTTP/1.1 {code} x", f"content-length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return reply


async def silence(_: Writer) -> None:
    """No answer, ever."""
    await asyncio.Event().wait()


async def hang_up(writer: Writer) -> None:
    writer.transport.abort()


async def slow_body(writer: Writer) -> None:
    """It is taken, but the answer's body never ends."""
    writer.write(b"HTTP/1.1 200 x\r\ncontent-length: 1000000000\r\n\r\nx")
    await silence(writer)


async def flood(writer: Writer) -> None:
    """A body without end."""
    writer.write(b"HTTP/1.1 200 x\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def interim(writer: Writer) -> None:
    """Interim answers without end."""
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        await writer.drain()


async def nonsense(writer: Writer) -> None:
    writer.write(b"SSH-2.0-x\r\n\r\n")


@dataclass
class Receiver:
    """Answers with `replies` in order; the last one answers all the rest."""

    replies: Sequence[Reply]
    posts: list[Post] = field(default_factory=list)
    port: int = 0
    most_at_once: int = 0
    _at_once: int = 0
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/done"

    async def came(self, count: int) -> list[Post]:
        """Wait for so many requests."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.posts) < count:
                self._came.clear()
                await self._came.wait()
        return self.posts

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            with suppress(OSError, EOFError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rest = head.strip().split("\r\n")
                headers = {k.lower(): v for k, v in (one.split(": ", 1) for one in rest)}
                body = await reader.readexactly(int(headers["content-length"]))
                reply = self.replies[min(len(self.posts), len(self.replies) - 1)]
                self.posts.append(Post(line, headers, body))
                self._came.set()
                await reply(writer)
                await writer.drain()
        finally:
            self._at_once -= 1
            writer.close()


@asynccontextmanager
async def receiving(*replies: Reply, host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    """A receiver on a free port; 204 where no answer is given."""
    receiver = Receiver(replies or (status(204),))
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.create_task(receiver.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, host, 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
