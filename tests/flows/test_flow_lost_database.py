"""The database's files removed, replaced, moved, cut or overwritten while the service runs."""

import asyncio
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.storage.audit import integrity, known
from tests.flows.disks import small_disk, unmounted
from tests.flows.process import Provider, Remote, service, settings, start
from tests.polling import until
from tests.web.serving import expect, refused

NAME = "tasks.db"
NOTICED_S = 2.5
"""A look a second, and a busy machine."""


def _removed(folder: Path) -> None:
    for side in ("", "-wal", "-shm"):
        (folder / (NAME + side)).unlink()


def _replaced(folder: Path) -> None:
    shutil.copy(folder / NAME, folder / "copy")
    os.replace(folder / "copy", folder / NAME)


def _made_anew(folder: Path) -> None:
    _removed(folder)
    (folder / NAME).touch()


def _moved(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def _log_removed(folder: Path) -> None:
    (folder / f"{NAME}-wal").unlink()


def _index_removed(folder: Path) -> None:
    (folder / f"{NAME}-shm").unlink()


def _lock_removed(folder: Path) -> None:
    (folder / f"{NAME}.lock").unlink()


def _lock_replaced(folder: Path) -> None:
    (folder / f"{NAME}.lock").unlink()
    (folder / f"{NAME}.lock").write_text("1")


def _cut(folder: Path) -> None:
    os.truncate(folder / NAME, 4096)


def _overwritten(folder: Path) -> None:
    with (folder / NAME).open("r+b") as file:
        file.write(b"\0" * 64)


async def degraded(remote: Remote) -> dict[str, Any]:
    """The reason that `/health` gives, once it does."""

    async def reasons() -> list[dict[str, Any]]:
        found = expect(await remote.http.get("/health"), 200)["reasons"]
        return [reason for reason in found if reason["name"] == "database"]

    return (await until(reasons, bool, NOTICED_S))[0]


async def copied(remote: Remote, folder: Path) -> None:
    """All that was written so far is in the file and not in its log alone."""
    with closing(sqlite3.connect(folder / NAME)) as other:
        other.execute("PRAGMA wal_checkpoint(PASSIVE)")


@pytest.mark.parametrize(
    ("spoil", "reason_text"),
    [
        (_removed, "is no longer there"),
        (_replaced, "was replaced by another file"),
        (_made_anew, "was replaced by another file"),
        (_moved, "is no longer there"),
        (_log_removed, "the database's log"),
        (_index_removed, "the database's index"),
        (_lock_removed, "the lock file"),
        (_lock_replaced, "the lock file"),
        (_cut, "was cut from"),
        (_overwritten, "was overwritten"),
    ],
)
async def test_no_task_is_taken_and_the_stop_says_so(
    tmp_path: Path, sim: Provider, spoil: Callable[[Path], None], reason_text: str
) -> None:
    (folder := tmp_path / "data").mkdir()
    path = settings(tmp_path, sim.url, database=folder / NAME)
    async with service(path) as remote:
        task_id = await remote.submit("kept", delay_s=3600)
        await copied(remote, folder)
        await asyncio.sleep(1.5)  # it has looked at the file as it is
        spoil(folder)
        reason = await degraded(remote)
        assert reason["level"] == "overloaded"
        assert reason_text in reason["message"]
        assert reason["remedy"]
        answer = await remote.http.post("/tasks", json={"content": "lost"})
        assert reason_text in refused(answer, 503, "overloaded")["message"]
        assert int(answer.headers["retry-after"]) >= 1
        assert (await remote.http.get("/readyz")).status_code == 503
        assert (await remote.http.get("/livez")).status_code == 200
        assert expect(await remote.http.get("/health"), 200)["status"] == "degraded"
        assert (await remote.http.get(f"/tasks/{task_id}")).status_code in (200, 503)
        remote.process.send(signal.SIGTERM)
        assert await remote.process.ended() == 1
        log = remote.process.log
        assert "Traceback" not in log
        assert log.count("database is overloaded") == 1
        assert reason_text in log.strip().splitlines()[-1]


async def test_nothing_is_acknowledged_between_the_removal_and_the_next_look(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url)
    async with service(path) as remote:
        await remote.submit("x", delay_s=3600)
        _removed(tmp_path)
        answers = await asyncio.gather(
            *(remote.http.post("/tasks", json={"content": "x"}) for _ in range(20))
        )
        assert {answer.status_code for answer in answers} == {503}


async def test_submits_under_way_are_not_acknowledged_into_a_file_that_is_gone(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url)
    (aside := tmp_path / "aside").mkdir()
    acknowledged: set[str] = set()
    async with service(path) as remote:
        gone = asyncio.Event()

        async def submitting() -> None:
            while not gone.is_set():
                answer = await remote.http.post("/tasks", json={"content": "x", "delay_s": 3600})
                if answer.status_code == 202:
                    acknowledged.add(answer.json()["task_id"])
                else:
                    gone.set()

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(submitting())
            await asyncio.sleep(0.3)
            for side in ("", "-wal", "-shm"):
                os.rename(tmp_path / (NAME + side), aside / (NAME + side))
        await remote.process.kill()
    assert acknowledged
    assert integrity(aside / NAME) == "ok"
    assert known(aside / NAME) >= acknowledged  # committed before the file was moved


async def test_a_file_that_comes_back_is_gone_on_with(tmp_path: Path, sim: Provider) -> None:
    (folder := tmp_path / "data").mkdir()
    path = settings(tmp_path, sim.url, database=folder / NAME)
    async with service(path) as remote:
        first = await remote.submit("x", delay_s=3600)
        _moved(folder)
        await degraded(remote)
        assert (await remote.http.post("/tasks", json={"content": "y"})).status_code == 503
        folder.with_name("elsewhere").rename(folder)

        async def taken() -> int:
            return (await remote.http.get("/readyz")).status_code

        await until(taken, lambda status: status == 200, NOTICED_S)
        second = await remote.submit("z", delay_s=3600)
        remote.process.send(signal.SIGTERM)
        assert await remote.process.ended() == 0
    assert known(folder / NAME) == {first, second}


async def test_the_log_of_a_database_that_took_the_place_is_left_alone(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url)
    other = tmp_path / "other.db"
    async with service(path) as remote:
        await remote.submit("x", delay_s=3600)
        await copied(remote, tmp_path)
        with closing(sqlite3.connect(other, isolation_level=None)) as made:
            made.execute("PRAGMA journal_mode=WAL")
            made.execute("CREATE TABLE precious (x)")
            for side in ("", "-wal", "-shm"):
                shutil.copy(f"{other}{side}", tmp_path / f"new{side}")
        for side in ("", "-wal", "-shm"):
            os.replace(tmp_path / f"new{side}", tmp_path / (NAME + side))
        await degraded(remote)
        remote.process.send(signal.SIGTERM)
        assert await remote.process.ended() == 1
    with closing(sqlite3.connect(tmp_path / NAME)) as found:
        assert found.execute("SELECT name FROM sqlite_schema").fetchall() == [("precious",)]
    assert not [name for name in os.listdir(tmp_path) if ".kept-" in name]


async def test_a_disk_that_is_taken_away(tmp_path: Path, sim: Provider) -> None:
    with small_disk(tmp_path / "disk", "12m") as disk:
        path = settings(tmp_path, sim.url, database=disk / NAME)
        async with service(path) as remote:
            await remote.submit("x", delay_s=3600)
            with unmounted(disk):
                reason = await degraded(remote)
                assert "is no longer there" in reason["message"]
                answer = await remote.http.post("/tasks", json={"content": "y"})
                refused(answer, 503, "overloaded")
                remote.process.send(signal.SIGTERM)
                assert await remote.process.ended() == 1


async def test_a_second_service_is_refused_though_the_lock_file_was_removed(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url)
    async with service(path) as remote:
        await remote.submit("x", delay_s=3600)
        _lock_removed(tmp_path)
        async with start(path) as second:
            assert await second.ended() == 2
            assert second.line == ""
            assert "is in use by another asyncsvc" in second.log
        backup = await remote.http.post("/admin/backup")  # opens and closes the file once more
        assert backup.status_code in (201, 503)
        _lock_removed(tmp_path)
        async with start(path) as third:
            assert await third.ended() == 2
        await remote.process.kill()
    async with service(path) as remote:  # the mark has gone with the process
        assert (await remote.http.get("/readyz")).status_code == 200
