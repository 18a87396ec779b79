"""What the scheduler needs of the journal: the unfinished tasks, and appends.

The service gives it the journal; a rehearsal gives it a log in memory.
"""

from collections.abc import Awaitable, Mapping
from typing import Protocol

from asyncsvc.clock import Now
from asyncsvc.journal.journal import Change
from asyncsvc.tasks.state import Task


class Texts(Protocol):
    """Reads of what a task's model has written."""

    async def since_attempt(self, n: int, kind: str = "chunk") -> list[str]:
        """See `Store.since_attempt`."""


class TaskLog(Protocol):
    """See `Journal` for what each of these promises."""

    @property
    def now(self) -> Now: ...

    @property
    def live(self) -> Mapping[str, Task]: ...

    @property
    def store(self) -> Texts: ...

    async def task(self, task_id: str) -> Task: ...

    def append(self, change: Change, /) -> Awaitable[list[Task]]: ...
