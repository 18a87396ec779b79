"""The journal of a rehearsal: tasks in memory, changed by the same table as the service's own."""

import asyncio
from collections.abc import Callable

from asyncsvc.clock import Now
from asyncsvc.errors import TaskNotFound
from asyncsvc.journal.journal import Change
from asyncsvc.journal.transaction import Transaction
from asyncsvc.tasks.state import FINISHED, Request, Task, create


class NoTexts:
    """What the models have written: nothing, as none is called."""

    async def since_attempt(self, n: int, kind: str = "chunk") -> list[str]:
        """No text."""
        return []


class MemoryLog:
    """The unfinished tasks; an append is applied at once."""

    def __init__(self, now: Now, on_change: Callable[[Task | None, Task], None]) -> None:
        self.now = now
        self.live: dict[str, Task] = {}
        self.store = NoTexts()
        self.empty = asyncio.Event()
        """Set while no task is unfinished."""
        self._on_change = on_change
        self._newest = 0

    def create(self, request: Request) -> Task:
        """A new task, which comes at this moment."""
        self._newest += 1
        task, _ = create(request, self.now(), self._newest)
        self.live[task.id] = task
        self.empty.clear()
        self._on_change(None, task)
        return task

    async def task(self, task_id: str) -> Task:
        """The task, if it is unfinished. Raises TaskNotFound."""
        if (task := self.live.get(task_id)) is None:
            raise TaskNotFound(task_id)
        return task

    async def append(self, change: Change) -> list[Task]:
        """Apply a change. Raises IllegalTransition and TaskNotFound."""
        return [self.change(change)]

    def change(self, change: Change) -> Task:
        """The same, without waiting."""
        transaction = Transaction(self.live.get, self.now(), self._newest)
        (task,) = transaction.accept((change,))
        before = self.live.get(task.id)
        if task.state in FINISHED:
            self.live.pop(task.id, None)
            if not self.live:
                self.empty.set()
        else:
            self.live[task.id] = task
        self._on_change(before, task)
        return task
