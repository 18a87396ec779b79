"""Clients that do not read a streamed answer: let go, and none is in the way of another."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from asyncsvc.web.http import connections, slow_readers
from asyncsvc.web.http.connections import Connections
from tests.polling import until
from tests.web.serving import Service, serving
from tests.web.wire import head, post, wire

pytestmark = pytest.mark.slow

STALL_S = 0.5
"""Instead of five seconds, so that a test need not wait for them."""
MOST = 40
MUCH = "x [[sim:tokens=200000]][[sim:rate=0]]"
ENDLESS = "x [[sim:tokens=100000000]][[sim:rate=0]]"
LIVE = "accept: text/event-stream"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connections.__init__, "__defaults__", (STALL_S,))


@asynccontextmanager
async def asking(service: Service, request: bytes) -> AsyncIterator[socket.socket]:
    """A client that has sent its request and reads only when a test does."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.setblocking(False)
        await loop.sock_connect(stream, ("127.0.0.1", service.port))
        await loop.sock_sendall(stream, request)
        yield stream


async def rest(stream: socket.socket) -> bytes:
    """All that still comes until the server closes."""
    loop, found = asyncio.get_running_loop(), b""
    async with asyncio.timeout(30):
        try:
            while part := await loop.sock_recv(stream, 1 << 20):
                found += part
        except ConnectionResetError:
            pass
    return found


async def large(service: Service) -> dict[str, bytes]:
    """Requests whose answers are larger than what the kernel takes, by name."""
    task_id = await service.submit(MUCH)
    await service.done(task_id)
    data = b'{"x": 1}\n' * 400_000
    made = await service.http.post(
        "/v1/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", data)}
    )
    backup = await service.http.post("/admin/backup")
    chat = {"model": "fast", "messages": [{"role": "user", "content": ENDLESS}], "stream": True}
    reply = {"model": "fast", "input": ENDLESS, "stream": True}
    return {
        "events live": head("GET", f"/tasks/{task_id}/events", LIVE),
        "events as lines": head("GET", f"/tasks/{task_id}/events"),
        "a task": head("GET", f"/tasks/{task_id}"),
        "an export": head("GET", "/admin/export"),
        "a backup": head("GET", backup.headers["location"]),
        "a file": head("GET", f"/v1/files/{made.json()['id']}/content"),
        "a chat": post("/v1/chat/completions", json.dumps(chat).encode()),
        "a response": post("/v1/responses", json.dumps(reply).encode()),
    }


async def let_go(caplog: pytest.LogCaptureFixture) -> None:
    """Until the server has disconnected a client that does not read."""

    async def text() -> str:
        return caplog.text

    await until(text, lambda log: "does not read its answer" in log)


async def free(service: Service) -> bool:
    """Whether one more connection is served."""
    async with wire(service.port) as line:
        return (await line.ask(head("GET", "/tasks?limit=1"))).status == 200


async def test_forty_that_do_not_read_do_not_shut_the_service(
    tmp_path: Path, impatient: None
) -> None:
    async with (
        serving(tmp_path, server={"max_connections": MOST}, concurrency=MOST) as service,
        AsyncExitStack() as stack,
    ):
        requests = list((await large(service)).values())
        await service.http.aclose()
        for number in range(MOST):
            request = requests[number % len(requests)]
            if number % 3 == 0:
                request += b"GET /tasks HTTP/1.1\r\nx: "  # the head of one more has begun
            await stack.enter_async_context(asking(service, request))
        await until(lambda: free(service), bool)


async def test_a_fault_in_the_look_at_one_connection_does_not_spare_the_others(
    tmp_path: Path,
    impatient: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, connections.__name__)
    look = connections.Connection.look

    def faulty(connection: connections.Connection, elapsed_s: float) -> None:
        if connection.transport.get_extra_info("peername")[1] == first.getsockname()[1]:
            raise RuntimeError("not expected")
        look(connection, elapsed_s)

    async with serving(tmp_path) as service:
        requests = await large(service)
        await service.http.aclose()
        async with asking(service, requests["a task"]) as first:
            monkeypatch.setattr(connections.Connection, "look", faulty)
            async with asking(service, requests["a task"]):
                await rest(first)
                await let_go(caplog)
    assert "a fault of ours" in caplog.text


@pytest.mark.parametrize("number", range(8))
async def test_each_kind_of_answer_is_cut_before_its_end(
    tmp_path: Path, impatient: None, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, connections.__name__)
    async with serving(tmp_path) as service:
        name, request = list((await large(service)).items())[number]
        async with asking(service, request) as stream:
            await let_go(caplog)
            data = await rest(stream)
        answer, _, body = data.partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), name
        length = [line for line in answer.lower().split(b"\r\n") if b"content-length" in line]
        if length:
            assert len(body) < int(length[0].rpartition(b":")[2]), name
        else:
            assert not body.endswith(b"0\r\n\r\n"), name


async def test_the_task_of_a_chat_that_is_not_read_is_cancelled(
    tmp_path: Path, impatient: None
) -> None:
    async with serving(tmp_path) as service:
        chat = {"model": "fast", "messages": [{"role": "user", "content": ENDLESS}]}
        request = post("/v1/chat/completions", json.dumps(chat | {"stream": True}).encode())

        async def states() -> list[str]:
            found = (await service.http.get("/tasks")).json()["tasks"]
            return [task["status"] for task in found]

        async with asking(service, request):
            await until(states, lambda found: found == ["cancelled"])


