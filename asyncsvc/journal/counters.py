"""The journal's statistics since the process began: changes of tasks, and commits.

Owns the counts and distributions that only the moment of a change can tell, and the knowledge
whether the disk takes writes. Promises that each change of a task costs about a microsecond, that
memory is bounded, and that the state of the disk is what the last real commit showed, never a
guess. Never keeps a task, never writes.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable
from time import perf_counter
from types import TracebackType

from asyncsvc.errors import RequestError, StorageUnavailable
from asyncsvc.histogram import Histogram
from asyncsvc.tasks.state import State, Task

log = logging.getLogger(__name__)

SLOW_S = 1.0
"""A commit that takes longer is worth a line in the log."""
SUBMIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
WAIT_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0)
ERROR_S = (0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
COMMIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
PROMISES = 100_000
"""Promised starts remembered at most; those of the oldest tasks go first."""


class TaskCounters:
    """Hand `changed` to the journal; tell it of each promise and each refusal. `live` are the
    unfinished tasks that the journal has opened with."""

    def __init__(self, live: Iterable[Task] = ()) -> None:
        self.accepted: Counter[str] = Counter()
        """Tasks by lane."""
        self.finished: Counter[tuple[str, str]] = Counter()
        """By state and lane."""
        self.failed: Counter[str] = Counter()
        """By the error's code."""
        self.attempts: Counter[str] = Counter()
        """By the model's name, those answered from the cache left out."""
        self.refused: Counter[str] = Counter()
        """Submits, by the answer's code."""
        self.submit = Histogram(SUBMIT_S)
        """Seconds from the checked request to the task on the disk."""
        self.waited: dict[str, Histogram] = {}
        """Seconds from the queue to the first start, by lane."""
        self.error = Histogram(ERROR_S)
        """Seconds between the promised and the real start, whichever was first."""
        self.late = 0.0
        """The sum of the same, early starts counting as negative."""
        self.promises: dict[str, int] = {}
        owners = (task.request.owner for task in live)
        self.on_failed: Callable[[Task], None] = lambda task: None
        """Called for each task that has failed."""
        self.unfinished = Counter(owner for owner in owners if owner is not None)
        """Tasks by owner, those without one left out."""

    def refuse(self, error: RequestError | StorageUnavailable) -> None:
        """A submit was turned away."""
        self.refused[error.code if isinstance(error, RequestError) else "storage"] += 1

    def promised(self, task: Task, eta_s: float | None) -> None:
        """The start that was promised to the task's submitter."""
        if eta_s is None:
            return
        self.promises[task.id] = task.queued_at + round(eta_s * 1000)
        if len(self.promises) > PROMISES:
            del self.promises[next(iter(self.promises))]

    @property
    def bias_s(self) -> float | None:
        """How much later than promised tasks start on average; None: nothing is known."""
        return self.late / count if (count := self.error.count) else None

    def changed(self, before: Task | None, after: Task) -> None:
        """A commit has made `after` of `before`; None: new, or it was finished."""
        if after.request.owner is not None:
            self._count(after.request.owner, (not after.finished) - (before is not None))
        if before is not None and before.version == after.version:
            return  # nothing but text
        if after.version == 1:
            self.accepted[after.request.lane] += 1
            return
        if before is None:
            return  # finished before: a client runs it again
        if after.starts > before.starts and not after.cached:
            self.attempts[after.name or ""] += after.starts - before.starts
        if before.started_at is None and after.started_at is not None:
            self._started(after, after.started_at)
        if after.finished:
            self._finished(after)
        elif after.state is State.PAUSED:
            self.promises.pop(after.id, None)  # a promise says nothing about a pause

    def _count(self, owner: str, more: int) -> None:
        self.unfinished[owner] += more
        if not self.unfinished[owner]:
            del self.unfinished[owner]

    def _started(self, task: Task, at: int) -> None:
        lane = task.request.lane
        waited = self.waited.get(lane)
        if waited is None:
            waited = self.waited[lane] = Histogram(WAIT_S)
        waited.observe(max(at - task.queued_at, 0) / 1000)
        promised = self.promises.pop(task.id, None)
        if promised is not None:
            error = (at - promised) / 1000
            self.late += error
            self.error.observe(abs(error))

    def _finished(self, task: Task) -> None:
        self.promises.pop(task.id, None)
        self.finished[task.state.value, task.request.lane] += 1
        if task.state is State.FAILED and task.error is not None:
            self.failed[task.error["code"]] += 1
            self.on_failed(task)


class Writes:
    """The journal does each commit within `with writes:`. Times are the event loop's."""

    def __init__(self) -> None:
        self.refusal: str | None = None
        """Why the last commit was refused; None where it went well."""
        self.refusals = 0
        self.refused_at = -math.inf
        """When the last one was refused."""
        self.seconds = Histogram(COMMIT_S)
        """How long those took that went well."""
        self.ended = asyncio.get_running_loop().time()
        """When the last one ended, however it did."""
        self._began: float | None = None
        self._clocked = 0.0

    def __enter__(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self._clocked = perf_counter()  # the loop's clock may be too coarse for a commit

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self.ended = asyncio.get_running_loop().time()
        if error is None:
            self.refusal = None
            took = perf_counter() - self._clocked
            self.seconds.observe(took)
            if took > SLOW_S:
                text = "a commit took %.1f s: the disk of storage.path is slow or busy"
                log.warning(text, took, extra={"seconds": round(took, 3)})
        else:
            self.refusal = str(error) or type(error).__name__
            self.refusals += 1
            self.refused_at = self.ended
        self._began = None

    def under_way_s(self) -> float:
        """How long the commit has been going on that is under way; 0 where there is none."""
        if self._began is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._began
