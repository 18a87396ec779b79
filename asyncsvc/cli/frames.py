"""Events from a running service over a WebSocket, across broken connections.

Owns `websockets` on this side. Promises each numbered event once and in order, however often
the connection breaks or the service restarts, and an end with Failure where coming back is of
no use. Never interprets an event.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from asyncsvc.cli.address import Address
from asyncsvc.cli.failure import Failure

Message = dict[str, Any]
Hello = Callable[[], tuple[str, list[Message]]]
"""The path to open and what to say first; asked anew for each connection, with its cursor."""
Lost = Callable[[str], None]
"""Told why a connection broke, before the next is tried."""

DONE, REFUSED, BAD, NO_TASK = 1000, 1008, 4400, 4404
FIRST_PAUSE_S = 0.2
LAST_PAUSE_S = 2.0
PATIENCE_S = 120.0
"""How long a service may be away. A restart takes seconds; an hour is not a restart."""


def _ignore(_: str) -> None:
    """Nobody needs to know."""


async def messages(address: Address, hello: Hello, lost: Lost = _ignore) -> AsyncGenerator[Message]:
    """What the service says, over as many connections as it takes; ends when it closes with 1000.

    Raises Failure where it refuses us, and when it has been away for PATIENCE_S.
    """
    loop = asyncio.get_running_loop()
    heard, pause = loop.time(), FIRST_PAUSE_S
    while True:
        why = "no answer"
        try:
            async with _opened(address, hello) as socket:
                async for frame in socket:
                    heard, pause = loop.time(), FIRST_PAUSE_S
                    yield json.loads(frame)
                code, why = socket.close_code, socket.close_reason or "closed"
        except ConnectionClosed as closed:
            code, why = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "broken")
        except InvalidStatus as error:
            raise Failure(f"{address.url} refused: HTTP {error.response.status_code}") from None
        except (OSError, InvalidHandshake, TimeoutError):
            code = None
        if code == DONE:
            return
        if code in (REFUSED, BAD, NO_TASK):
            raise Failure(f"the service closed the connection: {why or code}")
        if loop.time() - heard > PATIENCE_S:
            raise Failure(f"asyncsvc at {address.url} has been away for {PATIENCE_S:g} s; gave up")
        lost(why)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LAST_PAUSE_S)


@asynccontextmanager
async def _opened(address: Address, hello: Hello) -> AsyncIterator[ClientConnection]:
    """A socket on which the greeting is said."""
    path, greeting = hello()
    async with connect(
        f"{address.websocket_url}{path}",
        additional_headers=address.headers,
        compression=None,
        max_size=None,
        proxy=None if address.direct else True,
    ) as socket:
        for message in greeting:
            await socket.send(json.dumps(message))
        yield socket


async def follow(
    address: Address, task_id: str, after: int = 0, lost: Lost = _ignore
) -> AsyncGenerator[Message]:
    """One task's events until its last one. Raises Failure."""
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


async def feed(address: Address, lost: Lost = _ignore) -> AsyncGenerator[Message]:
    """Everybody's events from now on, without an end. Raises Failure."""
    seen: int | None = None

    def hello() -> tuple[str, list[Message]]:
        cursor = {} if seen is None else {"after_id": seen}
        return "/ws", [{"op": "subscribe", "all": True, **cursor}]

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
