"""Sessions: the tasks of one conversation run one after another, in the order of arrival.

At most one task of a session, its head, waits in a lane or runs; that holds over a restart too,
because recovery enters the tasks in the order of arrival. A head that is scheduled or paused
holds back the tasks behind it: order is what a session is for.
"""

from collections import deque


class Sessions:
    """The unfinished tasks of each session, in order."""

    def __init__(self) -> None:
        self._tasks: dict[str, deque[str]] = {}

    def enter(self, session_id: str, task_id: str) -> bool:
        """Add a task at the end of its session; True where the task is the session's head."""
        tasks = self._tasks.setdefault(session_id, deque())
        if task_id not in tasks:
            tasks.append(task_id)
        return tasks[0] == task_id

    def before(self, session_id: str, task_id: str | None = None) -> str | None:
        """The id of the task directly before this one; without an id, before a task that came
        now."""
        found = None
        for other in self._tasks.get(session_id, ()):
            if other == task_id:
                break
            found = other
        return found

    def leave(self, session_id: str, task_id: str) -> str | None:
        """Remove a task; returns the id of the new head where the head has changed."""
        tasks = self._tasks.get(session_id)
        if tasks is None or task_id not in tasks:
            return None
        was_head = tasks[0] == task_id
        tasks.remove(task_id)
        if not tasks:
            del self._tasks[session_id]
            return None
        return tasks[0] if was_head else None