async def test_it_comes_back_with_its_cursor_and_has_lost_nothing(
    tmp_path: Path, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, connections.__name__)
    async with serving(tmp_path) as service:
        task_id = await service.submit(MUCH)
        await service.done(task_id)
        request = head("GET", f"/tasks/{task_id}/events", LIVE)
        async with asking(service, request) as stream:
            await let_go(caplog)
            data = await rest(stream)
        seen = [int(line[4:]) for line in data.split(b"\n") if line.startswith(b"id: ")]
        headers = {"accept": "text/event-stream", "last-event-id": str(seen[-1])}
        answer = await service.http.get(f"/tasks/{task_id}/events", headers=headers)
        later = [int(line[4:]) for line in answer.text.split("\n") if line.startswith("id: ")]
        assert seen + later == list(range(1, (await service.task(task_id))["seq"] + 1))


async def test_one_that_reads_slowly_is_waited_for(tmp_path: Path, impatient: None) -> None:
    async with serving(tmp_path) as service:
        data = b'{"x": 1}\n' * 100_000
        made = await service.http.post(
            "/v1/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", data)}
        )
        request = head("GET", f"/v1/files/{made.json()['id']}/content")
        loop, found = asyncio.get_running_loop(), b""
        async with asking(service, request) as stream, asyncio.timeout(60):
            began = loop.time()
            while loop.time() - began < 6 * STALL_S:
                found += await loop.sock_recv(stream, 4096)
                await asyncio.sleep(STALL_S / 10)
            while len(found.partition(b"\r\n\r\n")[2]) < len(data):
                part = await loop.sock_recv(stream, 1 << 20)
                assert part, "the server has closed the connection"
                found += part
        assert found.partition(b"\r\n\r\n")[2] == data


async def test_an_answer_whose_end_is_not_read_does_not_hold_its_place(
    tmp_path: Path,
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All of it is written, and the server has begun to close the connection."""
    monkeypatch.setattr(slow_readers, "CLOSE_WITHIN_S", STALL_S)
    caplog.set_level(logging.INFO, connections.__name__)
    async with serving(tmp_path) as service:
        task_id = await service.submit("y" * 5_000_000, delay_s=3600)
        async with asking(service, head("GET", f"/tasks/{task_id}", "connection: close")):
            await let_go(caplog)


async def test_a_file_that_is_deleted_while_it_is_downloaded_comes_to_its_end(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as service:
        data = b'{"x": 1}\n' * 400_000
        made = await service.http.post(
            "/v1/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", data)}
        )
        path = f"/v1/files/{made.json()['id']}"
        async with asking(service, head("GET", f"{path}/content", "connection: close")) as stream:
            first = await asyncio.get_running_loop().sock_recv(stream, 1024)
            assert (await service.http.delete(path)).status_code == 200
            assert (await service.http.get(path)).status_code == 404
            found = first + await rest(stream)
        assert found.partition(b"\r\n\r\n")[2] == data

        async def pieces() -> int:
            return _pieces(tmp_path / "tasks.db")

        await until(pieces, lambda count: count == 0)


def _pieces(path: Path) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT COUNT(*) FROM pieces").fetchone()[0])


class Reader:
    """The transport of a client that takes so many bytes between two looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 1
        self.waiting = 100_000
        monkeypatch.setattr(slow_readers, "bytes_taken", lambda _: self.taken)
        monkeypatch.setattr(slow_readers, "waiting_bytes", lambda _: self.waiting)

    def cut_after(self, rate: int, most_s: int = 3600) -> int | None:
        """The seconds after which a client that takes `rate` bytes a second is let go."""
        slow = slow_readers.SlowReader(5.0)
        for second in range(1, most_s):
            self.taken += rate
            if slow.stalled(None, True, 1.0):  # type: ignore[arg-type]
                return second
        return None


def test_a_byte_a_second_is_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(monkeypatch)
    assert reader.cut_after(0) == 6
    assert reader.cut_after(1) == slow_readers.READ_S
    assert reader.cut_after(slow_readers.READ_RATE // 2) == slow_readers.READ_S
    assert reader.cut_after(slow_readers.READ_RATE) is None
    reader.waiting = 0
    assert reader.cut_after(1) is None


def test_where_the_system_counts_nothing_no_average_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = Reader(monkeypatch)
    reader.taken = -1_000_000
    assert reader.cut_after(1) is None


async def test_a_trickle_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(slow_readers, "READ_S", 2.0)
    monkeypatch.setattr(slow_readers, "READ_RATE", 1 << 20)
    caplog.set_level(logging.INFO, connections.__name__)
    async with serving(tmp_path) as service:
        loop = asyncio.get_running_loop()
        async with asking(service, (await large(service))["a file"]) as stream:
            dripping = asyncio.create_task(_drip(loop, stream))
            await let_go(caplog)
            dripping.cancel()


async def _drip(loop: asyncio.AbstractEventLoop, stream: socket.socket) -> None:
    while await loop.sock_recv(stream, 8192):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
