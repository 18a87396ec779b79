"""Whole JSON answers (not streamed), and the faults that spoil them.

Owns what a fault means for a body of known length. Faults that make no sense without a stream
(``no-done``) leave the answer as it is; ``error-in-stream`` becomes an error with status 200.
"""

from collections.abc import Awaitable, Callable, Mapping

import orjson

from asyncsvc.simulator import heads
from asyncsvc.simulator.breaks import write_filler, writer
from asyncsvc.simulator.exchange import JSON_TYPE, Exchange
from asyncsvc.simulator.faults import Fault


async def send_body(exchange: Exchange, payload: object, fault: Fault | None) -> bool:
    """Answer with a JSON body, spoiled as the fault says; True where the client got the answer."""
    if fault is not None and fault.kind in _SPOILED:
        await _SPOILED[fault.kind](exchange, orjson.dumps(payload), fault)
        return False
    if fault is not None and fault.kind in _WRITTEN_OTHERWISE:
        await _WRITTEN_OTHERWISE[fault.kind](exchange, orjson.dumps(payload), fault)
    else:
        await exchange.reply_json(200, payload)
    return True


async def _begin_half(exchange: Exchange, body: bytes) -> None:
    await exchange.start(200, [JSON_TYPE, (b"content-length", b"%d" % len(body))])
    await exchange.write(body[: len(body) // 2])


async def _reset(exchange: Exchange, body: bytes, fault: Fault) -> None:
    await _begin_half(exchange, body)
    await exchange.abort()


async def _hang(exchange: Exchange, body: bytes, fault: Fault) -> None:
    await _begin_half(exchange, body)
    await exchange.hang()


async def _half(exchange: Exchange, body: bytes, fault: Fault) -> None:
    """A body that ends properly for HTTP, but in the middle of the JSON."""
    await exchange.reply(200, body[: len(body) // 2], [JSON_TYPE])


async def _error(exchange: Exchange, body: bytes, fault: Fault) -> None:
    await exchange.reply_json(200, heads.ERROR_200)


async def _bad_utf8(exchange: Exchange, body: bytes, fault: Fault) -> None:
    spoiled = body.replace(b'"object":"', b'"object":"\xff\xfe', 1)
    await exchange.reply(200, spoiled, [JSON_TYPE])


async def _huge(exchange: Exchange, body: bytes, fault: Fault) -> None:
    await exchange.start(200, [JSON_TYPE])
    await exchange.write(b'{"filler":"')
    await write_filler(exchange, fault.size)
    await exchange.end(b'",' + body[1:])


async def _blank_lines(exchange: Exchange, body: bytes, fault: Fault) -> None:
    """Blank lines before the JSON, as a provider sends them to keep a connection alive."""
    await exchange.start(200, [JSON_TYPE])
    await exchange.write(b"\n\n\n")
    await exchange.end(body)


async def _rewritten(exchange: Exchange, body: bytes, fault: Fault) -> None:
    await exchange.start(200, [JSON_TYPE])
    await writer(exchange, fault)(body)
    await exchange.end()


_Spoil = Callable[[Exchange, bytes, Fault], Awaitable[None]]

_SPOILED: Mapping[str, _Spoil] = {
    "reset": _reset,
    "hang-stream": _hang,
    "malformed": _half,
    "bad-sse": _half,
    "cut": _half,
    "error-in-stream": _error,
    "bad-utf8": _bad_utf8,
}
_WRITTEN_OTHERWISE: Mapping[str, _Spoil] = {
    "huge-line": _huge,
    "keepalive": _blank_lines,
    "slow-bytes": _rewritten,
    "split-utf8": _rewritten,
}
