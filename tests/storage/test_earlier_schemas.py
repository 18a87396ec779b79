"""A database of each earlier schema is brought to the newest one, and its tasks go on.

The rows are those of a real service that was killed. For a file of an earlier schema they are put
into the tables that its scripts make, without the columns and tables that came later.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from asyncsvc.storage.migrations import look_at
from asyncsvc.storage.schema import fault, scripts
from asyncsvc.tasks.state import Cause, State
from tests.engine_services import EngineServices
from tests.scripted import HANG, Script
from tests.virtual_time import virtual

NEWEST = scripts()[-1][0]
NODE_SINCE = 6
"""The schema whose script makes the row of the node's id."""
TEXT, KEY = "the answer", "a-key"


def answering(folder: Path, *cut_off: Script) -> EngineServices:
    """A service whose provider plays these scripts for the task that is cut off."""
    services = EngineServices(folder, tools={"enabled": False})
    services.client.on("done", [TEXT])
    services.client.on("cut off", *cut_off)
    return services


async def filled(folder: Path) -> dict[str, str]:
    """The database of a service that was killed, with a task in each state; their ids."""
    async with answering(folder, [HANG]) as services:
        ids = {"completed": await services.submit("done")}
        await services.finished(ids["completed"])
        ids["running"] = await services.submit("cut off")
        await asyncio.sleep(1)
        ids["pending"] = await services.submit("waits", key=KEY)
        ids["scheduled"] = await services.submit("later", delay_s=60)
        ids["paused"] = await services.submit("held")
        await services.services.control.pause(ids["paused"])
        ids["cancelled"] = await services.submit("given up")
        await services.services.control.cancel(ids["cancelled"])
        states = {name: await services.state(task_id) for name, task_id in ids.items()}
        assert states == {name: State(name) for name in ids}
        await services.crash()
    return ids


def columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA {schema}.table_info({table})")]


def as_of(version: int, source: Path, target: Path) -> None:
    """Write the rows of a database into a new file, in the form of an earlier schema."""
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        for number, sql in scripts():
            if number <= version:
                connection.executescript(sql)
        connection.execute("ATTACH ? AS newest", (str(source),))
        connection.execute("DELETE FROM kept")
        tables = connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'")
        for table in [name for (name,) in tables if not name.startswith("sqlite_")]:
            later = columns(connection, "newest", table)
            names = ", ".join(c for c in columns(connection, "main", table) if c in later)
            connection.execute(
                f"INSERT INTO main.{table} ({names}) SELECT {names} FROM newest.{table}"
            )
        if version < NODE_SINCE:
            connection.execute("DELETE FROM main.kept WHERE kind = 'node'")
        connection.execute("DETACH newest")
        connection.execute(f"PRAGMA user_version={version}")
        assert fault(connection) is None


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The database of the newest schema, and the ids of its tasks by their state."""
    folder = tmp_path_factory.mktemp("newest")
    ids: dict[str, str] = {}

    @virtual
    async def fill() -> None:
        ids.update(await filled(folder))

    fill()
    return folder / "tasks.db", ids


@pytest.mark.parametrize("version", range(1, NEWEST))
@virtual
async def test_tasks_of_an_earlier_schema_go_on(
    tmp_path: Path, newest: tuple[Path, dict[str, str]], version: int
) -> None:
    path, (source, ids) = tmp_path / "tasks.db", newest
    as_of(version, source, path)
    look_at(path)
    async with answering(tmp_path, [TEXT]) as services:
        again = await services.submit("waits", key=KEY)
        assert again == ids["pending"], "its key still finds the task"
        assert await services.result(ids["completed"]) == TEXT
        assert await services.kinds(ids["completed"])
        for name in ("running", "pending", "scheduled"):
            assert (await services.finished(ids[name])).state is State.COMPLETED
        assert Cause.INTERRUPTED in await services.kinds(ids["running"])
        assert await services.result(ids["running"]) == TEXT
        assert await services.state(ids["paused"]) is State.PAUSED
        assert await services.state(ids["cancelled"]) is State.CANCELLED
        await services.services.control.resume(ids["paused"])
        assert (await services.finished(ids["paused"])).state is State.COMPLETED
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (NEWEST,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert fault(connection) is None


def test_the_page_about_upgrades_names_each_schema() -> None:
    page = (Path(__file__).parents[2] / "docs/upgrade.md").read_text(encoding="utf-8")
    assert [version for version, _ in scripts() if f"\n| {version} | " not in page] == []
