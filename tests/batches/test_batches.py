"""Batches on virtual time: what becomes of each line, whenever the process ends."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.access import SERVICE, Caller
from asyncsvc.batches import batches as batching
from asyncsvc.batches.files import PIECE, Files
from asyncsvc.errors import Conflict, NoRoom, NotFound, QueueFull, StorageUnavailable
from asyncsvc.storage.entries import ACTIVE, VALIDATING, Batch, File
from tests.builders import Commits, rows
from tests.engine_services import EngineServices, model
from tests.polling import until
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import virtual

CHAT = "/v1/chat/completions"
DAY_S = 86_400


def lines(count: int, content: str = "x", **more: Any) -> bytes:
    body = {"model": "a", "messages": [{"role": "user", "content": content}]} | more
    return b"".join(
        json.dumps({"custom_id": f"c{i}", "method": "POST", "url": CHAT, "body": body}).encode()
        + b"\n"
        for i in range(count)
    )


async def uploaded(services: EngineServices, data: bytes) -> str:
    upload = await services.services.batches.files.upload("in.jsonl", "batch", None)
    await upload.write(data)
    await upload.finish(None)
    return upload.id


async def begin(services: EngineServices, data: bytes) -> str:
    file_id = await uploaded(services, data)
    return (await services.services.batches.create(CHAT, file_id, None, {}, SERVICE)).id


async def ended(services: EngineServices, batch_id: str) -> Batch:
    return await until(
        lambda: services.services.batches.get(SERVICE, batch_id),
        lambda batch: batch.state not in ACTIVE,
        1e6,
    )


async def written(services: EngineServices, batch: Batch) -> tuple[list[Any], list[Any]]:
    """The lines of output and of errors."""
    found = []
    for file_id, size in zip(batch.files, batch.written, strict=True):
        data = b""
        if size:
            file = await services.services.batches.files.get(SERVICE, file_id)
            while piece := await services.services.journal.store.files.piece(file.n, len(data)):
                data += piece
        assert len(data) == size
        found.append([json.loads(line) for line in data.splitlines()])
    return found[0], found[1]


def ids(found: list[Any]) -> list[str]:
    return sorted(one["custom_id"] for one in found)


@virtual
async def test_lines_wait_without_filling_the_queue(tmp_path: Path) -> None:
    client = ScriptedClient(default=(0.5, "ok"))
    async with EngineServices(tmp_path, client=client, queue={"max_length": 40}) as services:
        batch_id, most = await begin(services, lines(60)), 0
        while (batch := await services.services.batches.get(SERVICE, batch_id)).state in ACTIVE:
            most = max(most, len(services.services.journal.live))
            await asyncio.sleep(0.1)
        assert most == 10
        assert (batch.state, batch.completed) == ("completed", 60)
        output, _ = await written(services, batch)
        assert ids(output) == sorted(f"c{i}" for i in range(60))


@virtual
async def test_a_batch_goes_on_after_each_crash(tmp_path: Path) -> None:
    client = ScriptedClient(default=(0.05, "ok"))
    async with EngineServices(tmp_path, {"a": model(concurrency=5)}, client) as services:
        batch_id = await begin(services, lines(130))
        for pause in (0.0, 0.001, 0.3, 0.31, 0.7):
            await asyncio.sleep(pause)
            await services.restart()
        batch = await ended(services, batch_id)
        assert (batch.state, batch.completed, batch.failed) == ("completed", 130, 0)
        output, _ = await written(services, batch)
        assert ids(output) == sorted(f"c{i}" for i in range(130))
        counts = await services.services.journal.store.counts(None)
        assert sum(count for _, _, count in counts) == 130


@virtual
async def test_after_a_day_the_rest_has_expired(tmp_path: Path) -> None:
    models = {"a": model(concurrency=3)}
    client = ScriptedClient(default=(HANG,))
    sections = {"timeouts": {"long_s": 10 * DAY_S}}
    async with EngineServices(tmp_path, models, client, **sections) as services:
        batch_id = await begin(services, lines(600))
        await asyncio.sleep(1)
        services.shift_ms += DAY_S * 1000
        batch = await ended(services, batch_id)
        assert (batch.state, batch.completed, batch.failed) == ("expired", 0, 600)
        output, errors = await written(services, batch)
        assert output == []
        assert {one["error"]["code"] for one in errors} == {"batch_expired"}
        assert len({one["custom_id"] for one in errors}) == 600
        assert not services.services.journal.live


@virtual
async def test_a_full_queue_makes_it_wait(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"max_length": 8}) as services:
        hanging = [await services.submit_script("h", (HANG,)) for _ in range(8)]
        batch_id = await begin(services, lines(3))
        await asyncio.sleep(20)
        assert (await services.services.batches.get(SERVICE, batch_id)).line == 0
        for task_id in hanging:
            await services.services.control.cancel(task_id)
        assert (await ended(services, batch_id)).completed == 3


@virtual
async def test_a_disk_that_refuses_only_delays(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        commits = Commits(services.services.journal.store)
        file_id = await uploaded(services, lines(5))
        batch_id = (await services.services.batches.create(CHAT, file_id, None, {}, SERVICE)).id
        commits.refuse()
        await asyncio.sleep(10)
        commits.refusal = None
        batch = await ended(services, batch_id)
        assert (batch.completed, batch.failed) == (5, 0)


@virtual
async def test_a_fault_of_ours_with_a_line_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EngineServices(tmp_path) as services:
        monkeypatch.setattr(services.services.intake, "check", lambda _: 1 / 0)
        batch = await ended(services, await begin(services, lines(2)))
        _, errors = await written(services, batch)
        assert [one["error"]["code"] for one in errors] == ["internal", "internal"]


@virtual
async def test_a_fault_of_ours_does_not_end_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EngineServices(tmp_path) as services:
        with monkeypatch.context() as patched:
            patched.setattr("asyncsvc.batches.steps.validated", lambda *_: 1 / 0)
            batch_id = await begin(services, lines(2))
            await asyncio.sleep(5)
            assert (await services.services.batches.get(SERVICE, batch_id)).state == VALIDATING
        assert (await ended(services, batch_id)).completed == 2


@virtual
async def test_a_file_that_is_gone_before_the_first_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EngineServices(tmp_path) as services:
        file_id = await uploaded(services, lines(2))
        found = await services.services.batches.files.get(SERVICE, file_id)

        async def get(_: Files, __: Caller, wanted: str) -> File:
            if rows(store, "SELECT COUNT(*) FROM batches")[0][0]:
                raise NotFound(wanted)
            return found

        store = services.services.journal.store
        monkeypatch.setattr(Files, "get", get)
        batch_id = (await services.services.batches.create(CHAT, file_id, None, {}, SERVICE)).id
        batch = await ended(services, batch_id)
        assert (batch.state, batch.errors[0]["code"]) == ("failed", "input_file_deleted")


@virtual
async def test_a_file_deleted_under_way_ends_what_has_begun(tmp_path: Path) -> None:
    client = ScriptedClient(default=(1.0, "ok"))
    async with EngineServices(tmp_path, client=client, queue={"max_length": 40}) as services:
        batch_id = await begin(services, lines(50))
        await asyncio.sleep(0.5)
        batch = await services.services.batches.get(SERVICE, batch_id)
        await services.services.batches.files.delete(SERVICE, batch.input_file_id)
        batch = await ended(services, batch_id)
        assert batch.state == "failed"
        assert batch.errors[0]["code"] == "input_file_deleted"
        assert 0 < batch.completed == batch.total < 50


@virtual
async def test_there_are_not_too_many_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "ACTIVE_MOST", 1)
    async with EngineServices(tmp_path, client=ScriptedClient(default=(HANG,))) as services:
        batch_id = await begin(services, lines(1))
        with pytest.raises(QueueFull):
            await begin(services, lines(1))
        await services.services.batches.cancel(SERVICE, batch_id)
        assert (await ended(services, batch_id)).state == "cancelled"
        batch = await ended(services, await begin(services, lines(0) + b"{"))
        with pytest.raises(Conflict):
            await services.services.batches.cancel(SERVICE, batch.id)


@virtual
async def test_finished_batches_and_their_files_are_forgotten(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        batch = await ended(services, await begin(services, lines(1)))
        services.shift_ms += 9 * DAY_S * 1000
        await services.restart()
        await asyncio.sleep(0.1)
        with pytest.raises(NotFound):
            await services.services.batches.get(SERVICE, batch.id)
        with pytest.raises(NotFound):
            await services.services.batches.files.get(SERVICE, batch.files[0])
        await services.services.batches.files.get(SERVICE, batch.input_file_id)


@virtual
async def test_an_upload_that_a_crash_cut_off_is_taken_away(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        upload = await services.services.batches.files.upload("a", "batch", None)
        await upload.write(b"x" * PIECE * 3)
        await services.restart()
        await asyncio.sleep(1)
        store = services.services.journal.store
        assert rows(store, "SELECT * FROM files") == []
        assert rows(store, "SELECT * FROM pieces") == []


@virtual
async def test_a_disk_that_refuses_an_upload_is_reported(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        upload = await services.services.batches.files.upload("a", "batch", None)
        Commits(services.services.journal.store).refuse()
        with pytest.raises(StorageUnavailable):
            await upload.write(b"x" * PIECE)
        await upload.abandon()


@virtual
async def test_outputs_wait_for_room_and_are_complete_then(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        room = services.services.journal.store.upkeep.room
        batch_id = await begin(services, lines(3))
        room.least = lambda: 1 << 60
        await asyncio.sleep(30)
        held = await services.services.batches.get(SERVICE, batch_id)
        assert held.state in ACTIVE
        assert held.completed == 0
        with pytest.raises(NoRoom):
            await uploaded(services, lines(1))
        room.least = lambda: 0
        batch = await ended(services, batch_id)
        assert (batch.state, batch.completed, batch.failed) == ("completed", 3, 0)
        done, failed = await written(services, batch)
        assert sorted(one["custom_id"] for one in done) == ["c0", "c1", "c2"]
        assert failed == []
