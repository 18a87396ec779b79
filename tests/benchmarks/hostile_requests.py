"""Attacks by HTTP requests: heads, bodies and floods that no honest client sends.

Each is one function: it prepares, calls `begin`, and acts until its time is over. What the
service answers is counted and not judged; the aims are about all others, see `hostile`.
"""

import asyncio
import struct
import zlib
from itertools import count
from socket import SO_LINGER, SOL_SOCKET
from uuid import uuid4

from tests.benchmarks.hostile_target import Line, Target, attack

MEGABYTE = 1 << 20
RESET = struct.pack("ii", 1, 0)
TASK = b'{"content":"hello","model":"honest"}'
WAITING = {"content": "hello", "model": "silent"}
FORM = "content-type: multipart/form-data; boundary=b"
PART = b'--b\r\ncontent-disposition: form-data; name="%b"; filename="f"\r\n\r\n'


@attack
async def trailers(target: Target) -> None:
    """Trailers without end behind a chunked body, on 30 connections without a token."""
    await target.begin()
    top = target.chunked("/tasks", "authorization: none") + b"2\r\n{}\r\n0\r\n"

    async def act(line: Line) -> None:
        await line.send(top)
        await line.endless(b"x-more: and more\r\n")

    await target.crowd(30, act)


@attack
async def known_trailers(target: Target) -> None:
    """The same with a token, and one trailer without end."""
    await target.begin()
    top = target.chunked("/tasks") + b"%x\r\n%b\r\n0\r\nx-more: " % (len(TASK), TASK)

    async def act(line: Line) -> None:
        await line.send(top)
        await line.endless(b"x" * 1000)

    await target.crowd(30, act)


@attack
async def chunk_extensions(target: Target) -> None:
    """An extension of a chunk without end, on 30 connections."""
    await target.begin()

    async def act(line: Line) -> None:
        await line.send(target.chunked("/tasks"), b"5;")
        await line.endless(b"x" * 1000)

    await target.crowd(30, act)


@attack
async def tiny_chunks(target: Target) -> None:
    """Bodies in chunks of one byte, on 10 connections."""
    await target.begin()

    async def act(line: Line) -> None:
        await line.send(target.chunked("/tasks"))
        await line.endless(b"1\r\n \r\n")

    await target.crowd(10, act)


@attack
async def slow_heads(target: Target) -> None:
    """Heads that come a byte a second, on 200 connections."""
    await target.begin()
    top = target.post("/tasks", TASK)

    async def act(line: Line) -> None:
        for at in range(len(top)):
            await line.send(top[at : at + 1])
            await asyncio.sleep(1)

    await target.crowd(200, act)


@attack
async def slow_bodies(target: Target) -> None:
    """Bodies of a megabyte that come a byte a second, on 200 connections."""
    await target.begin()

    async def act(line: Line) -> None:
        await line.send(target.post("/tasks", b" " * MEGABYTE)[: -MEGABYTE + 1])
        while True:
            await line.send(b" ")
            await asyncio.sleep(1)

    await target.crowd(200, act)


@attack
async def large_bodies(target: Target) -> None:
    """Tasks of nearly 10 MB, 30 at once."""
    await target.begin()
    body = b'{"model":"honest","content":"' + b"large " * 1_600_000 + b'"}'
    await _repeated(target, 30, target.post("/tasks", body))


@attack
async def abandoned_bodies(target: Target) -> None:
    """Bodies of nearly 10 MB that are cut before their last byte, 30 at once."""
    await target.begin()
    data = target.post("/tasks", b'{"content":"' + b"large " * 1_600_000 + b'"}')[:-1]

    async def act(line: Line) -> None:
        await line.send(data)

    await target.crowd(30, act)


@attack
async def millions_of_nodes(target: Target) -> None:
    """JSON of a million values, 10 at once."""
    await target.begin()
    nodes = b"[" + b"[],{}," * 800_000 + b"1]"
    await _repeated(target, 10, target.post("/tasks", b'{"content":"x","metadata":' + nodes + b"}"))


