"""Events of a running service over its WebSocket: `follow` one task, `feed` for all of them.

A stream reconnects after a break and gives each numbered event once and in order. Apart from
`client`, for commands that make one call shall not pay for what streams need.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from asyncsvc.cli.client import Address, untrusted
from asyncsvc.cli.failures import Failure

Message = dict[str, Any]
Hello = Callable[[], tuple[str, list[Message]]]
"""Path to open and messages to send first; called for each connection, with its cursor."""
Lost = Callable[[str], None]
"""Called with the reason why a connection broke, before the next is tried."""

DONE, REFUSED, BAD, NO_TASK = 1000, 1008, 4400, 4404
FIRST_PAUSE_S = 0.2
LAST_PAUSE_S = 2.0
MOST_AWAY_S = 120.0
"""Longest absence of a service: a restart takes seconds, an hour is not a restart."""


async def messages(
    address: Address, hello: Hello, lost: Lost = lambda _: None
) -> AsyncGenerator[Message]:
    """Yield the service's messages, over as many connections as needed, until it closes with 1000.

    Raises Failure where the service refuses, and when it has been away for MOST_AWAY_S.
    """
    loop = asyncio.get_running_loop()
    last_frame, pause = loop.time(), FIRST_PAUSE_S
    while True:
        why = "no answer"
        try:
            async with _opened(address, hello) as socket:
                async for frame in socket:
                    last_frame, pause = loop.time(), FIRST_PAUSE_S
                    yield json.loads(frame)
                code, why = socket.close_code, socket.close_reason or "closed"
        except ConnectionClosed as closed:
            code, why = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "broken")
        except InvalidStatus as error:
            raise Failure(f"{address.url} refused: HTTP {error.response.status_code}") from None
        except ssl.SSLError as error:
            raise untrusted(address, error) from None
        except (OSError, InvalidHandshake, TimeoutError):
            code = None
        if code == DONE:
            return
        if code in (REFUSED, BAD, NO_TASK):
            raise Failure(f"the service closed the connection: {why or code}")
        if loop.time() - last_frame > MOST_AWAY_S:
            raise Failure(f"asyncsvc at {address.url} has been away for {MOST_AWAY_S:g} s; gave up")
        lost(why)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LAST_PAUSE_S)


@asynccontextmanager
async def _opened(address: Address, hello: Hello) -> AsyncGenerator[ClientConnection]:
    """Open a connection and send the first messages."""
    path, first = hello()
    async with connect(
        f"ws{address.url.removeprefix('http')}{path}",
        additional_headers=address.headers,
        compression=None,
        max_size=None,
        proxy=None if address.direct else True,
    ) as socket:
        for message in first:
            await socket.send(json.dumps(message))
        yield socket


async def follow(
    address: Address, task_id: str, after: int = 0, lost: Lost = lambda _: None
) -> AsyncGenerator[Message]:
    """Yield one task's events until its last one. Raises Failure."""
    seen = after

    def hello() -> tuple[str, list[Message]]:
        return f"/ws/tasks/{quote(task_id, safe='')}?after={seen}", []

    async with aclosing(messages(address, hello, lost)) as found:
        async for message in found:
            if "type" not in message:
                continue
            seq = message["seq"]
            if seq is not None and seq <= seen:
                continue
            seen = seen if seq is None else seq
            yield message


async def feed(
    address: Address, lost: Lost = lambda _: None, *, text: bool = True
) -> AsyncGenerator[Message]:
    """Yield the events of all tasks from now on, without an end; not `text`: of the text only where
    it begins. Raises Failure."""
    seen: int | None = None

    def hello() -> tuple[str, list[Message]]:
        cursor = {} if seen is None else {"after_id": seen}
        return "/ws", [{"op": "subscribe", "all": True, "text": text, **cursor}]

    async with aclosing(messages(address, hello, lost)) as found:
        async for message in found:
            if message.get("op") == "error":
                raise Failure(message["error"]["message"])
            if "type" not in message:
                seen = message["after_id"] if seen is None else seen
                continue
            number = message["id"]
            if number is not None and seen is not None and number <= seen:
                continue
            seen = seen if number is None else number
            yield message
