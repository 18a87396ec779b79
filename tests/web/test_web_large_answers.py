"""Large answers: the same bytes as small ones, in bounded memory, and refused where it is full."""

import asyncio
import gc
import json
import re
import socket
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.types import Message

from asyncsvc.errors import ReadRefused
from asyncsvc.storage import texts
from asyncsvc.storage.entries import Commit
from asyncsvc.tasks.state import State
from asyncsvc.web.http import body_memory, large_answers
from asyncsvc.web.http.connections import Connections
from asyncsvc.web.http.state import Services
from asyncsvc.web.http.streaming import Streamed
from asyncsvc.web.tasks import views, whole_task
from tests.builders import store_at
from tests.polling import until
from tests.storage.stored import task
from tests.web.serving import Service, expect, refused, serving
from tests.web.wire import head

MIXED = 'a"\\\n\x01é中😀\u2028'
"""Of one to four bytes in UTF-8, with and without an escape in JSON."""
LATER = {"run_at": "2099-01-01T00:00:00Z"}


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """Its texts are read in pieces of seven bytes, so that each kind of cut occurs."""
    monkeypatch.setattr(texts, "PIECE_BYTES", 7)
    monkeypatch.setattr(texts, "PAGE_BYTES", 40)
    async with serving(tmp_path) as service:
        yield service


