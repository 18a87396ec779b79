"""`POST /tasks` over raw connections: framing, pipelining, tokens, faults of the disk."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from asyncsvc.errors import StorageUnavailable
from asyncsvc.intake.intake import Intake
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.storage.database import Database
from asyncsvc.storage.entries import Commit
from asyncsvc.web.http.body_memory import SMALL
from tests.web.serving import Service, expect, serving
from tests.web.wire import Wire, chunked, head, post, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

TASK = orjson.dumps({"content": "hi", "model": "fast"})


class Disk:
    """Commits of new tasks wait until it is `ready`, and fail where `refusal` says why."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.ready = asyncio.Event(), asyncio.Event()
        self.refusal: str | None = None
        plain = Database.commit

        async def late(store: Database, batch: Commit) -> None:
            self.asked.set()
            await self.ready.wait()
            if self.refusal is not None:
                raise StorageUnavailable(self.refusal)
            await plain(store, batch)

        def commit(store: Database, batch: Commit) -> Awaitable[None]:
            return late(store, batch) if batch.created else plain(store, batch)

        monkeypatch.setattr(Database, "commit", commit)


@pytest_asyncio.fixture(loop_scope="module")
async def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def total(service: Service) -> int:
    return int(expect(await service.http.get("/tasks/stats"), 200)["total"])


async def gone(line: Wire) -> bool:
    async with asyncio.timeout(20):
        return await line.reader.read() == b""


BODIES = [
    TASK,
    b'{"content": "\xe4\xbd\xa0\xe5\xa5\xbd", "priority": 9, "metadata": {"a": [1, null]}}',
    b"",
    b"{",
    b"[]",
    b'{"content": ""}',
    b'{"contents": "x"}',
    b'{"content": "x", "model": "none"}',
    b'{"content": "x", "model": "embed"}',
    b'{"content": "x", "callback_url": "http://127.0.0.1/"}',
    b'{"content": "\xff"}',
    b'{"content": "x", "max_wait_s": 0}',
]


@pytest.mark.parametrize("body", BODIES)
async def test_chunked_and_whole_bodies_answer_alike(fresh: Service, body: bytes) -> None:
    async with wire(fresh.port) as line:
        whole = await line.ask(post("/tasks", body))
        long = await line.ask(chunked("/tasks", body))
    assert whole.status == long.status
    assert whole.headers.keys() == long.headers.keys()
    mine, other = whole.json(), long.json()
    if whole.status == 202:
        assert whole.headers["location"] == f"/tasks/{mine['task_id']}"
        assert mine.keys() == other.keys()
    else:
        assert mine == other


@pytest.mark.parametrize(
    "line",
    [
        "idempotency-key: k",
        "expect: 100-continue",
        "upgrade: h2c",
        "x-user: me",
        "connection: keep-alive",
    ],
)
async def test_a_submit_with_any_header_is_accepted(fresh: Service, line: str) -> None:
    async with wire(fresh.port) as one:
        one.writer.write(post("/tasks", TASK, line))
        answer = await one.answer()
        if answer.status == 100:
            answer = await one.answer()
    assert answer.status == 202


async def test_small_and_large_bodies_are_accepted(fresh: Service) -> None:
    for size in (SMALL, SMALL + 1):
        body = b'{"content": "%s"}' % (b"x" * (size - 15))
        assert len(body) == size
        async with wire(fresh.port) as line:
            assert (await line.ask(post("/tasks", body))).status == 202


async def test_the_limit_of_a_body_holds(tmp_path: Path) -> None:
    async with serving(tmp_path, queue={"max_task_bytes": 1024}) as service:
        for size, status in ((1024, 202), (1025, 413)):
            body = b'{"content": "%s"}' % (b"x" * (size - 15))
            async with wire(service.port) as line:
                assert (await line.ask(post("/tasks", body))).status == status


async def test_a_browser_of_another_origin_is_refused(fresh: Service) -> None:
    async with wire(fresh.port) as line:
        answer = await line.ask(post("/tasks", TASK, "origin: http://evil.example"))
        assert (answer.status, answer.code()) == (403, "forbidden_origin")
        named = await line.ask(post("/tasks", TASK, "host: evil.example"))
        assert (named.status, named.code()) == (403, "forbidden_host")


async def test_an_allowed_origin_can_read_the_answer(tmp_path: Path) -> None:
    origin = "http://page.example"
    async with serving(tmp_path, server={"allowed_origins": [origin]}) as service:
        answer = await service.http.post("/tasks", content=TASK, headers={"origin": origin})
        assert answer.status_code == 202
        assert answer.headers["access-control-allow-origin"] == origin


async def test_wrong_tokens_are_refused_and_counted_once(tmp_path: Path) -> None:
    tokens = {"ASYNCSVC_TOKENS": "right"}
    async with (
        serving(tmp_path, tokens, server={"wrong_tokens": 3}) as service,
        wire(service.port) as line,
    ):
        bare = await line.ask(post("/tasks", TASK))
        assert (bare.status, bare.headers["www-authenticate"]) == (401, "Bearer")
        right = post("/tasks", TASK, "authorization: Bearer right")
        wrong = post("/tasks", TASK, "authorization: Bearer wrong")
        assert (await line.ask(right)).status == 202
        assert [(await line.ask(wrong)).status for _ in range(4)] == [401, 401, 401, 429]


