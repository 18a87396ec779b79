"""SingleFlight: tasks that ask for the same and wait for one call together.

Owns who waits for which answer. Promises that at most one task of a flight waits in a lane,
the most urgent; that a task which comes while the call is under way is taken aboard, or, where
that is no longer possible, is let go when the call is over; so there is never more than one
call for the same answer at a time. Never calls anybody, never looks at an answer.
"""

from collections.abc import Callable

from asyncsvc.scheduling.priority_queue import Line, entry_of
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.tasks.state import Task

Board = Callable[[Task], bool]
"""Takes a task aboard a call under way; False where it is too late for that."""


class _Group:
    """Those who wait; `board` is set while the call is under way."""

    def __init__(self) -> None:
        self.line = Line()
        self.tasks: dict[str, Task] = {}
        self.lead: Task | None = None
        self.board: Board | None = None


class SingleFlight:
    """`enter` to wait, `leave` to wait no longer, `depart` and `land` for the call."""

    def __init__(self, scheduler: Scheduler, enter: Callable[[Task], None] | None = None) -> None:
        self._scheduler = scheduler
        self._enter_lane = enter or scheduler.enter
        self._single_flight: dict[str, _Group] = {}
        self._keys: dict[str, str] = {}
        """The flight for which a task waits. It stays the same when settings that shape answers
        change meanwhile: who asked for the same still does."""
        self._away: dict[str, str] = {}
        """The flight whose call is under way, by the task that made it."""

    def __len__(self) -> int:
        """How many wait behind another."""
        return sum(len(f.tasks) - (f.lead is not None) for f in self._single_flight.values())

    def enter(self, key: str, task: Task) -> None:
        """Wait for the call, or join the one under way."""
        key = self._keys.get(task.id, key)
        flight = self._single_flight.setdefault(key, _Group())
        if flight.board is not None and flight.board(task):
            return
        self._keys[task.id] = key
        flight.tasks[task.id] = task
        flight.line.enter(entry_of(task))
        self._choose(flight)

    def leave(self, task: Task) -> None:
        """Wait no longer; another leads where it led."""
        key = self._keys.pop(task.id, None)
        if key is None:
            return
        flight = self._single_flight[key]
        del flight.tasks[task.id]
        flight.line.leave(task.id)
        if flight.tasks or flight.board is not None:
            self._choose(flight)
        else:
            del self._single_flight[key]

    def depart(self, key: str | None, task: Task, board: Board) -> list[Task]:
        """All who wait with the task, which comes first; none where a call is under way."""
        key = self._keys.get(task.id, key)
        if key is None:
            return [task]
        flight = self._single_flight.setdefault(key, _Group())
        if flight.board is not None:
            return []
        flight.board = board
        self._away[task.id] = key
        waiting = [each for each in flight.tasks.values() if each.id != task.id]
        for each in [task, *waiting]:
            self._scheduler.leave(each)
            self._keys.pop(each.id, None)
        flight.tasks, flight.line, flight.lead = {}, Line(), None
        return [task, *waiting]

    def land(self, task: Task) -> list[Task]:
        """The task's call is over and recorded: those who came too late for it."""
        key = self._away.pop(task.id, None)
        if key is None:
            return []
        flight = self._single_flight.pop(key)
        for task_id in flight.tasks:
            del self._keys[task_id]
        return list(flight.tasks.values())

    def _choose(self, flight: _Group) -> None:
        """Let the most urgent one stand in the lane."""
        if flight.board is not None:
            return
        head = flight.line.head()
        lead = flight.tasks[head.task_id] if head is not None else None
        if flight.lead is not None and (lead is None or lead.id != flight.lead.id):
            self._scheduler.leave(flight.lead)
        if lead is not None and (flight.lead is None or lead.id != flight.lead.id):
            flight.lead = lead
            self._enter_lane(lead)
