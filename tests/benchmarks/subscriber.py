"""Clients of `/ws/tasks/{id}` in a process of their own: one socket a task.

Reads one JSON line on stdin, {"url", "task_ids"}; answers `connected` when all sockets are open
and, when every task is over, one JSON line per task: its id, the close code, and its events as
[arrival in ms since the epoch, seq, type, ts in ms, text of a chunk]. Promises to stamp an
event before it looks at it, and to look at it only when all is over.
"""

import asyncio
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import aiohttp
import orjson
import uvloop

from asyncsvc.clock import now_ms

Received = list[tuple[int, str]]


async def follow(
    client: aiohttp.ClientSession, url: str, task_id: str, opened: asyncio.Semaphore
) -> dict[str, Any]:
    """Follow one task to its end."""
    received: Received = []
    async with client.ws_connect(f"{url}/ws/tasks/{task_id}", max_msg_size=0) as socket:
        opened.release()
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                received.append((now_ms(), message.data))
        code = socket.close_code
    return {"task_id": task_id, "code": code, "received": received}


def events(received: Received) -> Iterator[list[Any]]:
    """What was received, without what is live only."""
    for at, text in received:
        event = orjson.loads(text)
        if event.get("seq") is not None:
            ts = datetime.fromisoformat(event["ts"]).timestamp() * 1000
            yield [at, event["seq"], event["type"], ts, event["data"].get("text", "")]


async def main() -> None:
    asked = orjson.loads(sys.stdin.buffer.readline())
    opened = asyncio.Semaphore(0)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client:
        follows = [
            asyncio.create_task(follow(client, asked["url"], task_id, opened))
            for task_id in asked["task_ids"]
        ]
        for _ in follows:
            await opened.acquire()
        print("connected", flush=True)
        for done in await asyncio.gather(*follows):
            result = {"task_id": done["task_id"], "code": done["code"]}
            line = orjson.dumps({**result, "events": list(events(done["received"]))})
            sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main())
