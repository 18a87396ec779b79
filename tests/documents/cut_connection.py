"""A connection to a service that breaks: the first answers are cut after so many bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Cuts:
    """A proxy on a port of its own. Each number in `after` cuts one connection, after so many bytes
    of the answers on it; later connections stay whole."""

    def __init__(self, port: int, after: list[int]) -> None:
        self.left = after
        self._port = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._port)
        there = asyncio.create_task(_copy(reader, ours, None))
        try:
            if await _copy(theirs, writer, self.left[0] if self.left else None):
                self.left.pop(0)
        finally:
            there.cancel()
            for end in (ours, writer):
                end.transport.abort()

    @property
    def done(self) -> bool:
        return not self.left


async def _copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, most: int | None
) -> bool:
    """Copy to the end, or `most` bytes; whether it was cut."""
    with suppress(ConnectionError):
        while data := await source.read(65536):
            if most is not None and len(data) > most:
                target.write(data[:most])
                return True
            most = None if most is None else most - len(data)
            target.write(data)
            await target.drain()
    return False


@asynccontextmanager
async def cutting(port: int, *after: int) -> AsyncIterator[tuple[str, Cuts]]:
    """The URL of a proxy before the service on that port."""
    cuts = Cuts(port, list(after))
    async with await asyncio.start_server(cuts.serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", cuts