@attack
async def long_numbers(target: Target) -> None:
    """Numbers of nine million digits, 10 at once."""
    await target.begin()
    body = b'{"content":"x","priority":' + b"1" * 9_000_000 + b"}"
    await _repeated(target, 10, target.post("/tasks", body))


@attack
async def deep_json(target: Target) -> None:
    """JSON nested nine million deep, 10 at once."""
    await target.begin()
    body = b'{"content":"x","metadata":' + b"[" * 9_000_000
    await _repeated(target, 10, target.post("/tasks", body))


@attack
async def inflated_bodies(target: Target) -> None:
    """Compressed bodies: half a megabyte that becomes 500, 10 at once."""
    await target.begin()
    made = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join([*(made.compress(b" " * MEGABYTE) for _ in range(500)), made.flush()])
    await _repeated(target, 10, target.post("/tasks", body, "content-encoding: gzip"))


@attack
async def large_texts_to_route(target: Target) -> None:
    """Questions about the route of 9 MB of text, 10 at once."""
    await target.begin()
    body = b'{"content":"' + b"def f(x): solve 12 + 3 (( " * 340_000 + b'"}'
    await _repeated(target, 10, target.post("/route", body))


async def _repeated(target: Target, connections: int, data: bytes) -> None:
    """The same request again and again, one at a time on each connection."""

    async def act(line: Line) -> None:
        while True:
            await line.send(data)
            await line.answer()

    await target.crowd(connections, act)


@attack
async def pipelines(target: Target) -> None:
    """Ten thousand requests sent at once on a connection that reads their answers, 10 times."""
    await target.begin()
    data = target.head("GET", "/tasks/stats") * 10_000

    async def act(line: Line) -> None:
        await line.send(data)
        await asyncio.sleep(2)

    await target.crowd(10, act)


@attack
async def unread_pipelines(target: Target) -> None:
    """Requests without end on connections that read nothing, 10 of them."""
    await target.begin()
    data = target.head("GET", "/models")

    async def act(line: Line) -> None:
        line.transport.pause_reading()
        await line.endless(data)

    await target.crowd(10, act, window=4096)


@attack
async def connections(target: Target) -> None:
    """Connections opened and closed, a thousand a second, every other one reset."""
    await target.begin()
    numbers = count()

    async def act(line: Line) -> None:
        if next(numbers) % 2:
            await line.send(b"GET /livez HTTP/1.1\r\n")
            raw = line.transport.get_extra_info("socket")
            raw.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        await asyncio.sleep(0.02)

    await target.crowd(20, act)


@attack
async def wrong_tokens(target: Target) -> None:
    """Wrong tokens from the honest client's address, a thousand a second."""
    await target.begin()

    async def act(line: Line) -> None:
        while True:
            await line.send(target.head("GET", "/tasks", f"authorization: Bearer {uuid4()}"))
            await line.answer()
            await asyncio.sleep(0.01)

    await target.crowd(10, act)


@attack
async def huge_heads(target: Target) -> None:
    """Heads of 60 KB of many headers, 20 at once."""
    await target.begin()
    lines = [f"x-{number}: {number}" for number in range(4500)]
    await _repeated(target, 20, target.head("GET", "/tasks/stats", *lines))


@attack
async def batches(target: Target) -> None:
    """Batches of a thousand tasks for a model that does not answer, 4 at once."""
    await target.begin()
    one = b'{"content":"hello","model":"silent"}'
    body = b'{"tasks":[' + b",".join([one] * 1000) + b"]}"
    await _repeated(target, 4, target.post("/tasks/batch", body))


