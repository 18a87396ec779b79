"""Large bodies of tasks: how much of them the calls under way hold in memory.

Owns the room that they share, a part of `limits.memory_mb`. Promises that a call with a large body
begins only when there is room for it, in the order in which the calls came, and that calls with
small bodies never wait. Agents are not counted: they wait for tools and people with their bodies.
"""

from asyncsvc.config.settings import MB, Settings
from asyncsvc.memory import Room
from asyncsvc.storage.protocol import TextReads
from asyncsvc.tasks.state import Task

LARGE_BYTES = 1 << 20
"""Up to this size a body needs no room."""
TOKEN_BYTES = 5
"""A body has no more bytes for each token that it was estimated at (see `providers.tokens`)."""
LARGE_TOKENS = LARGE_BYTES // TOKEN_BYTES
"""A task that was estimated at more tokens may have a large body."""
IN_ALL = 16
"""The part of `limits.memory_mb`, one in so many, that the bodies may have: while a call is made, a
body is held about three times (the text, the request's JSON, what is still to be sent)."""


class LargeBodies:
    """The room for one service; there is always some for one body of the largest size."""

    def __init__(self, texts: TextReads, settings: Settings) -> None:
        largest = settings.queue.max_task_bytes
        self._texts = texts
        self._room = Room(max(largest, settings.limits.memory_mb * MB // IN_ALL))

    async def take(self, task: Task) -> int:
        """Wait for room for the task's body; the bytes that are to be given back, 0 for a small
        one. Raises StorageUnavailable."""
        beyond = task.request.tokens * TOKEN_BYTES
        piece = await self._texts.body(task.n, beyond)  # none of its bytes, and its size
        size = min(piece.size, self._room.most) if piece is not None else 0
        if size <= LARGE_BYTES:
            return 0
        await self._room.take(size)
        return size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._room.give(size)
