"""A provider that attacks its client: each model is one attack; the model `honest` does none.

Owns the attacks, which are sent as fast as the client takes them. Promises that the provider
itself holds a few megabytes, however much it sends, and that `honest` answers each question with
`answer_to` that question. `GET` answers 200. The process gives way to all others (`nice`).
"""

import argparse
import asyncio
import os
import re
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

import orjson
import uvloop

from tests.benchmarks import fast_provider
from tests.benchmarks.stage import HOST

Writer = asyncio.StreamWriter
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
STREAM = b"content-type: text/event-stream\r\nconnection: close\r\n"
JSON = b"content-type: application/json\r\nconnection: close\r\n"
GZIP = b"content-encoding: gzip\r\n"
BLOCK = 1 << 16
MEGABYTE = 1 << 20
HUGE_MB = 200
INFLATED_MB = 700
NICE = 10
CHAT = "chat"
"""A question that begins so is answered slowly, piece by piece."""
CHAT_PIECES, CHAT_PIECE_S = 40, 0.02


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the model and the question, and whether a stream is wanted."""

    model: str
    question: str
    stream: bool


Attack = Callable[[Writer], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}
"""By the name of their model."""
EMBEDDINGS = frozenset({"huge-embedding", "many-embeddings", "inflated-embedding"})
"""Attacks on embedding tasks; all others are on chats."""


def attack(act: Attack) -> Attack:
    """Make it a model of its own."""
    ATTACKS[act.__name__.replace("_", "-")] = act
    return act


def answer_to(question: str) -> tuple[str, ...]:
    """The pieces of the honest answer."""
    pieces = CHAT_PIECES if question.startswith(CHAT) else 2
    return ("You asked ", question, *(f" and {n}" for n in range(pieces)), ".")


def head(kind: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + kind + b"\r\n"


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "h", "choices": [choice]}) + b"\n\n"


def called(index: int, arguments: str) -> dict[str, Any]:
    """The delta of a tool call."""
    function = {"name": "f", "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": f"c{index}", "function": function}]}


async def send(out: Writer, *parts: bytes, times: int = 1) -> None:
    """Write the parts so many times, as fast as the client takes them."""
    data = b"".join(parts)
    for _ in range(times):
        out.write(data)
        await out.drain()


async def endless(out: Writer, data: bytes) -> None:
    """Write the same for ever; the client or the end of the run closes the connection."""
    data *= max(BLOCK // len(data), 1)
    while True:
        await send(out, data)


async def honest(out: Writer, asked: Asked) -> bool:
    """The answer as it should be; whether the connection stays open."""
    pieces = answer_to(asked.question)
    if not asked.stream or len(pieces) < CHAT_PIECES:
        make = fast_provider.stream if asked.stream else fast_provider.completion
        await send(out, make(pieces))
        return True
    await send(out, head(STREAM))
    for piece in pieces:
        await send(out, event({"content": piece}))
        await asyncio.sleep(CHAT_PIECE_S)
    await send(out, event({}, "stop"), b"data: [DONE]\n\n")
    return False


@attack
async def endless_text(out: Writer) -> None:
    """A stream of text without end."""
    await send(out, head(STREAM))
    await endless(out, event({"content": "word " * 200}))


@attack
async def endless_reasoning(out: Writer) -> None:
    """A stream of reasoning without end."""
    await send(out, head(STREAM))
    await endless(out, event({"reasoning_content": "hmm " * 200}))


@attack
async def endless_tool_arguments(out: Writer) -> None:
    """The arguments of one tool call without end."""
    await send(out, head(STREAM), event(called(0, '{"a": "')))
    await endless(out, event(called(0, "x" * 1000)))


@attack
async def endless_tool_calls(out: Writer) -> None:
    """One tool call after another without end."""
    await send(out, head(STREAM))
    for start in count(0, 100):
        await send(out, *(event(called(n, "{}")) for n in range(start, start + 100)))


@attack
async def repeated_tool_names(out: Writer) -> None:
    """The arguments of one tool call without end, each piece with the name and a brace."""
    await send(out, head(STREAM), event(called(0, '{"a": "')))
    await endless(out, event(called(0, "}" * 100)))


@attack
async def endless_messages(out: Writer) -> None:
    """Whole messages and pieces of text in turn, without end."""
    await send(out, head(STREAM))
    message = {"index": 0, "message": {"role": "assistant", "content": "y"}}
    whole = b"data: " + orjson.dumps({"choices": [message]}) + b"\n\n"
    await endless(out, event({"content": "word " * 20}) + whole)


@attack
async def endless_fields(out: Writer) -> None:
    """Fields of a message that grow by a key with each piece, without end."""
    await send(out, head(STREAM), event({"content": "word"}))
    for start in count(0, 100):
        numbers = range(start, start + 100)
        await send(out, *(event({"details": {f"k{number}": 1}}) for number in numbers))


@attack
async def far_tool_index(out: Writer) -> None:
    """Tool calls with indexes of billions."""
    await send(out, head(STREAM))
    calls = [event(called(n, "{}")) for n in (10**9, 2**31, 2**53, -(10**9))]
    await send(out, *calls, event({}, "tool_calls"), b"data: [DONE]\n\n")


@attack
async def endless_event(out: Writer) -> None:
    """One event without a line feed."""
    await send(out, head(STREAM), b"data: ")
    await endless(out, b"x" * BLOCK)


@attack
async def endless_event_lines(out: Writer) -> None:
    """One event of lines without the empty line that ends it."""
    await send(out, head(STREAM))
    await endless(out, b"data: x\n")


@attack
async def empty_events(out: Writer) -> None:
    """Events without data, comments and empty objects, without end."""
    await send(out, head(STREAM))
    await endless(out, b"data: \n\n: \n\ndata: {}\n\nevent: x\n\n" + event({}))


@attack
async def byte_by_byte(out: Writer) -> None:
    """A stream that comes byte by byte, without end."""
    data = head(STREAM) + event({"content": "word "}) * 100
    while True:
        for at in range(len(data)):
            await send(out, data[at : at + 1])
            await asyncio.sleep(0)
        data = event({"content": "word "}) * 100


@attack
async def huge_answer(out: Writer) -> None:
    """One JSON answer of 200 MB."""
    await _whole(out, b'{"choices":[{"index":0,"message":{"content":"', b'"}}]}', HUGE_MB)


async def _whole(out: Writer, first: bytes, last: bytes, megabytes: int) -> None:
    """A JSON answer with a text of so many megabytes."""
    length = b"content-length: %d\r\n" % (len(first) + len(last) + megabytes * MEGABYTE)
    await send(out, head(JSON + length), first)
    await send(out, b"x" * MEGABYTE, times=megabytes)
    await send(out, last)


@attack
async def endless_error(out: Writer) -> None:
    """An error body without end."""
    await send(out, head(JSON, b"500 Internal Server Error"), b'{"error":{"message":"')
    await endless(out, b"x" * BLOCK)


@cache
def inflated(first: bytes, repeated: bytes, last: bytes, megabytes: int) -> bytes:
    """A gzip body that is so many megabytes large when it is decompressed.

    A block after a full flush does not depend on what was before it: one is made and repeated.
    """
    block = repeated * (MEGABYTE // len(repeated) + 1)
    packed = [_packed(part) for part in (first, block, last)]
    checksum = zlib.crc32(first)
    for _ in range(megabytes):
        checksum = zlib.crc32(block, checksum)
    size = len(first) + megabytes * len(block) + len(last)
    end = struct.pack("<LL", zlib.crc32(last, checksum), size % (1 << 32))
    top = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
    return b"".join((top, packed[0], packed[1] * megabytes, packed[2], b"\x03\0", end))


def _packed(data: bytes) -> bytes:
    """Deflated so that it can stand anywhere in a body."""
    made = zlib.compressobj(9, zlib.DEFLATED, -15)
    return made.compress(data) + made.flush(zlib.Z_FULL_FLUSH)


@attack
async def inflated_stream(out: Writer) -> None:
    """A compressed stream: less than a megabyte that becomes 700."""
    body = inflated(b"", event({"content": "a" * 60_000}), b"", INFLATED_MB)
    await send(out, head(STREAM + GZIP), body)


@attack
async def inflated_event(out: Writer) -> None:
    """A compressed stream of one event without a line feed."""
    await send(out, head(STREAM + GZIP), inflated(b"data: ", b"a", b"", INFLATED_MB))


@attack
async def inflated_error(out: Writer) -> None:
    """A compressed error body: less than a megabyte that becomes 700."""
    body = inflated(b'{"error":{"message":"', b"a", b'"}}', INFLATED_MB)
    await send(out, head(JSON + GZIP, b"500 Internal Server Error"), body)


@attack
async def long_numbers(out: Writer) -> None:
    """Events with a number of seven million digits."""
    usage = b'"usage":{"total_tokens":' + b"1" * 7_000_000 + b"}"
    data = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],' + usage + b"}\n\n"
    await send(out, head(STREAM))
    await endless(out, data)


@attack
async def long_retry_after(out: Writer) -> None:
    """A refusal that asks for a pause of ten thousand digits, in each header that can."""
    digits = b"9" * 10_000
    pauses = b"retry-after: %b\r\nx-ratelimit-reset-requests: %bs\r\n" % (digits[:6000], digits[:6])
    await send(out, head(JSON + pauses + b"content-length: 2\r\n", b"429 Too Many Requests"), b"{}")


@attack
async def deep_json(out: Writer) -> None:
    """Events nested a million deep."""
    await send(out, head(STREAM))
    await endless(out, b'data: {"choices":' + b"[" * MEGABYTE + b"\n\n")


@attack
async def endless_headers(out: Writer) -> None:
    """Headers without end."""
    await send(out, b"HTTP/1.1 200 OK\r\n")
    await endless(out, b"x-more: and more\r\n")


@attack
async def endless_header(out: Writer) -> None:
    """One header without end."""
    await send(out, b"HTTP/1.1 200 OK\r\nx-more: ")
    await endless(out, b"x" * BLOCK)


@attack
async def endless_interim_answers(out: Writer) -> None:
    """Interim answers (100 Continue) without end, before the answer."""
    await endless(out, b"HTTP/1.1 100 Continue\r\n\r\n")


@attack
async def endless_chunk_extension(out: Writer) -> None:
    """A chunked body whose first chunk has an extension without end."""
    await send(out, head(STREAM + b"transfer-encoding: chunked\r\n"), b"5;")
    await endless(out, b"x" * BLOCK)


@attack
async def endless_trailers(out: Writer) -> None:
    """A chunked body with trailers without end."""
    await send(out, head(STREAM + b"transfer-encoding: chunked\r\n"), b"0\r\n")
    await endless(out, b"x-more: and more\r\n")


@attack
async def huge_embedding(out: Writer) -> None:
    """A vector of three million numbers."""
    vector = b"[0" + b",1" * 3_000_000 + b"]"
    body = b'{"data":[{"index":0,"embedding":' + vector + b"}]}"
    await send(out, head(JSON + b"content-length: %d\r\n" % len(body)), body)


@attack
async def many_embeddings(out: Writer) -> None:
    """Vectors for one text without end."""
    await send(out, head(JSON), b'{"data":[{"index":0,"embedding":[1]}')
    await endless(out, b',{"index":0,"embedding":[1]}')


@attack
async def inflated_embedding(out: Writer) -> None:
    """A compressed vector: less than a megabyte that becomes 700."""
    body = inflated(b'{"data":[{"embedding":[0', b",1", b"]}]}", INFLATED_MB)
    await send(out, head(JSON + GZIP), body)


@attack
async def silent(out: Writer) -> None:
    """Takes the request and answers nothing."""
    del out
    await asyncio.sleep(3600)


@attack
async def redirects(out: Writer) -> None:
    """Redirects to itself."""
    there = b"location: /v1/chat/completions\r\ncontent-length: 0\r\n"
    await send(out, head(there, b"307 Temporary Redirect"))


@attack
async def second_answer(out: Writer) -> None:
    """Behind the end of the answer another one, and so on without end."""
    await send(out, head(STREAM))
    answer = event({"content": "one"}) + event({}, "stop") + b"data: [DONE]\n\n"
    await endless(out, answer + head(STREAM) + answer)


@attack
async def cut_at_once(out: Writer) -> None:
    """Closes the connection after the first piece."""
    await send(out, head(STREAM), event({"content": "one"}))


async def read(reader: asyncio.StreamReader) -> Asked | None:
    """The next request; None where it is a GET. Raises IncompleteReadError at the end."""
    top = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(top)
    if length is None:
        return None
    body = orjson.loads(await reader.readexactly(int(length[1])))
    messages = body.get("messages") or [{"content": ""}]
    question = messages[-1]["content"]
    return Asked(body["model"], str(question), bool(body.get("stream")))


async def talk(reader: asyncio.StreamReader, out: Writer) -> None:
    """One connection, until either side ends it."""
    try:
        while True:
            asked = await read(reader)
            if asked is None:
                await send(out, head(b"content-length: 0\r\n"))
            elif asked.model in ATTACKS:
                await ATTACKS[asked.model](out)
                return
            elif not await honest(out, asked):
                return
    except (OSError, asyncio.IncompleteReadError):
        pass  # the client has had enough
    finally:
        out.close()


async def serve(port: int) -> None:
    async with await asyncio.start_server(talk, HOST, port, limit=16 * MEGABYTE) as server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--nice", type=int, default=0, help="how far it gives way to others")
    given = parser.parse_args()
    os.nice(given.nice)
    uvloop.run(serve(given.port))


if __name__ == "__main__":
    main()