async def test_one_connection_serves_many(fresh: Service) -> None:
    async with wire(fresh.port) as line:
        ids = [(await line.ask(post("/tasks", TASK))).json()["task_id"] for _ in range(3)]
        assert (await line.ask(head("GET", f"/tasks/{ids[0]}"))).status == 200
        last = await line.ask(post("/tasks", TASK, "connection: close"))
        assert (last.status, last.headers["connection"]) == (202, "close")
        assert await gone(line)
    assert len(set(ids)) == 3


async def test_http_1_0_is_answered_and_closed(fresh: Service) -> None:
    async with wire(fresh.port) as line:
        answer = await line.ask(post("/tasks", TASK).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert answer.status == 202
        assert await gone(line)


async def test_requests_sent_at_once_are_answered_in_order(fresh: Service) -> None:
    sent = [
        post("/tasks", TASK),
        post("/tasks", b"{"),
        head("GET", "/livez"),
        post("/tasks", TASK),
        chunked("/tasks", TASK),
        post("/tasks", TASK),
    ]
    async with wire(fresh.port) as line:
        line.writer.write(b"".join(sent))
        async with asyncio.timeout(20):
            answers = [await line.answer() for _ in sent]
    assert [answer.status for answer in answers] == [202, 400, 200, 202, 202, 202]


async def test_a_request_that_comes_byte_by_byte(fresh: Service) -> None:
    async with wire(fresh.port) as line:
        for byte in post("/tasks", TASK):
            line.writer.write(bytes([byte]))
            await line.writer.drain()
        assert (await line.answer()).status == 202


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(
    fresh: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with wire(fresh.port) as line:
            line.writer.write(head("POST", "/tasks", "content-length: 1000") + b'{"content": "')
            line.writer.write_eof()
            assert await gone(line)
        assert await total(fresh) == 0
    assert caplog.text == ""


async def test_a_body_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, server={"client_timeout_s": 0.2}) as service,
        wire(service.port) as line,
    ):
        line.writer.write(head("POST", "/tasks", "content-length: 1000") + b"{")
        async with asyncio.timeout(20):
            answer = await line.answer()
        assert (answer.status, answer.code()) == (408, "request_timeout")
        assert await gone(line)


@pytest_asyncio.fixture(loop_scope="module")
async def slow(tmp_path: Path, disk: Disk) -> AsyncIterator[Service]:
    async with serving(tmp_path) as service:
        yield service
        disk.ready.set()


async def test_nothing_is_answered_before_the_disk_has_it(slow: Service, disk: Disk) -> None:
    async with wire(slow.port) as line:
        line.writer.write(post("/tasks", TASK))
        await disk.asked.wait()
        reading = asyncio.create_task(line.answer())
        assert (await slow.http.get("/livez")).status_code == 200
        assert not reading.done()
        disk.ready.set()
        answer = await reading
        assert answer.status == 202
        await slow.task(answer.json()["task_id"])


async def test_a_task_stays_although_its_client_has_left(slow: Service, disk: Disk) -> None:
    async with wire(slow.port) as line:
        line.writer.write(post("/tasks", TASK))
        await disk.asked.wait()
        line.writer.transport.abort()
    disk.ready.set()
    await slow.http.post("/tasks", content=TASK)  # commits follow one another
    assert await total(slow) == 2


async def test_what_the_disk_refuses_is_reported(slow: Service, disk: Disk) -> None:
    disk.refusal = "full"
    disk.ready.set()
    async with wire(slow.port) as line:
        answer = await line.ask(post("/tasks", TASK))
        assert (answer.status, answer.code()) == (503, "overloaded")
        assert answer.headers["retry-after"] == "5"
        disk.refusal = None
        assert (await line.ask(post("/tasks", TASK))).status == 202
    metrics = (await slow.http.get("/metrics")).text
    assert 'asyncsvc_submits_refused_total{code="storage"} 1.0' in metrics


async def test_a_stop_waits_for_the_answer(slow: Service, disk: Disk) -> None:
    async with wire(slow.port) as line:
        line.writer.write(post("/tasks", TASK))
        await disk.asked.wait()
        slow.stop()
        disk.ready.set()
        assert (await line.answer()).status == 202
        assert await gone(line)


@asynccontextmanager
async def _broken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owner: type, name: str
) -> AsyncIterator[None]:
    def fails(*_: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(owner, name, fails)
    with caplog.at_level(logging.ERROR):
        yield
    assert "a fault" in caplog.text


async def test_a_fault_before_the_disk_is_a_500(
    fresh: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with _broken(monkeypatch, caplog, Intake, "submit"), wire(fresh.port) as line:
        answer = await line.ask(post("/tasks", TASK))
        assert (answer.status, answer.code()) == (500, "internal")
        assert (await line.ask(head("GET", "/livez"))).status == 200


async def test_a_fault_after_the_disk_hides_no_accepted_task(
    fresh: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with _broken(monkeypatch, caplog, Scheduler, "enqueue"), wire(fresh.port) as line:
        answer = await line.ask(post("/tasks", TASK))
        assert answer.status == 202
        await fresh.task(answer.json()["task_id"])
