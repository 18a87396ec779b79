"""Disks that are full, fail, are locked or are not to be written: what a client sees, and after."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from asyncsvc.storage.audit import integrity, known
from tests.flows.disks import failing, fill, read_only, small_disk
from tests.flows.process import Provider, Remote, service, settings, start
from tests.web.serving import expect, refused, seqs

RECOVERED_S = 5.0
DATABASE = "tasks.db"
SIZE = "12m"
"""Of the small disk: more than the log of the database grows to before it is used anew."""


async def submit(remote: Remote, acknowledged: set[str], size: int = 2000) -> httpx.Response:
    answer = await remote.http.post("/tasks", json={"content": "x" * size, "delay_s": 3600})
    if answer.status_code == 202:
        acknowledged.add(answer.json()["task_id"])
    else:
        error = refused(answer, 503, "overloaded")
        assert "nothing was stored" in error["message"]
        assert int(answer.headers["retry-after"]) >= 1
    return answer


async def until(remote: Remote, acknowledged: set[str], status: int, most: int = 3000) -> None:
    """Submit until it is answered so."""
    for _ in range(most):
        if (await submit(remote, acknowledged)).status_code == status:
            return
    pytest.fail(f"{most} submits and no {status}")


async def recovers(remote: Remote, acknowledged: set[str]) -> None:
    """Submits are taken again, in time and by the same process."""
    async with asyncio.timeout(RECOVERED_S):
        while (await submit(remote, acknowledged)).status_code != 202:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert expect(await remote.http.get("/health"), 200)["components"]["sqlite_persistence"]


def holds(database: Path, acknowledged: set[str]) -> None:
    """Exactly what was acknowledged is there, and sound."""
    assert integrity(database) == "ok"
    assert known(database) == acknowledged


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path, sim: Provider) -> None:
    acknowledged: set[str] = set()
    with small_disk(tmp_path / "disk", SIZE) as disk:
        path = settings(tmp_path, sim.url, database=disk / DATABASE)
        async with service(path) as remote:
            await until(remote, acknowledged, 202)
            ballast = fill(disk)
            await until(remote, acknowledged, 503)
            for _ in range(20):
                await submit(remote, acknowledged, 50_000)
            health = expect(await remote.http.get("/health"), 200)
            assert health["status"] == "degraded"
            assert any("the database refused a write" in problem for problem in health["problems"])
            for task_id in acknowledged:  # what is there can be read
                assert seqs(await remote.events(task_id)) == [1]
            ballast.unlink()
            await recovers(remote, acknowledged)
            assert "Traceback" not in remote.process.log
            await remote.process.kill()
        shutil.copytree(disk, tmp_path / "after")
    holds(tmp_path / "after" / DATABASE, acknowledged)


async def use_up(remote: Remote, spare: list[str]) -> None:
    """Small writes until none fits: a large one that was refused leaves room in the log."""
    for task_id in spare:
        if (await remote.steer(task_id, "pause")).status_code == 503:
            return
    raise AssertionError("the disk takes small writes without end")


@pytest.mark.parametrize(("verb", "end"), [("cancel", "cancelled"), ("pause", "paused")])
async def test_steering_is_answered_and_done_though_the_disk_is_full(
    tmp_path: Path, sim: Provider, verb: str, end: str
) -> None:
    with small_disk(tmp_path / "disk", SIZE) as disk:
        path = settings(tmp_path, sim.url, database=disk / DATABASE)
        async with service(path) as remote:
            task_id = await remote.running("[[sim:hang-stream at=3]][[id:cut]]")
            spare = [await remote.submit("later", delay_s=3600) for _ in range(40)]
            ballast = fill(disk)
            await until(remote, set(), 503)
            await use_up(remote, spare)
            async with asyncio.timeout(RECOVERED_S):
                error = refused(await remote.steer(task_id, verb), 503, "overloaded")
                assert "the call upstream is cut" in error["message"]
                while (await sim.calls("cut"))[0]["outcome"] == "open":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            ballast.unlink()
            async with asyncio.timeout(RECOVERED_S):
                while (await remote.task(task_id))["status"] != end:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert len(await sim.calls("cut")) == 1


async def test_what_runs_when_the_disk_fills_up_is_completed_later(
    tmp_path: Path, sim: Provider
) -> None:
    with small_disk(tmp_path / "disk", SIZE) as disk:
        path = settings(tmp_path, sim.url, database=disk / DATABASE)
        async with service(path) as remote:
            ids = [await remote.running("[[sim:tokens=60]][[sim:rate=40]]") for _ in range(3)]
            ballast = fill(disk)
            await until(remote, set(), 503)
            await asyncio.sleep(1.0)  # the calls go on, or end, without any room for their text
            ballast.unlink()
            for task_id in ids:
                task = await remote.done(task_id)
                assert (task["status"], task["attempts"]) == ("completed", 1)
                events = await remote.events(task_id)
                assert seqs(events) == list(range(1, len(events) + 1))


@pytest.mark.parametrize(
    ("call", "error", "when"),
    [
        ("fdatasync", "EIO", "12..17"),
        ("pwrite64", "ENOSPC", "300..340"),
        ("pwrite64", "EIO", "300..340"),
    ],
)
async def test_calls_that_fail_acknowledge_nothing(
    tmp_path: Path, sim: Provider, call: str, error: str, when: str
) -> None:
    path, acknowledged = settings(tmp_path, sim.url), set[str]()
    async with service(path):
        pass  # makes the database, so that the calls that fail are those of submits
    async with service(path, failing(call, error, when)) as remote:
        await until(remote, acknowledged, 503)
        await recovers(remote, acknowledged)
        await until(remote, acknowledged, 202)
        await remote.process.kill()
    holds(tmp_path / DATABASE, acknowledged)


async def test_a_locked_database_refuses_and_recovers(tmp_path: Path, sim: Provider) -> None:
    path, acknowledged = settings(tmp_path, sim.url), set[str]()
    async with service(path) as remote:
        await until(remote, acknowledged, 202)
        with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as other:
            other.execute("PRAGMA wal_autocheckpoint=0")
            other.execute("BEGIN IMMEDIATE")
            answer = await submit(remote, acknowledged)
            assert answer.status_code == 503
            assert "locked" in answer.text
            assert (await remote.http.get("/tasks")).status_code == 200
            other.execute("ROLLBACK")
        await recovers(remote, acknowledged)
        await remote.process.kill()
    holds(tmp_path / DATABASE, acknowledged)


async def test_a_stop_with_a_full_disk_ends_and_loses_nothing(
    tmp_path: Path, sim: Provider
) -> None:
    with small_disk(tmp_path / "disk", SIZE) as disk:
        path = settings(tmp_path, sim.url, database=disk / DATABASE)
        async with service(path) as remote:
            task_id = await remote.speaking("[[sim:hang-stream at=3 x1]]")
            ballast = fill(disk)
            await until(remote, set(), 503)
            remote.process.child.terminate()
            assert await remote.process.ended() == 0
        ballast.unlink()
        async with service(path) as remote:
            task = await remote.done(task_id)
            assert (task["status"], task["attempts"]) == ("completed", 1)


def _garbage(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"garbage" * 5000)


def _text(path: Path) -> None:
    path.write_text("my shopping list")


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE tasks (x)")
        connection.execute("PRAGMA user_version=999")


def _other(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_garbage, "cannot be used"),
        (_text, "is not a database"),
        (_newer, "newer asyncsvc"),
        (_other, "another program"),
        (_folder, "it is a directory"),
    ],
)
async def test_a_file_that_is_not_ours_is_one_line_and_stays(
    tmp_path: Path, sim: Provider, spoil: Callable[[Path], None], why: str
) -> None:
    spoil(database := tmp_path / DATABASE)
    before = database.read_bytes() if database.is_file() else b""
    async with start(settings(tmp_path, sim.url)) as process:
        assert await process.ended() == 2
        assert process.line == ""
        assert why in process.log
        assert "Traceback" not in process.log
        assert len(process.log.strip().splitlines()) == 1
    assert (database.read_bytes() if database.is_file() else b"") == before


async def test_a_folder_that_is_missing_is_made(tmp_path: Path, sim: Provider) -> None:
    database = tmp_path / "not" / "yet" / DATABASE
    async with service(settings(tmp_path, sim.url, database=database)):
        assert database.exists()
        assert database.parent.stat().st_mode & 0o077 == 0


async def test_a_parent_that_is_a_file_is_one_line(tmp_path: Path, sim: Provider) -> None:
    (tmp_path / "file").write_text("x")
    path = settings(tmp_path, sim.url, database=tmp_path / "file" / DATABASE)
    async with start(path) as process:
        assert await process.ended() == 2
        assert "Not a directory" in process.log
        assert "Traceback" not in process.log


async def test_a_read_only_disk_is_one_line_and_nothing_is_changed(
    tmp_path: Path, sim: Provider
) -> None:
    with small_disk(tmp_path / "disk", SIZE) as disk:
        path = settings(tmp_path, sim.url, database=disk / DATABASE)
        async with service(path) as remote:
            await remote.submit("x", delay_s=3600)
        before = {found.name: found.read_bytes() for found in disk.iterdir()}
        read_only(disk)
        async with start(path) as process:
            assert await process.ended() == 2
            assert "Read-only file system" in process.log
            assert "Traceback" not in process.log
        assert {found.name: found.read_bytes() for found in disk.iterdir()} == before
