"""What tasks have waited for: reads over many tasks, without their texts."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from asyncsvc.storage.entries import Waited
from asyncsvc.tasks.state import UNFINISHED

_UNFINISHED = ", ".join(f"'{state.value}'" for state in sorted(UNFINISHED))
_COLUMNS = (
    "n, id, owner, COALESCE(name, wanted_model), state, created_at, run_at, started_at, "
    "finished_at, marks, json_extract(route, '$.waited')"
)
Scan = Callable[[str, Sequence[Any]], Awaitable[list[Any]]]


class SQLiteWaits:
    """`WaitReads` in SQLite."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan

    async def since(self, owner: str | None, at: int, limit: int) -> list[Waited]:
        own = "" if owner is None else "AND owner = ?3"
        values = [at, limit, *([] if owner is None else [owner])]
        # Two selects, as each has an index: what came since then has ended since, or has not ended.
        rows = await self._scan(
            f"SELECT {_COLUMNS} FROM tasks WHERE finished_at >= ?1 {own} UNION ALL "
            f"SELECT {_COLUMNS} FROM tasks WHERE state IN ({_UNFINISHED}) {own} "
            "ORDER BY n DESC LIMIT ?2",
            values,
        )
        return [Waited(*row[1:]) for row in rows]
