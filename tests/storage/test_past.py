"""The tasks of the past, read from the file of a database in use."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from asyncsvc.storage.backup import NotACopy
from asyncsvc.storage.past import learned_limits, past_tasks
from asyncsvc.storage.schema import scripts
from tests.engine_services import EngineServices
from tests.virtual_time import START_MS, virtual


@virtual
async def test_tasks_that_ended_or_waited_since_are_read_beside_the_service(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        early = await services.submit_script("early", [5.0, "ok"])
        await services.finished(early)
        late = await services.submit_script("late", [50.0, "ok"])
        waiting = await services.submit("waiting")
        path = tmp_path / "tasks.db"
        assert [task.id for task in past_tasks(path, START_MS)] == [early, late, waiting]
        assert [task.id for task in past_tasks(path, START_MS + 6000)] == [late, waiting]
        assert [task.id for task in past_tasks(path, START_MS, most=2)] == [late, waiting]
        assert learned_limits(path) == {}


def test_a_database_of_an_older_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    made = scripts()[:-1]
    with closing(sqlite3.connect(path)) as database:
        for _, sql in made:
            database.executescript(sql)
        database.execute(f"PRAGMA user_version = {made[-1][0]}")
        database.commit()
    with pytest.raises(NotACopy, match="start the service once"):
        past_tasks(path, 0)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(NotACopy):
        past_tasks(path, 0)
    with pytest.raises(NotACopy):
        learned_limits(path)
