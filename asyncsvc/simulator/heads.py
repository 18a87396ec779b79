"""Faults that take the place of the whole answer: statuses, redirects, silence, a reset.

Owns what such a fault puts on the wire, in the shapes that real providers use. It is the same for
chat and embeddings, streamed or not.
"""

from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate

import orjson

from asyncsvc.simulator import wire
from asyncsvc.simulator.exchange import JSON_TYPE, Exchange, Headers
from asyncsvc.simulator.faults import Fault

_RATE = wire.error("simulated fault: too many requests", "requests", "rate_limit_exceeded")
_STATUSES: Mapping[str, tuple[int, object]] = {
    "429": (429, _RATE),
    "429-after": (429, _RATE),
    "429-date": (429, _RATE),
    "429-garbage": (429, _RATE),
    "500": (500, wire.error("simulated fault: server error", "server_error", "server_error")),
    "503": (503, wire.error("simulated fault: overloaded", "server_error", "overloaded")),
    "400": (400, wire.error("simulated fault: bad request", "invalid_request_error", None)),
    "401": (
        401,
        wire.error("simulated fault: wrong key", "invalid_request_error", "invalid_api_key"),
    ),
    "410": (
        410,
        {
            "type": "about:blank",
            "title": "Gone",
            "status": 410,
            "detail": "simulated fault: the model has reached its end of life",
        },
    ),
}
ERROR_200 = wire.error("simulated fault: an error with status 200", "server_error", "server_error")


async def _status(exchange: Exchange, fault: Fault) -> None:
    status, payload = _STATUSES[fault.kind]
    headers: Headers = []
    if fault.kind == "429-after":
        headers = [(b"retry-after", b"%g" % fault.seconds)]
    elif fault.kind == "429-date":
        moment = formatdate(exchange.wall_now() + fault.seconds, usegmt=True)
        headers = [(b"retry-after", moment.encode("ascii"))]
    elif fault.kind == "429-garbage":
        headers = [(b"retry-after", b"soon")]
    await exchange.reply_json(status, payload, headers)


async def _hang(exchange: Exchange, fault: Fault) -> None:
    await exchange.hang()


async def _reset(exchange: Exchange, fault: Fault) -> None:
    await exchange.abort()


async def _error_200(exchange: Exchange, fault: Fault) -> None:
    await exchange.reply(200, orjson.dumps(ERROR_200), [JSON_TYPE])


async def _html(exchange: Exchange, fault: Fault) -> None:
    page = b"<!doctype html><title>Welcome</title><p>simulated fault: a page, not an answer</p>"
    await exchange.reply(200, page, [(b"content-type", b"text/html; charset=utf-8")])


async def _redirect(exchange: Exchange, fault: Fault) -> None:
    await exchange.reply(307, b"", [(b"location", b"/moved" + exchange.path.encode("ascii"))])


HEADS: Mapping[str, Callable[[Exchange, Fault], Awaitable[None]]] = {
    **dict.fromkeys(_STATUSES, _status),
    "hang": _hang,
    "reset-head": _reset,
    "error-200": _error_200,
    "wrong-type": _html,
    "redirect": _redirect,
}
