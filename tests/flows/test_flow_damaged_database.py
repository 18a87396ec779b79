"""A database with damaged pages: what is sound is served, and damage is reported as damage."""

import asyncio
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.flows.process import Provider, service, settings, start
from tests.polling import until
from tests.web.serving import expect, refused

NAME = "tasks.db"
TASKS = 60
PAGE = 4096


def _noise(page: bytes) -> bytes:
    return random.Random(7).randbytes(len(page))


def _zeros(page: bytes) -> bytes:
    return b"\0" * len(page)


def _broken_json(page: bytes) -> bytes:
    return page.replace(b"language", b'langua"]')


@dataclass(frozen=True)
class Filled:
    """The folder of a database that a service has filled and closed, and its tasks' ids."""

    folder: Path
    ids: list[str]

    def settings(self, folder: Path, url: str) -> Path:
        """Settings beside a copy of the database."""
        shutil.copy2(self.folder / NAME, folder / NAME)
        return settings(folder, url)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Many tasks, some with texts that need pages of their own; none calls its model."""
    folder = tmp_path_factory.mktemp("filled")
    return Filled(folder, asyncio.run(_fill(folder)))


async def _fill(folder: Path) -> list[str]:
    tasks = [
        {"content": f"{number} " + "语 language " * (800 if number % 2 else 40), "delay_s": 3600}
        for number in range(TASKS)
    ]
    async with service(settings(folder, "http://127.0.0.1:9")) as remote:
        answer = await remote.http.post("/tasks/batch", json={"tasks": tasks})
        remote.process.send(signal.SIGTERM)
        assert await remote.process.ended() == 0
    assert not (folder / f"{NAME}-wal").exists()
    return [task["task_id"] for task in expect(answer, 202)["tasks"]]


def _spoil(database: Path, change: Callable[[bytes], bytes], holding: str, count: int) -> None:
    """Change pages in the middle of the file that belong to this table."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            rows = connection.execute(
                "SELECT pageno FROM dbstat WHERE name = ? AND pagetype <> 'internal'", (holding,)
            ).fetchall()
        except sqlite3.OperationalError:
            pytest.skip("this SQLite cannot name the pages of a table")
    pages = [row[0] for row in rows]
    start = len(pages) // 3
    with database.open("r+b") as file:
        for number in pages[start : start + count]:
            file.seek((number - 1) * PAGE)
            page = file.read(PAGE)
            file.seek((number - 1) * PAGE)
            file.write(change(page))


def _reported_as_damage(answer: httpx.Response) -> None:
    message = refused(answer, 503, "overloaded")["message"]
    assert "the database is damaged" in message
    assert "restore" in message
    assert "nothing was stored" not in message
    assert "try again" not in message
    assert "retry-after" not in answer.headers
    assert "language" not in message
    assert "语" not in message


@pytest.mark.parametrize(
    ("change", "table", "count"),
    [(_noise, "bodies", 6), (_zeros, "bodies", 6), (_broken_json, "bodies", 400),
     (_noise, "events", 1), (_zeros, "events", 1)],
)  # fmt: skip
async def test_what_is_damaged_degrades_health_and_is_logged_once(
    tmp_path: Path,
    sim: Provider,
    filled: Filled,
    change: Callable[[bytes], bytes],
    table: str,
    count: int,
) -> None:
    path, ids = filled.settings(tmp_path, sim.url), filled.ids
    _spoil(tmp_path / NAME, change, table, count)
    async with service(path) as remote:
        assert expect(await remote.http.get("/health"), 200)["components"]["sqlite_persistence"]
        damaged = 0
        for task_id in ids:
            for tail in ("", "/events", "/explain"):
                answer = await remote.http.get(f"/tasks/{task_id}{tail}")
                if answer.status_code != 200:
                    _reported_as_damage(answer)
                    damaged += 1
        assert 0 < damaged < len(ids) * 3
        health = expect(await remote.http.get("/health"), 200)
        assert health["status"] == "degraded"
        assert not health["components"]["sqlite_persistence"]
        reason = next(reason for reason in health["reasons"] if reason["name"] == "database")
        assert "damaged" in reason["message"]
        assert "restore" in reason["remedy"]
        assert ".recover" in reason["remedy"]
        if change is not _broken_json:  # which SQLite cannot know
            _reported_as_damage(await remote.http.post("/admin/backup"))
        # What does not touch the damage goes on.
        assert (await remote.done(await remote.submit("sound")))["status"] == "completed"
        log = remote.process.log
        assert log.count("database is degraded") == 1
        assert "Traceback" not in log


async def test_an_export_that_reaches_damage_is_cut_or_refused(
    tmp_path: Path, sim: Provider, filled: Filled
) -> None:
    path = filled.settings(tmp_path, sim.url)
    _spoil(tmp_path / NAME, _noise, "bodies", 6)
    async with service(path) as remote:
        try:
            answer = await remote.http.get("/admin/export")
        except httpx.RemoteProtocolError:
            pass  # cut before the end
        else:
            _reported_as_damage(answer)

        async def degraded() -> str:
            return str(expect(await remote.http.get("/health"), 200)["status"])

        await until(degraded, lambda status: status == "degraded")
        assert "Traceback" not in remote.process.log


async def test_a_task_whose_text_is_damaged_fails_and_others_run(
    tmp_path: Path, sim: Provider, filled: Filled
) -> None:
    path, ids = filled.settings(tmp_path, sim.url), filled.ids
    async with service(path) as remote:
        for task_id in ids:
            assert (await remote.steer(task_id, "pause")).status_code == 200
        remote.process.send(signal.SIGTERM)
        assert await remote.process.ended() == 0
    _spoil(tmp_path / NAME, _noise, "bodies", 3)
    with closing(sqlite3.connect(tmp_path / NAME)) as database:
        database.execute("UPDATE tasks SET run_at = NULL, max_retries = 0")
        database.commit()
    async with service(path) as remote:
        hurt = [i for i in ids if (await remote.http.get(f"/tasks/{i}")).status_code == 503]
        assert hurt
        await remote.steer(hurt[0], "resume")

        async def states() -> dict[str, int]:
            return expect(await remote.http.get("/tasks/stats"), 200)

        await until(states, lambda found: found["failed"] == 1)
        assert (await remote.done(await remote.submit("sound")))["status"] == "completed"


async def test_a_table_that_the_start_needs_is_one_line(
    tmp_path: Path, sim: Provider, filled: Filled
) -> None:
    path = filled.settings(tmp_path, sim.url)
    _spoil(tmp_path / NAME, _noise, "tasks", 400)
    async with start(path) as process:
        assert await process.ended() == 2
        assert process.line == ""
        assert "Traceback" not in process.log
        assert "the database is damaged" in process.log
        assert "restore" in process.log
        assert str(tmp_path / NAME) in process.log
