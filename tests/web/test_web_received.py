"""Requests as clients really send them: compressed, with a byte order mark, offering HTTP/2."""

import asyncio
import gzip
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.exceptions import ConnectionClosed

from asyncsvc.web.http.body import MEMBERS_MOST
from tests.web.serving import Service, expect, message, refused, serving
from tests.web.wire import chunked, head, post, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOM = b"\xef\xbb\xbf"
BODY = orjson.dumps({"content": "hello", "delay_s": 60})
CHAT = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}]})
H2C = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB"]


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


async def posted(service: Service, body: bytes, encoding: str, path: str = "/tasks") -> Any:
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    return await service.http.post(path, content=body, headers=headers)


# An offer of another protocol ------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines", [H2C, [H2C[0].lower(), "upgrade: H2C"], ["connection: upgrade", "upgrade: tls/1.0"]]
)
async def test_a_body_after_an_offer_of_another_protocol_is_read(
    service: Service, lines: list[str]
) -> None:
    async with wire(service.port) as line:
        for _ in range(2):
            answer = await line.ask(post("/tasks", BODY, *lines))
            assert answer.status == 202, answer.body
        assert (await line.ask(head("GET", "/livez"))).status == 200, "the connection stays usable"
        task = (await line.ask(head("GET", f"/tasks/{answer.json()['task_id']}"))).json()
        assert task["content"] == "hello"


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_the_offer_and_the_body_may_come_in_pieces(service: Service, size: int) -> None:
    sent = post("/tasks", BODY, *H2C)
    async with wire(service.port) as line:
        for start in range(0, len(sent), size):
            line.writer.write(sent[start : start + size])
            await line.writer.drain()
            await asyncio.sleep(0)
        assert (await line.answer()).status == 202


async def test_a_chunked_body_after_an_offer_is_read(service: Service) -> None:
    sent = chunked("/tasks", BODY, 5).replace(
        b"\r\n", "\r\n{}\r\n".format("\r\n".join(H2C)).encode(), 1
    )
    async with wire(service.port) as line:
        assert (await line.ask(sent)).status == 202


async def test_large_bodies_and_other_routes_after_an_offer(service: Service) -> None:
    large = orjson.dumps({"content": "x" * 300_000, "delay_s": 60})
    async with wire(service.port) as line:
        assert (await line.ask(post("/tasks", large, *H2C))).status == 202
        assert (await line.ask(post("/v1/chat/completions", CHAT, *H2C))).status == 200
        assert (await line.ask(head("GET", "/livez", *H2C))).status == 200


async def test_requests_behind_one_another_keep_their_order(service: Service) -> None:
    async with wire(service.port) as line:
        line.writer.write(post("/tasks", BODY, *H2C) + head("GET", "/livez") + post("/tasks", BODY))
        assert [(await line.answer()).status for _ in range(3)] == [202, 200, 202]


async def test_a_websocket_is_still_one(service: Service) -> None:
    async with service.ws() as socket:
        await socket.send('{"op": "ping"}')
        assert (await message(socket))["pong"]


async def test_connect_is_no_offer(service: Service) -> None:
    async with wire(service.port) as line:
        answer = await line.ask(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert 400 <= answer.status < 500


# A byte order mark -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tasks", BODY, 202),
        ("/tasks", orjson.dumps({"content": "x" * 50_000, "delay_s": 60}), 202),
        ("/tasks/batch", b'{"tasks": [' + BODY + b"]}", 202),
        ("/route", BODY, 200),
        ("/v1/chat/completions", CHAT, 200),
        ("/v1/responses", b'{"model": "auto", "input": "hi"}', 200),
        ("/v1/embeddings", b'{"model": "embed", "input": "hi"}', 200),
    ],
)
async def test_a_byte_order_mark_is_no_part_of_a_body(
    service: Service, path: str, body: bytes, status: int
) -> None:
    expect(await service.http.post(path, content=BOM + body), status)


async def test_a_byte_order_mark_over_a_websocket(service: Service) -> None:
    async with service.ws() as socket:
        for mark in ("\ufeff", BOM):
            op = '{"op": "ping"}'
            await socket.send(mark + op if isinstance(mark, str) else mark + op.encode())
            assert (await message(socket))["pong"]


