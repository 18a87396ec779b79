"""What the tests of equal tasks do again and again."""

import sqlite3
from pathlib import Path
from typing import Any

from asyncsvc.tasks.state import State
from tests.engine_services import EngineServices, model
from tests.scripted import Script

WIDE = {"a": model(concurrency=8, rpm=600)}
STREAM: Script = [step for n in range(10) for step in (1.0, f"{n} ")]
WHOLE = "0 1 2 3 4 5 6 7 8 9 "


async def ask(services: EngineServices, count: int = 3, **fields: Any) -> list[str]:
    return await services.submit_many(["same"] * count, cache=True, **fields)


async def is_whole(services: EngineServices, task_id: str, text: str = WHOLE) -> None:
    """Completed, and what was streamed is the result."""
    assert (await services.finished(task_id)).state is State.COMPLETED
    assert await services.streamed(task_id) == await services.result(task_id) == text


def calls_on_disk(folder: Path) -> int:
    with sqlite3.connect(folder / "tasks.db") as other:
        found: int = other.execute("SELECT COUNT(*) FROM calls").fetchone()[0]
    other.close()
    return found
