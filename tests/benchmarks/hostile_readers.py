"""Attacks by clients that do not read, and by floods on WebSockets.

Each is one function: it prepares, calls `begin`, and acts until its time is over. What the
service answers is counted and not judged; the aims are about all others, see `hostile`.
"""

import asyncio
import base64
import os
from collections.abc import Sequence
from itertools import count
from uuid import uuid4

import orjson

from tests.benchmarks.hostile_target import WINDOW, Line, Target, attack

LARGE = 9_000_000
"""Characters of the question and of the answer of a large task."""
TEXT, CONTINUATION, PING = 1, 0, 9
CHAT = b'{"model":"honest","stream":true,"messages":[{"role":"user","content":"chat with %b"}]}'


async def large_task(target: Target) -> str:
    """The id of a finished task with a question and an answer of nine megabytes each."""
    task_id, at = str(uuid4()), "2026-01-01T00:00:00Z"
    text = "large " * (LARGE // 6)
    task = {
        "task_id": task_id, "status": "completed", "content": text, "result": text,
        "model": "honest", "created_at": at, "started_at": at, "finished_at": at,
    }  # fmt: skip
    await target.finished(1, lambda _: task)
    return task_id


async def _unread(target: Target, count_: int, request: bytes) -> None:
    """Ask, and then read nothing, on so many connections."""
    await target.begin()

    async def act(line: Line) -> None:
        await line.send(request)
        await line.stop_reading()

    await target.crowd(count_, act, WINDOW)


@attack
async def unread_tasks(target: Target) -> None:
    """A large task asked for by 10 clients that do not read."""
    task_id = await large_task(target)
    await _unread(target, 10, target.head("GET", f"/tasks/{task_id}"))


@attack
async def unread_tasks_by_many(target: Target) -> None:
    """A large task asked for by 100 clients that do not read."""
    task_id = await large_task(target)
    await _unread(target, 100, target.head("GET", f"/tasks/{task_id}"))


@attack
async def unread_events(target: Target) -> None:
    """The events of a large task asked for by 100 clients that do not read."""
    task_id = await large_task(target)
    path = f"/tasks/{task_id}/events"
    await _unread(target, 100, target.head("GET", path, "accept: text/event-stream"))


@attack
async def unread_export(target: Target) -> None:
    """The export of all tasks asked for by 20 clients that do not read."""
    await large_task(target)
    await _unread(target, 20, target.head("GET", "/admin/export"))


@attack
async def trickled_tasks(target: Target) -> None:
    """A large task asked for by 20 clients that read a few bytes now and then."""
    task_id = await large_task(target)
    await target.begin()

    async def act(line: Line) -> None:
        await line.send(target.head("GET", f"/tasks/{task_id}"))
        while not line.lost.done():
            line.transport.pause_reading()
            await asyncio.sleep(1)
            line.transport.resume_reading()
            await asyncio.sleep(0)

    await target.crowd(20, act, WINDOW)


@attack
async def unread_chats(target: Target) -> None:
    """Streamed chats through /v1 by 100 clients that do not read."""
    body = CHAT % (b"many words " * 20_000)
    await _unread(target, 100, target.post("/v1/chat/completions", body))


@attack
async def left_chats(target: Target) -> None:
    """Streamed chats through /v1 that are left at their first piece, 20 at once."""
    await target.begin()
    data = target.post("/v1/chat/completions", CHAT % b"me")

    async def act(line: Line) -> None:
        await line.send(data)
        await line.answer()
        await asyncio.sleep(0.05)

    await target.crowd(20, act)


def upgrade(target: Target, path: str) -> bytes:
    """The head of a handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ("upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13")
    return target.head("GET", path, *lines, f"sec-websocket-key: {key}")


def frame(kind: int, body: bytes, last: bool = True) -> bytes:
    """A client's frame; with a mask of zeros the body stays as it is."""
    top = bytes([kind | (0x80 if last else 0)])
    if len(body) < 126:
        top += bytes([0x80 | len(body)])
    elif len(body) < 1 << 16:
        top += b"\xfe" + len(body).to_bytes(2)
    else:
        top += b"\xff" + len(body).to_bytes(8)
    return top + bytes(4) + body


async def opened(target: Target, line: Line, path: str = "/ws") -> None:
    """Do the handshake."""
    await line.send(upgrade(target, path))
    await line.answer()


@attack
async def unread_sockets(target: Target) -> None:
    """A large task followed by 100 WebSockets that do not read."""
    task_id = await large_task(target)
    await _unread(target, 100, upgrade(target, f"/ws/tasks/{task_id}"))


@attack
async def unread_feeds(target: Target) -> None:
    """The whole feed from its beginning followed by 100 WebSockets that do not read."""
    await large_task(target)
    await target.begin()

    async def act(line: Line) -> None:
        await opened(target, line)
        await line.send(frame(TEXT, b'{"op":"subscribe","all":true,"after_id":0}'))
        await line.stop_reading()

    await target.crowd(100, act, WINDOW)


@attack
async def subscriptions(target: Target) -> None:
    """Three WebSockets that follow 9,000 waiting tasks each."""
    waiting = {"content": "hello", "model": "silent"}
    ids = await target.tasks([waiting] * target.scaled(9000))
    await target.begin()
    messages = [frame(TEXT, orjson.dumps({"op": "subscribe", "task_id": one})) for one in ids]

    async def act(line: Line) -> None:
        await opened(target, line)
        for message in messages:
            await line.send(message)
        await line.end()

    await target.crowd(3, act)


async def _frames(target: Target, frames: Sequence[bytes], sockets: int = 10) -> None:
    """These frames again and again, without a pause."""
    await target.begin()
    data = b"".join(frames)

    async def act(line: Line) -> None:
        await opened(target, line)
        await line.endless(data)

    await target.crowd(sockets, act)


@attack
async def socket_messages(target: Target) -> None:
    """Messages on 10 WebSockets without a pause: pings of the protocol, and unknown tasks."""
    unknown = orjson.dumps({"op": "subscribe", "task_id": str(uuid4())})
    await _frames(target, [frame(TEXT, b'{"op":"ping"}'), frame(TEXT, unknown)])


@attack
async def unread_socket_messages(target: Target) -> None:
    """The same by clients that do not read the answers."""
    await target.begin()
    data = frame(TEXT, b'{"op":"ping"}')

    async def act(line: Line) -> None:
        await opened(target, line)
        line.transport.pause_reading()
        await line.endless(data)

    await target.crowd(10, act, WINDOW)


@attack
async def bad_socket_messages(target: Target) -> None:
    """Messages on 10 WebSockets that are no JSON, or no object, or too deep."""
    bad = (b"{", b"[]", b"\xff", b"[" * 100_000)
    await _frames(target, [frame(TEXT, body) for body in bad])


@attack
async def socket_pings(target: Target) -> None:
    """Ping frames on 10 WebSockets without a pause."""
    await _frames(target, [frame(PING, b"x" * 125)])


@attack
async def unread_socket_pings(target: Target) -> None:
    """Ping frames on 10 WebSockets that do not read the pongs."""
    await target.begin()
    data = frame(PING, b"x" * 125)

    async def act(line: Line) -> None:
        await opened(target, line)
        line.transport.pause_reading()
        await line.endless(data)

    await target.crowd(10, act, WINDOW)


@attack
async def socket_fragments(target: Target) -> None:
    """Messages of fragments without end, some empty, on 30 WebSockets."""
    await target.begin()
    numbers = count()

    async def act(line: Line) -> None:
        await opened(target, line)
        await line.send(frame(TEXT, b"{", last=False))
        body = b"x" * 1000 if next(numbers) % 2 else b""
        await line.endless(frame(CONTINUATION, body, last=False))

    await target.crowd(30, act)


@attack
async def large_socket_messages(target: Target) -> None:
    """Submits of nearly a megabyte on 30 WebSockets without a pause."""
    text = "large " * 170_000
    submit = {"op": "submit", "task": {"model": "honest", "content": text}}
    await _frames(target, [frame(TEXT, orjson.dumps(submit))], 30)


@attack
async def half_handshakes(target: Target) -> None:
    """Handshakes without a key, a version or an end, 50 at once."""
    await target.begin()
    whole = upgrade(target, "/ws")

    async def act(line: Line) -> None:
        for line_ in (b"sec-websocket-key: ", b"sec-websocket-version: "):
            start = whole.find(line_)
            without = whole[:start] + whole[whole.find(b"\r\n", start) + 2 :]
            await line.send(without)
            await line.answer()
        await line.send(whole[:-2])
        await asyncio.sleep(0.2)

    await target.crowd(50, act)
