"""Groups of tasks that wait for each other: sessions and single-flight groups.

The tasks of a session run one after another, in the order of arrival. At most one of them, the
head, waits in a lane or runs; that holds over a restart too, because recovery enters the tasks in
the order of arrival. A head that is scheduled or paused holds back the tasks behind it.

The tasks of a single-flight group are equal: they wait for one provider call and share its answer.
Only the leader, the most urgent task, waits in a lane. A task that arrives while the call is under
way joins it, or, where that is no longer possible, waits until the call is finished. So there is
at most one call for the same request at a time.

Groups only keep the books: each method returns what the scheduler has to do.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from asyncsvc.scheduling.fair_queue import Line, entry_of
from asyncsvc.tasks.state import Task

Session = tuple[str | None, str]
"""An owner, and the session's id."""


class Sessions:
    """The unfinished tasks of each session, in order."""

    def __init__(self) -> None:
        self._tasks: dict[Session, deque[str]] = {}

    def enter(self, session: Session, task_id: str) -> bool:
        """Add a task at the end of its session; True where the task is the session's head."""
        tasks = self._tasks.setdefault(session, deque())
        if task_id not in tasks:
            tasks.append(task_id)
        return tasks[0] == task_id

    def before(self, session: Session, task_id: str | None = None) -> str | None:
        """The id of the task directly before this one; without an id, before a task that came
        now."""
        found = None
        for other in self._tasks.get(session, ()):
            if other == task_id:
                break
            found = other
        return found

    def leave(self, session: Session, task_id: str) -> str | None:
        """Remove a task; returns the id of the new head where the head has changed."""
        tasks = self._tasks.get(session)
        if tasks is None or task_id not in tasks:
            return None
        was_head = tasks[0] == task_id
        tasks.remove(task_id)
        if not tasks:
            del self._tasks[session]
            return None
        return tasks[0] if was_head else None


Join = Callable[[Task], bool]
"""Adds a task to a call under way; False where it is too late for that."""


class LeaderChange(NamedTuple):
    """Tasks of a group that have to leave their lane, and to enter one, in this order."""

    leave: Task | None = None
    enter: Task | None = None


UNCHANGED = LeaderChange()


class _Group:
    """The waiting tasks of a group; `join` is set while the group's call is under way."""

    def __init__(self) -> None:
        self.line = Line()
        self.tasks: dict[str, Task] = {}
        self.leader: Task | None = None
        self.join: Join | None = None

    def choose_leader(self) -> LeaderChange:
        """Make the most urgent waiting task the leader, unless the call is under way."""
        if self.join is not None:
            return UNCHANGED
        head = self.line.head()
        chosen, before = (self.tasks[head.task_id] if head is not None else None), self.leader
        if chosen is not None and before is not None and chosen.id == before.id:
            return UNCHANGED
        if chosen is not None:
            self.leader = chosen
        return LeaderChange(before, chosen)


class SingleFlight:
    """All groups, by the key of the request that their tasks share."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._keys: dict[str, str] = {}
        """The group in which each task waits. A task stays in its group when settings that
        shape the key change meanwhile."""
        self._calling: dict[str, str] = {}
        """The group whose call is under way, by the task that made the call."""

    def __len__(self) -> int:
        """The number of tasks that wait behind a leader or a call."""
        return sum(len(g.tasks) - (g.leader is not None) for g in self._groups.values())

    def enter(self, key: str, task: Task) -> LeaderChange:
        """Add a task: it joins the call under way, or waits in its group."""
        key = self._keys.get(task.id, key)
        group = self._groups.setdefault(key, _Group())
        if group.join is not None and group.join(task):
            return UNCHANGED
        self._keys[task.id] = key
        group.tasks[task.id] = task
        group.line.enter(entry_of(task))
        return group.choose_leader()

    def leave(self, task: Task) -> LeaderChange:
        """Remove a waiting task; the group's next task leads in its place."""
        key = self._keys.pop(task.id, None)
        if key is None:
            return UNCHANGED
        group = self._groups[key]
        del group.tasks[task.id]
        group.line.leave(task.id)
        if group.tasks or group.join is not None:
            return group.choose_leader()
        del self._groups[key]
        return UNCHANGED

    def start(self, key: str | None, task: Task, join: Join) -> list[Task]:
        """Begin a group's call: the task and all that wait with it share the call from now on.

        Returns them, the task first; an empty list where a call of the group is under way.
        `key` counts for a task that waits in no group; None: the task shares its call with no
        other.
        """
        key = self._keys.get(task.id, key)
        if key is None:
            return [task]
        group = self._groups.setdefault(key, _Group())
        if group.join is not None:
            return []
        group.join = join
        self._calling[task.id] = key
        sharing = [task, *(each for each in group.tasks.values() if each.id != task.id)]
        for each in sharing:
            self._keys.pop(each.id, None)
        group.tasks, group.line, group.leader = {}, Line(), None
        return sharing

    def finish(self, task: Task) -> list[Task]:
        """End the call that the task made; returns the tasks that came too late to join it."""
        key = self._calling.pop(task.id, None)
        if key is None:
            return []
        group = self._groups.pop(key)
        for task_id in group.tasks:
            del self._keys[task_id]
        return list(group.tasks.values())
