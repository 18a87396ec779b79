"""Faults in the middle of a stream, and ways of writing that only look like faults.

Owns what they put on the wire. A break is given the exchange after ``at=`` tokens have left, and
says whether the stream is over.
"""

from collections.abc import Awaitable, Callable, Mapping

import orjson

from asyncsvc.simulator import wire
from asyncsvc.simulator.exchange import Exchange
from asyncsvc.simulator.faults import Fault

Write = Callable[[bytes], Awaitable[None]]

_PIECE = b"x" * 65536
# Long enough that the halves of a character reach the reader in separate reads.
_SPLIT_PAUSE_S = 0.002
_STREAM_ERROR = wire.error("simulated fault: an error in the stream", "server_error", "overloaded")


async def _reset(exchange: Exchange, chunks: wire.Chunks, fault: Fault) -> bool:
    await exchange.abort()
    return True


async def _hang(exchange: Exchange, chunks: wire.Chunks, fault: Fault) -> bool:
    await exchange.hang()
    return True


async def _malformed(exchange: Exchange, chunks: wire.Chunks, fault: Fault) -> bool:
    await exchange.write(b'data: {"id":"broken","choices":[{"delta":{"content":"\n\n')
    return False


async def _bad_sse(exchange: Exchange, chunks: wire.Chunks, fault: Fault) -> bool:
    await exchange.end(b'{"choices":[{"delta":{"content":"no field"}}]}\n\nevent\n\n[DONE]\n\n')
    return True


async def _bad_utf8(exchange: Exchange, chunks: wire.Chunks, fault: Fault) -> bool:
    await exchange.write(chunks.opening() + b'"\xff\xfe\xe4\xbd"' + chunks.closing())
    return False


async def _error(exchange: Exchange, chunks: wire.Chunks, fault: Fault) -> bool:
    await exchange.end(b"data: " + orjson.dumps(_STREAM_ERROR) + b"\n\n" + wire.DONE)
    return True


async def _cut(exchange: Exchange, chunks: wire.Chunks, fault: Fault) -> bool:
    await exchange.end()
    return True


async def _huge(exchange: Exchange, chunks: wire.Chunks, fault: Fault) -> bool:
    await exchange.write(chunks.opening() + b'"')
    await write_filler(exchange, fault.size)
    await exchange.write(b'"' + chunks.closing())
    return False


BREAKS: Mapping[str, Callable[[Exchange, wire.Chunks, Fault], Awaitable[bool]]] = {
    "reset": _reset,
    "hang-stream": _hang,
    "malformed": _malformed,
    "bad-sse": _bad_sse,
    "bad-utf8": _bad_utf8,
    "error-in-stream": _error,
    "cut": _cut,
    "huge-line": _huge,
}


async def write_filler(exchange: Exchange, size: int) -> None:
    """Send ``size`` bytes of x in pieces; stops with ClientGone when the client leaves."""
    for start in range(0, size, len(_PIECE)):
        await exchange.write(_PIECE[: size - start])
        await exchange.breathe()


def writer(exchange: Exchange, fault: Fault | None) -> Write:
    """How bytes are put on the wire: whole, a byte at a time, or with split characters."""
    if fault is not None and fault.kind == "slow-bytes":

        async def slow(data: bytes) -> None:
            for index in range(len(data)):
                await exchange.write(data[index : index + 1])
                await exchange.pause(fault.every_s)

        return slow
    if fault is not None and fault.kind == "split-utf8":

        async def split(data: bytes) -> None:
            start = 0
            for index, byte in enumerate(data):
                if byte & 0xC0 == 0x80:  # a continuation byte: cut in front of it
                    await exchange.write(data[start:index])
                    await exchange.pause(_SPLIT_PAUSE_S)
                    start = index
            await exchange.write(data[start:])

        return split
    return exchange.write