async def test_a_mark_alone_or_twice_is_no_json(service: Service) -> None:
    for body in (BOM, BOM + BOM + BODY):
        refused(await service.http.post("/tasks", content=body), 400, "invalid_json")


# Compressed bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
        ("identity, gzip", gzip.compress),
    ],
)
@pytest.mark.parametrize("size", [1, 60_000, 3_000_000])
async def test_a_compressed_body_is_inflated(
    service: Service, encoding: str, pack: Any, size: int
) -> None:
    body = orjson.dumps({"content": "x" * size, "delay_s": 60})
    taken = expect(await posted(service, pack(body), encoding), 202)
    assert (await service.task(taken["task_id"]))["content"] == "x" * size


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tasks/batch", b'{"tasks": [' + BODY + b"]}", 202),
        ("/v1/chat/completions", CHAT, 200),
        ("/v1/responses", b'{"model": "auto", "input": "hi"}', 200),
        ("/v1/embeddings", b'{"model": "embed", "input": "hi"}', 200),
        ("/admin/import", b"\n", 200),
    ],
)
async def test_every_door_takes_gzip(service: Service, path: str, body: bytes, status: int) -> None:
    expect(await posted(service, gzip.compress(body), "gzip", path), status)
    if path != "/admin/import":
        expect(await posted(service, gzip.compress(BOM + body), "gzip", path), status)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "x"])
@pytest.mark.parametrize("path", ["/tasks", "/v1/chat/completions"])
async def test_an_unknown_encoding_is_refused(service: Service, encoding: str, path: str) -> None:
    answer = await posted(service, BODY, encoding, path)
    assert refused(answer, 415, "unsupported_encoding")["param"] == "Content-Encoding"


async def test_the_refusal_names_what_is_known(service: Service) -> None:
    answer = await posted(service, BODY, "br")
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        gzip.compress(BODY)[:-9],
        gzip.compress(BODY) + b"more",
        gzip.compress(b"") * (MEMBERS_MOST + 1),
        gzip.compress(BODY)[:-4] + b"\0\0\0\0",
    ],
    ids=["plain", "cut", "followed", "many", "wrong length"],
)
async def test_a_broken_gzip_body_is_refused(service: Service, body: bytes) -> None:
    refused(await posted(service, body, "gzip"), 400, "invalid_json")


async def test_no_more_than_the_limit_is_inflated(tmp_path: Path) -> None:
    async with serving(tmp_path, queue={"max_task_bytes": 100_000}) as service:
        largest = orjson.dumps({"content": "x", "delay_s": 60}).ljust(100_000)
        expect(await posted(service, gzip.compress(largest), "gzip"), 202)
        for size in (100_001, 500_000_000):
            packer = zlib.compressobj(wbits=31)
            bomb = b"".join(
                packer.compress(b" " * min(1_000_000, size - at))
                for at in range(0, size, 1_000_000)
            )
            answer = await posted(
                service, bomb[:90_000] if size > 10**6 else bomb + packer.flush(), "gzip"
            )
            refused(answer, 413, "task_too_large")


async def test_a_compressed_form_is_refused(service: Service) -> None:
    refused(await posted(service, b"x", "gzip", "/v1/files"), 415, "unsupported_encoding")


# WebSocket messages ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    "sent", [b"\xff\xfe", b'{"op": "ping", "ref": "\xc3\x28"}', b"\xed\xa0\x80"]
)
async def test_what_is_not_utf_8_closes_a_websocket_with_1007_and_without_a_traceback(
    service: Service, sent: bytes, text: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with service.ws() as socket:
        await socket.send(sent, text=text)
        with pytest.raises(ConnectionClosed) as end:
            while True:
                await message(socket)
    assert end.value.rcvd is not None
    assert end.value.rcvd.code == 1007
    assert "Traceback" not in caplog.text


async def test_bytes_that_are_utf_8_are_a_message(service: Service) -> None:
    async with service.ws() as socket:
        await socket.send('{"op": "ping", "ref": "你"}'.encode())
        assert (await message(socket))["ref"] == "你"
