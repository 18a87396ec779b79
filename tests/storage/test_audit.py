"""The audit of a database, as its service has left it."""

from pathlib import Path

import pytest

from asyncsvc.storage import audit
from asyncsvc.storage.entries import Commit
from asyncsvc.tasks.state import State
from tests.builders import store_at
from tests.storage.stored import event, task


async def test_tasks_and_events_are_read_from_a_copy_and_from_the_file(tmp_path: Path) -> None:
    database = tmp_path / "tasks.db"
    async with store_at(database) as store:
        bodies = [(task(1), b'{"content":"[[id:one]]"}'), (task(2), b"{}")]
        await store.commit(Commit(created=bodies, events=[event(1, 1), event(1, 2)]))
        (tmp_path / "copy").mkdir()
        copied = audit.copy(database, tmp_path / "copy")
        assert audit.known(copied) == {"t1", "t2"}
    assert audit.integrity(database) == "ok"
    assert audit.finished(database) == {}
    first, second = audit.lives(database)
    assert (first.task_id, first.marker, first.text) == ("t1", "one", "xx")
    assert (second.state, second.events) == (State.PENDING, [])
    assert (await audit.write_settings(database))["synchronous"] == "full"


def test_a_file_that_is_no_database_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    file.write_text("no database, but long enough to be read as one" * 100)
    with pytest.raises(audit.UNREADABLE):
        audit.known(file)