@pytest.fixture
def wholes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What each answer with a task would be if it were made as a whole."""
    found: list[bytes] = []
    before = whole_task.answer

    async def noted(services: Services, task: Any, method: str) -> Any:
        found.append(orjson.dumps(await views.whole(services, task)))
        return await before(services, task, method)

    monkeypatch.setattr(whole_task, "answer", noted)
    return found


def timeless(whole: bytes) -> bytes:
    """The task without the trace of an unfinished one, which grows with time."""
    return re.sub(rb'"spans":\[\[.*?\]\]', b"", whole)


@pytest.mark.parametrize(
    "fields",
    [
        {"content": MIXED},
        {"content": "x"},
        {"content": MIXED, "model": "fast"},
        {"messages": [{"role": "user", "content": MIXED}], "params": {"temperature": 0.5}},
        {"type": "embedding", "input": [MIXED, "b"], "model": "embed"},
    ],
    ids=["content", "short", "model", "messages", "vectors"],
)
@pytest.mark.parametrize("runs", [True, False])
async def test_a_task_read_in_pieces_is_the_same(
    service: Service, wholes: list[bytes], fields: dict[str, Any], runs: bool
) -> None:
    more = {} if runs else LATER
    made = expect(await service.http.post("/tasks", json=fields | more), 202)["task_id"]
    if runs:
        await service.done(made)
    answer = await service.http.get(f"/tasks/{made}")
    assert timeless(answer.content) == timeless(wholes[-1])
    assert answer.headers["content-type"] == "application/json"
    assert "content-length" not in answer.headers


async def test_the_text_so_far_is_the_same_in_pieces(service: Service, wholes: list[bytes]) -> None:
    task_id = await service.speaking("x [[sim:tokens=100000]]", model="fast")

    async def so_far() -> dict[str, Any]:
        return await service.task(task_id)

    await until(so_far, lambda task: len(task["result"] or "") > 200)
    paused = await service.steer(task_id, "pause")
    assert timeless(paused.content) == timeless(wholes[-1])
    assert (await service.task(task_id))["result"] == paused.json()["result"]


async def test_a_large_task_has_the_head_of_a_small_one(service: Service) -> None:
    task_id = await service.submit(MIXED, **LATER)
    answer = await service.http.head(f"/tasks/{task_id}")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_task_that_goes_in_the_middle_cuts_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(texts, "PIECE_BYTES", 64 * 1024)
    async with serving(tmp_path) as service:
        task_id = await service.submit("é\n" * 2_000_000, **LATER)
        await service.steer(task_id, "cancel")
        async with _asking(service, f"/tasks/{task_id}") as stream:
            data = await asyncio.get_running_loop().sock_recv(stream, 1000)
            assert data.startswith(b"HTTP/1.1 200")
            assert (await service.http.delete(f"/tasks/{task_id}")).status_code == 204
            with suppress(ConnectionResetError):
                data += await _rest(stream)
            assert not data.endswith(b"0\r\n\r\n")
        assert "the task was deleted while it was being read" in caplog.text


async def test_pieces_of_two_results_are_never_joined(tmp_path: Path) -> None:
    async with store_at(tmp_path / "x.db") as store:
        done = replace(task(1, State.COMPLETED), version=3)
        await store.commit(Commit(created=[(done, b"{}")], results={1: "é" * texts.PIECE_BYTES}))
        first = await store.texts.result(1)
        assert first is not None
        assert (first.end, first.size) == (texts.PIECE_BYTES, 2 * texts.PIECE_BYTES)
        assert await store.texts.result(1, first.end, first.version) is not None
        await store.commit(Commit(changed=[(done, replace(done, version=4))], results={1: "new"}))
        with pytest.raises(ReadRefused, match="started anew"):
            await store.texts.result(1, first.end, first.version)


class _asking:
    """A client that has sent its request and reads only when a test does."""

    def __init__(self, service: Service, path: str) -> None:
        self._service = service
        self._path = path
        self._socket = socket.socket()

    async def __aenter__(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)
        await loop.sock_connect(self._socket, ("127.0.0.1", self._service.port))
        await loop.sock_sendall(self._socket, head("GET", self._path))
        return self._socket

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()


async def _rest(stream: socket.socket) -> bytes:
    loop, found = asyncio.get_running_loop(), b""
    async with asyncio.timeout(30):
        while part := await loop.sock_recv(stream, 1 << 20):
            found += part
    return found


async def test_of_an_answer_that_is_left_nothing_waits_for_the_garbage_collector() -> None:
    left = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a large piece"
        await asyncio.Event().wait()

    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message.get("body"):
            left.set()

    streamed = Streamed(pieces())
    held = weakref.ref(streamed)
    gc.collect()
    gc.disable()
    try:
        await streamed({"type": "http", "method": "GET", "path": "/"}, receive, send)
        del streamed
        await asyncio.sleep(0)  # the step of the event loop in which it ended holds it
        assert held() is None
    finally:
        gc.enable()


@pytest.mark.slow
async def test_readers_that_do_not_read_leave_room_when_they_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connections.__init__, "__defaults__", (8.0,))
    monkeypatch.setattr(body_memory, "PATIENCE_S", 0.1)
    monkeypatch.setattr(large_answers, "PIECE_ROOM", 4 << 20)
    monkeypatch.setattr(body_memory, "FACTOR", 1 << 40)  # room for one body, whatever the memory
    async with serving(tmp_path, queue={"max_task_bytes": 8 << 20}) as service:
        task_id = await service.submit("é\n" * 2_000_000, **LATER)
        path = f"/tasks/{task_id}"
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(_asking(service, path))

            async def once_more() -> Any:
                return await service.http.get(path)

            answer = await until(once_more, lambda answer: answer.status_code == 503)
            refused(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            assert (await service.http.get("/tasks?limit=1")).status_code == 200
            # What has been done must be acknowledged: such an answer waits for room.
            cancelled = await service.steer(task_id, "cancel")
            assert expect(cancelled, 200)["status"] == "cancelled"
            answer = await until(once_more, lambda answer: answer.status_code == 200)
            assert len(answer.json()["content"]) == 4_000_000


async def test_exports_with_a_page_in_memory_are_few(tmp_path: Path) -> None:
    async with serving(tmp_path, queue={"max_task_bytes": 8 << 20}) as service:
        await service.submit("é\n" * 2_000_000, **LATER)
        loop = asyncio.get_running_loop()
        async with _asking(service, "/admin/export") as first:
            async with _asking(service, "/admin/export") as second:
                for stream in (first, second):
                    assert (await loop.sock_recv(stream, 12)).startswith(b"HTTP/1.1 200")
                async with _asking(service, "/admin/export") as third:
                    waiting = asyncio.create_task(loop.sock_recv(third, 12))
                    assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
                    second.close()
                    assert (await waiting).startswith(b"HTTP/1.1 200")
            first.close()
        answer = await service.http.get("/admin/export")
        assert len(answer.json()["content"]) == 4_000_000


async def test_a_reader_of_a_byte_now_and_then_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(large_answers, "SENT_WITHIN_S", 0.3)
    async with serving(tmp_path) as service:
        task_id = await service.submit("é\n" * 2_000_000, **LATER)
        async with _asking(service, f"/tasks/{task_id}") as stream:
            loop = asyncio.get_running_loop()

            async def byte() -> str:
                await loop.sock_recv(stream, 1)
                return caplog.text

            await until(byte, lambda log: "less than 65536 bytes" in log)


async def test_a_long_text_is_several_events_below_a_mebibyte(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        first = await service.submit("hello", model="fast")
        done = await service.done(first)
        line = json.loads((await service.http.get("/admin/export")).text)
        text = "\x01" * 500_000
        line |= {"task_id": "00000000-0000-4000-8000-000000000000", "result": text}
        sent = await service.http.post("/admin/import", content=json.dumps(line))
        assert expect(sent, 200)["imported"] == 1, done
        answer = await service.http.get(f"/tasks/{line['task_id']}/events")
        lines = answer.text.splitlines()
        assert max(map(len, lines)) < 1 << 20
        chunks = [e["data"]["text"] for e in map(json.loads, lines) if e["type"] == "chunk"]
        assert "".join(chunks) == text
        assert (await service.task(line["task_id"]))["result"] == text


@pytest.mark.parametrize("tokens", [10, 200_000])
async def test_completions_and_responses_hold_all_of_a_text(tmp_path: Path, tokens: int) -> None:
    limits = {"memory_mb": 100_000, "disk_free_mb": 0, "loop_lag_ms": 0, "answer_mb": 256}
    async with serving(tmp_path, limits=limits) as service:
        content = f"x [[sim:tokens={tokens}]][[sim:rate=0]]"
        chat = {"model": "fast", "messages": [{"role": "user", "content": content}]}
        answer = await service.http.post("/v1/chat/completions", json=chat)
        text = expect(answer, 200)["choices"][0]["message"]["content"]
        assert text == (await service.task(answer.headers["x-task-id"]))["result"]
        legacy = {"model": "fast", "prompt": content}
        answer = await service.http.post("/v1/completions", json=legacy)
        text = expect(answer, 200)["choices"][0]["text"]
        assert text == (await service.task(answer.headers["x-task-id"]))["result"]
        asked = {"model": "fast", "input": content}
        made = expect(await service.http.post("/v1/responses", json=asked), 200)
        again = expect(await service.http.get(f"/v1/responses/{made['id']}"), 200)
        task = await service.task(made["id"].removeprefix("resp_"))
        assert again["output"] == made["output"]
        assert made["output"][0]["content"][0]["text"] == task["result"]
        stream = await service.http.get(f"/v1/responses/{made['id']}?stream=true")
        last = json.loads(stream.text.split("data: ")[-1])
        assert last["response"]["output"] == made["output"]
