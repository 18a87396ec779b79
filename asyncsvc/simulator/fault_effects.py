"""Faults on the wire: whole answers replaced, JSON bodies spoiled, streams broken off.

A fault that makes no sense without a stream (``no-done``) leaves a JSON body as it is.
"""

import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import orjson

from asyncsvc.simulator import wire
from asyncsvc.simulator.exchange import JSON_TYPE, Exchange, Headers
from asyncsvc.simulator.faults import Fault

_RATE = wire.error("simulated fault: too many requests", "requests", "rate_limit_exceeded")
_ERROR_BODIES: dict[str, object] = {
    "429": _RATE,
    "429-after": _RATE,
    "429-date": _RATE,
    "429-garbage": _RATE,
    "500": wire.error("simulated fault: server error", "server_error", "server_error"),
    "503": wire.error("simulated fault: overloaded", "server_error", "overloaded"),
    "400": wire.error("simulated fault: bad request", "invalid_request_error", None),
    "401": wire.error("simulated fault: wrong key", "invalid_request_error", "invalid_api_key"),
    "410": {
        "type": "about:blank",
        "title": "Gone",
        "status": 410,
        "detail": "simulated fault: the model has reached its end of life",
    },
}
"""Bodies by fault; the first three characters of a fault's name are the status."""
_ERROR_200 = wire.error("simulated fault: an error with status 200", "server_error", "server_error")
_STREAM_ERROR = wire.error("simulated fault: an error in the stream", "server_error", "overloaded")
_HTML = b"<!doctype html><title>Welcome</title><p>simulated fault: a page, not an answer</p>"
_FILLER = b"x" * 65536
_SPLIT_PAUSE_S = 0.002
"""Long enough that the halves of a character reach the client in separate reads."""


async def replace_answer(exchange: Exchange, fault: Fault) -> bool:
    """Send what the fault puts in the place of the whole answer; False where it does not."""
    match fault.kind:
        case "hang":
            await exchange.hang()
        case "reset-head":
            await exchange.abort()
        case "error-200":
            await exchange.reply_json(200, _ERROR_200)
        case "wrong-type":
            await exchange.reply(200, _HTML, [(b"content-type", b"text/html; charset=utf-8")])
        case "redirect":
            await exchange.reply(307, b"", [(b"location", b"/moved" + exchange.path.encode())])
        case kind if kind in _ERROR_BODIES:
            await exchange.reply_json(int(kind[:3]), _ERROR_BODIES[kind], _retry_after(fault))
        case _:
            return False
    return True


def _retry_after(fault: Fault) -> Headers:
    match fault.kind:
        case "429-after":
            value = b"%g" % fault.seconds
        case "429-date":
            value = formatdate(time.time() + fault.seconds, usegmt=True).encode("ascii")
        case "429-garbage":
            value = b"soon"
        case _:
            return []
    return [(b"retry-after", value)]


BODY_LOST = frozenset(
    {"reset", "hang-stream", "malformed", "bad-sse", "cut", "error-in-stream", "bad-utf8"}
)
"""Faults of a JSON body after which the client has no answer."""


async def send_body(exchange: Exchange, payload: object, fault: Fault | None) -> bool:
    """Answer with a JSON body, spoiled by the fault; True where the client got the answer."""
    kind, body = fault.kind if fault else "", orjson.dumps(payload)
    half = body[: len(body) // 2]
    match kind:
        case "reset" | "hang-stream":
            await exchange.start(200, [JSON_TYPE, (b"content-length", b"%d" % len(body))])
            await exchange.write(half)
            await (exchange.abort() if kind == "reset" else exchange.hang())
        case "malformed" | "bad-sse" | "cut":
            await exchange.reply(200, half, [JSON_TYPE])
        case "error-in-stream":
            await exchange.reply_json(200, _ERROR_200)
        case "bad-utf8":
            spoiled = body.replace(b'"object":"', b'"object":"\xff\xfe', 1)
            await exchange.reply(200, spoiled, [JSON_TYPE])
        case "huge-line" | "keepalive" | "slow-bytes" | "split-utf8":
            assert fault is not None
            await exchange.start(200, [JSON_TYPE])
            await _send_slowly(exchange, body, fault)
            await exchange.end()
        case _:
            await exchange.reply(200, body, [JSON_TYPE])
    return kind not in BODY_LOST


async def _send_slowly(exchange: Exchange, body: bytes, fault: Fault) -> None:
    if fault.kind == "huge-line":
        await exchange.write(b'{"filler":"')
        await _write_filler(exchange, fault.size)
        body = b'",' + body[1:]
    elif fault.kind == "keepalive":  # as providers do before a slow answer
        await exchange.write(b"\n\n\n")
    await writer(exchange, fault)(body)


STREAM_BREAKS = frozenset({*BODY_LOST, "huge-line"})
"""Faults that come into a stream after `at=` tokens."""


async def break_stream(exchange: Exchange, chunks: wire.Chunks, fault: Fault) -> bool:
    """Put a fault of STREAM_BREAKS on the wire; True where the stream is over."""
    match fault.kind:
        case "reset":
            await exchange.abort()
        case "hang-stream":
            await exchange.hang()
        case "cut":
            await exchange.end()
        case "bad-sse":
            await exchange.end(
                b'{"choices":[{"delta":{"content":"no field"}}]}\n\nevent\n\n[DONE]\n\n'
            )
        case "error-in-stream":
            await exchange.end(b"data: " + orjson.dumps(_STREAM_ERROR) + b"\n\n" + wire.DONE)
        case "malformed":
            await exchange.write(b'data: {"id":"broken","choices":[{"delta":{"content":"\n\n')
            return False
        case "bad-utf8":
            await exchange.write(chunks.opening + b'"\xff\xfe\xe4\xbd"' + chunks.closing)
            return False
        case "huge-line":
            await exchange.write(chunks.opening + b'"')
            await _write_filler(exchange, fault.size)
            await exchange.write(b'"' + chunks.closing)
            return False
    return True


async def _write_filler(exchange: Exchange, size: int) -> None:
    """Send `size` bytes of x in pieces; raises ClientGone when the client leaves."""
    for start in range(0, size, len(_FILLER)):
        await exchange.write(_FILLER[: size - start])
        await exchange.yield_to_loop()


def writer(exchange: Exchange, fault: Fault | None) -> Callable[[bytes], Awaitable[None]]:
    """Return how bytes are written: whole, one at a time, or with characters split."""

    async def slow(data: bytes) -> None:
        assert fault is not None
        for index in range(len(data)):
            await exchange.write(data[index : index + 1])
            await exchange.pause(fault.every_s)

    async def split(data: bytes) -> None:
        start = 0
        for index, byte in enumerate(data):
            if byte & 0xC0 == 0x80:  # a continuation byte: cut in front of it
                await exchange.write(data[start:index])
                await exchange.pause(_SPLIT_PAUSE_S)
                start = index
        await exchange.write(data[start:])

    ways = {"slow-bytes": slow, "split-utf8": split}
    return ways.get(fault.kind, exchange.write) if fault else exchange.write
