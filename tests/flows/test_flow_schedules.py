"""kill -9 between the firings of a schedule, and a start on the same database."""

import asyncio
import json
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

from tests.flows.process import Provider, Remote, service, settings
from tests.web.serving import expect

KILLS = 5
PATIENCE_S = 30


async def runs(remote: Remote, schedule_id: str) -> int:
    answer = await remote.http.get(f"/schedules/{schedule_id}")
    return int(expect(answer, 200)["runs"])


async def fired_beyond(remote: Remote, schedule_id: str, before: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await runs(remote, schedule_id) <= before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def stored(path: Path) -> tuple[list[int], dict[str, Any]]:
    """When each of its tasks was made, and the schedule, as the file has them."""
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = database.execute("SELECT created_at FROM tasks ORDER BY n").fetchall()
        (value,) = database.execute("SELECT value FROM kept WHERE kind = 'schedule'").fetchone()
    database.close()
    return [row[0] for row in rows], json.loads(value)


async def test_kills_between_firings_neither_repeat_nor_lose_one(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url)
    path.write_text(path.read_text() + "[models.held]\nmodel = 'sim'\nbase_url = 'http://x'\n")
    schedule_id, draw, acknowledged = "", random.Random(4), 0
    before, last_due = 0, 0
    for _ in range(KILLS):
        began = time.time()
        async with service(path) as remote:
            if not schedule_id:
                body = {"cron": "* * * * * *", "task": {"content": "tick", "model": "fast"}}
                answer = await remote.http.post("/schedules", json=body)
                schedule_id = expect(answer, 201)["schedule_id"]
                expect(await remote.http.post("/models/held/pause"), 200)
            await fired_beyond(remote, schedule_id, acknowledged + 1)
            await asyncio.sleep(draw.random())
            acknowledged = await runs(remote, schedule_id)
            await remote.process.kill()
        times, schedule = stored(tmp_path / "tasks.db")
        assert schedule["runs"] == len(times) >= acknowledged
        assert schedule["due_at"] > schedule["last_due_at"] > last_due
        check_seconds(times[before:], began)
        before, last_due = len(times), schedule["last_due_at"]
        await asyncio.sleep(1.1)  # at least one regular time is missed
    async with service(path) as remote:
        await fired_beyond(remote, schedule_id, before)
        models = expect(await remote.http.get("/models"), 200)["models"]
        assert [m["name"] for m in models if m["paused"]] == ["held"]
        assert (await remote.http.delete(f"/schedules/{schedule_id}")).status_code == 204
        tasks = expect(await remote.http.get("/tasks", params={"limit": 500}), 200)["tasks"]
        assert {task["schedule_id"] for task in tasks} == {schedule_id}
        for task in tasks:
            assert (await remote.done(task["task_id"]))["status"] == "completed"
    check_nothing_left(tmp_path / "tasks.db")


def check_seconds(times: list[int], began: float) -> None:
    """No second has made two tasks: one for the time that was missed, one for each that came.

    A firing may be late on a busy machine, and its task then be made in the second of the next.
    """
    assert len(times) <= 1 + times[-1] // 1000 - int(began)


def check_nothing_left(path: Path) -> None:
    """The deleted schedule has left nothing behind."""
    with sqlite3.connect(path) as database:
        left = database.execute("SELECT COUNT(*) FROM kept WHERE kind LIKE 'sched%'").fetchone()
    database.close()
    assert left == (0,)