async def _flood(target: Target, connections_: int, *lines: str, body: bytes = TASK) -> None:
    """Submits as fast as they are answered; `{n}` in lines and body is another number each time."""
    await target.begin()
    numbers = count()

    async def act(line: Line) -> None:
        while True:
            number = str(next(numbers))
            named = [text.replace("{n}", number) for text in lines]
            await line.send(target.post("/tasks", body.replace(b"{n}", number.encode()), *named))
            await line.answer()

    await target.crowd(connections_, act)


@attack
async def idempotency_keys(target: Target) -> None:
    """Submits with ever new idempotency keys, 8 at once."""
    await _flood(target, 8, "idempotency-key: key-{n}")


@attack
async def sessions(target: Target) -> None:
    """Submits with ever new sessions, 8 at once."""
    await _flood(target, 8, body=TASK[:-1] + b',"session_id":"session-{n}"}')


@attack
async def owners(target: Target) -> None:
    """Submits with ever new owners (X-User), 8 at once, where no tokens are in use."""
    await _flood(target, 8, "x-user: user-{n}")


@attack
async def lists(target: Target) -> None:
    """The largest lists, statistics, models and metrics, 20 at once."""
    await target.finished(target.scaled(20_000), _found)
    await target.begin()
    paths = ("/tasks?limit=500", "/tasks/stats", "/models", "/metrics", "/health", "/openapi.json")
    data = [target.head("GET", path) for path in paths]

    async def act(line: Line) -> None:
        while True:
            for one in data:
                await line.send(one)
                await line.answer()

    await target.crowd(20, act)


@attack
async def left_lists(target: Target) -> None:
    """The same and refused requests by clients that leave at once, 20 at once."""
    await target.finished(target.scaled(20_000), _found)
    await target.begin()
    paths = ("/tasks?limit=500", "/tasks?q=nowhere", "/tasks/stats", "/metrics", "/tasks?limit=x")
    data = [target.head("GET", path) for path in paths]
    data.append(target.post("/tasks", b'{"content":""}'))

    async def act(line: Line) -> None:
        for one in data:
            async with target.line() as other:
                await other.send(one)
                await asyncio.sleep(0.005)  # else the service sees nothing but the end

    await target.crowd(20, act)


@attack
async def searches(target: Target) -> None:
    """A hundred searches at once for what is in none of 100,000 tasks."""
    await target.finished(target.scaled(100_000, 1000), _found)
    await target.begin()
    await _repeated(target, 100, target.head("GET", "/tasks?limit=500&q=nowhere%20found"))


def _found(number: int) -> dict[str, object]:
    """A finished task with a text of some length."""
    words = f"task {number} tells of rivers and mountains " * 12
    at = "2026-01-01T00:00:00Z"
    return {
        "task_id": str(uuid4()), "status": "completed", "content": words, "result": words,
        "model": "honest", "created_at": at, "started_at": at, "finished_at": at,
    }  # fmt: skip


@attack
async def files(target: Target) -> None:
    """Files for batches without end, 4 at once."""
    await target.begin()
    top = target.head("POST", "/v1/files", FORM, "transfer-encoding: chunked")
    part = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    part += PART % b"file"
    block = (b'{"custom_id": "%07d"}\n' % 7) * (MEGABYTE // 24)

    async def act(line: Line) -> None:
        await line.send(top, b"%x\r\n%b\r\n" % (len(part), part))
        for _ in range(50):
            await line.send(b"%x\r\n%b\r\n" % (len(block), block))
        end = b"\r\n--b--\r\n"
        await line.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))
        await line.answer()

    await target.crowd(4, act)


@attack
async def form_parts(target: Target) -> None:
    """Forms with parts without end, then headers of a part without end, 10 at once."""
    await target.begin()
    top = target.head("POST", "/v1/files", FORM, "content-length: 1000000000")
    numbers = count()

    async def act(line: Line) -> None:
        await line.send(top)
        if next(numbers) % 2:
            await line.endless(PART % b"more" + b"x\r\n")
        await line.send(b"--b\r\n")
        await line.endless(b"x-more: and more\r\n")

    await target.crowd(10, act)
