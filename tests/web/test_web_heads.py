"""Heads of requests: what has two readings is refused, and trailers are no headers."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from asyncsvc.web.http.heads import FIELDS_MOST
from tests.web.serving import Service, serving
from tests.web.wire import head, post, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "authorization: Bearer right"
TASK = b'{"content": "x", "model": "fast"}'
CHUNKS = b"%x\r\n%s\r\n0\r\n" % (len(TASK), TASK)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    environ = {"ASYNCSVC_TOKENS": "right"}
    async with serving(tmp_path_factory.mktemp("guarded"), environ) as service:
        yield service


def chunks(*lines: str, trailers: bytes = b"") -> bytes:
    """A task in one chunk, with trailers behind it."""
    sent = head("POST", "/tasks", "transfer-encoding: chunked", *lines)
    return sent + CHUNKS + trailers + b"\r\n"


def versioned(version: bytes, request: bytes) -> bytes:
    return request.replace(b" HTTP/1.1", version, 1)


LIVEZ = head("GET", "/livez")
BARE = b"GET /tasks HTTP/1.1\r\n" + TOKEN.encode() + b"\r\n"
OURS = "host: 127.0.0.1"
REFUSED: dict[str, bytes] = {
    "two hosts": head("GET", "/tasks", OURS, "host: evil.example", TOKEN),
    "the same host twice": head("GET", "/tasks", OURS, OURS, TOKEN),
    "no host": BARE + b"\r\n",
    "a host with a user": head("GET", "/tasks", "host: evil@127.0.0.1", TOKEN),
    "a host with a path": head("GET", "/tasks", "host: 127.0.0.1/x", TOKEN),
    "a list of hosts": head("GET", "/tasks", "host: 127.0.0.1, evil", TOKEN),
    "half an address": head("GET", "/tasks", "host: [::1", TOKEN),
    "a port of letters": head("GET", "/tasks", "host: 127.0.0.1:x", TOKEN),
    "a user in the target": head("GET", "http://u@127.0.0.1/tasks", OURS, TOKEN),
    "another scheme": head("GET", "ftp://127.0.0.1/tasks", OURS, TOKEN),
    "no authority": head("GET", "http:///tasks", OURS, TOKEN),
    "a fragment": head("GET", "/tasks#x", OURS, TOKEN),
    "the authority form": head("CONNECT", "127.0.0.1:80", OURS, TOKEN),
    "the asterisk form": head("OPTIONS", "*", OURS, TOKEN),
    "an asterisk": head("GET", "*", OURS, TOKEN),
    "a relative path": head("GET", "tasks", OURS, TOKEN),
    "two tokens": head("GET", "/tasks", TOKEN, "authorization: Bearer wrong"),
    "two origins": post("/tasks", TASK, TOKEN, "origin: http://127.0.0.1", "origin: http://evil"),
    "two users": post("/tasks", TASK, TOKEN, "x-user: a", "x-user: b"),
    "two keys": post("/tasks", TASK, TOKEN, "idempotency-key: a", "idempotency-key: b"),
    "two types": post("/tasks", TASK, TOKEN, "content-type: a/b", "content-type: a/c"),
    "two lengths": post("/tasks", TASK, TOKEN, f"content-length: {len(TASK)}"),
    "a list of lengths": head("POST", "/tasks", TOKEN, "content-length: 3, 3") + b"{}\n",
    "a signed length": head("POST", "/tasks", TOKEN, "content-length: +2") + b"{}",
    "length and chunks": chunks(TOKEN, "content-length: 3"),
    "an unknown coding": head("POST", "/tasks", TOKEN, "transfer-encoding: xchunked") + CHUNKS,
    "chunks in HTTP/1.0": versioned(b" HTTP/1.0", chunks(TOKEN)),
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/1.2": versioned(b" HTTP/1.2", LIVEZ),
    "a folded line": head("GET", "/tasks", "authorization: Bearer\r\n right"),
    "a NUL": head("GET", "/tasks", TOKEN, "x: a\0b"),
    "a control character": head("GET", "/tasks", TOKEN, "x: a\x01b"),
    "a bare CR": head("GET", "/tasks", TOKEN, "x: a\rb"),
    "a space before the colon": head("GET", "/tasks", TOKEN, "x : a"),
    "a chunk of no length": head("POST", "/tasks", TOKEN, "transfer-encoding: chunked") + b"-1\r\n",
    "a length in a trailer": chunks(TOKEN, trailers=b"content-length: 5\r\n"),
    "a coding in a trailer": chunks(TOKEN, trailers=b"transfer-encoding: chunked\r\n"),
    "the end in a trailer": chunks(TOKEN, trailers=b"connection: close\r\n"),
    "the end in a trailer for a proxy": chunks(TOKEN, trailers=b"proxy-connection: close\r\n"),
    "an upgrade in a trailer": chunks(TOKEN, trailers=b"upgrade: websocket\r\n"),
    "33 trailers": chunks(TOKEN, trailers=b"x: y\r\n" * 33),
    "a long trailer": chunks(TOKEN, trailers=b"x: " + b"y" * 9000 + b"\r\n"),
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
async def test_a_request_with_two_readings_is_refused(guarded: Service, sent: bytes) -> None:
    async with wire(guarded.port) as line:
        answer = await line.ask(sent)
        assert (answer.status, answer.code()) == (400, "invalid_http")
        assert answer.headers["x-content-type-options"] == "nosniff"
        async with asyncio.timeout(20):
            assert await line.reader.read() == b""


async def test_an_absolute_target_names_the_host(guarded: Service) -> None:
    async with wire(guarded.port) as line:
        ours = await line.ask(head("GET", "http://127.0.0.1/tasks", "host: evil.example", TOKEN))
        assert ours.status == 200
        assert (await line.ask(head("GET", "http://localhost", TOKEN))).status == 200
        asked = await line.ask(head("GET", "HTTP://localhost?x=1", "accept: application/json"))
        assert asked.status == 200
        other = await line.ask(head("GET", "http://evil.example/tasks", OURS, TOKEN))
        assert (other.status, other.code()) == (403, "forbidden_host")


async def test_an_absolute_target_names_the_host_of_a_socket(guarded: Service) -> None:
    sent = head(
        "GET", "http://evil.example/ws", OURS, TOKEN, "upgrade: websocket", "connection: upgrade",
        "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    async with wire(guarded.port) as line:
        assert (await line.ask(sent)).status == 101
        async with asyncio.timeout(20):
            assert (await line.reader.readexactly(4))[2:] == (1008).to_bytes(2, "big")


@pytest.mark.parametrize("path", ["//evil.example/tasks", "/livez/../tasks", "/docs/%2e%2e/tasks",
                                  "/tasks/a%00b", "/tasks/a%2fevents", "/tasks/%ff",
                                  "/tasks/%zz", "/livez;x"])  # fmt: skip
async def test_odd_paths_name_nothing(guarded: Service, path: str) -> None:
    async with wire(guarded.port) as line:
        assert (await line.ask(head("GET", path))).status == 401
        answer = await line.ask(head("GET", path, TOKEN))
        assert answer.status == 404
        assert "location" not in answer.headers


async def test_trailers_are_dropped(guarded: Service) -> None:
    async with wire(guarded.port) as line:
        bare = await line.ask(chunks(trailers=TOKEN.encode() + b"\r\n"))
        assert (bare.status, bare.code()) == (401, "unauthorized")
        key = b"idempotency-key: k\r\nx-user: other\r\ncontent-encoding: gzip\r\n"
        ids = [(await line.ask(chunks(TOKEN, trailers=key))).json()["task_id"] for _ in range(2)]
        assert ids[0] != ids[1]
        assert (await line.ask(LIVEZ)).status == 200


@pytest.mark.parametrize("size", [b"000000", b""])
@pytest.mark.parametrize("extension", [b";a=b", b";a", b""])
async def test_zeros_and_extensions_of_chunks_are_read(
    guarded: Service, size: bytes, extension: bytes
) -> None:
    first = b"%b%x%b\r\n{" % (size, len(TASK), extension)
    sent = chunks(TOKEN).replace(b"%x\r\n{" % len(TASK), first)
    async with wire(guarded.port) as line:
        assert (await line.ask(sent)).status == 202


async def test_a_body_in_chunks_of_a_byte_is_read(guarded: Service) -> None:
    body = b'{"content": "%s", "model": "fast"}' % (b"x" * 10_000)
    framed = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    async with wire(guarded.port) as line:
        sent = head("POST", "/tasks", TOKEN, "transfer-encoding: chunked")
        assert (await line.ask(sent + framed + b"0\r\n\r\n")).status == 202


async def test_a_body_that_nothing_asks_for_is_read_and_dropped(guarded: Service) -> None:
    for method in ("GET", "HEAD"):
        async with wire(guarded.port) as line:
            sent = head(method, "/livez", "content-length: 5") + b"hello"
            assert (await line.ask(sent)).status == 200
            assert (await line.ask(LIVEZ)).status == 200


async def test_too_many_header_fields_are_refused(guarded: Service) -> None:
    for count, status in ((FIELDS_MOST - 1, 200), (FIELDS_MOST, 431)):
        async with wire(guarded.port) as line:
            answer = await line.ask(head("GET", "/livez", *["x: y"] * count))
            assert answer.status == status


async def test_a_handshake_that_websockets_cannot_read_is_refused(guarded: Service) -> None:
    sent = head(
        "GET", "/ws?" + "x" * 9000, TOKEN, "upgrade: websocket", "connection: upgrade",
        "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    async with wire(guarded.port) as line:
        answer = await line.ask(sent)
        assert (answer.status, answer.code()) == (400, "invalid_http")
