"""Large bodies of tasks: how much of them the calls under way hold in memory.

Owns the room that they share, a part of `limits.memory_mb`. Promises that a large body is read only
when there is room for it, in the order in which the calls came, and that calls with small bodies
never wait. Agents are not counted: they wait for tools and people with their bodies.
"""

from functools import partial
from typing import Any

from asyncsvc.config.settings import MB, Settings
from asyncsvc.journal.journal import Journal
from asyncsvc.large_work import ASIDE_BYTES, LargeWork
from asyncsvc.memory import Room
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.state import Task

LARGE_BYTES = 1 << 20
"""Up to this size a body needs no room."""
IN_ALL = 16
"""The part of `limits.memory_mb`, one in so many, that the bodies may have: while a call is made, a
body is held about three times (the text, the request's JSON, what is still to be sent)."""


class LargeBodies:
    """The room for one service; there is always some for one body of the largest size."""

    def __init__(self, journal: Journal, settings: Settings, work: LargeWork) -> None:
        largest = settings.queue.max_task_bytes
        self._journal = journal
        self._work = work
        self._room = Room(max(largest, settings.limits.memory_mb * MB // IN_ALL))

    async def read(self, task: Task) -> tuple[dict[str, Any], int]:
        """The task's body, and the bytes of room that are to be given back: 0 for a small one, else
        it has waited for them. Raises what `Journal.body` raises."""
        if task.request.type == "agent":
            return await self._parsed(await self._journal.body(task)), 0
        piece = await self._journal.store.texts.body(task.n)
        if piece is not None and piece.end == piece.size:
            return await self._parsed(piece.data), 0
        if piece is None or piece.size <= LARGE_BYTES:
            return await self._parsed(await self._journal.body(task)), 0
        size = min(piece.size, self._room.most)
        await self._room.take(size)
        try:
            return await self._parsed(await self._journal.body(task)), size
        except BaseException:
            self._room.give(size)
            raise

    async def _parsed(self, stored: bytes) -> dict[str, Any]:
        if len(stored) <= ASIDE_BYTES:
            body = loads(stored)
        else:
            body = await self._work.run(len(stored), partial(loads, stored))
        found: dict[str, Any] = body
        return found

    def give(self, size: int) -> None:
        """Give room back."""
        self._room.give(size)
