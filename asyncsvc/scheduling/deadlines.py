"""How long a task may take once it has started, and what is said when that time is over.

Owns the deadline of each task from its first start to its end, retries included, and its last
fault. Promises that a task of which no call was made has not begun to use its time, and that one
which was only ever told to slow down is not said to have been slow. Never ends a task.
"""

import asyncio
from dataclasses import dataclass

from asyncsvc.config.settings import Settings
from asyncsvc.errors import GateClosed, ProviderError, TaskTimeout
from asyncsvc.tasks.state import Task


@dataclass(slots=True)
class Deadline:
    """Until when it must be done, by the loop's clock, and its last fault."""

    until: float
    fault: ProviderError | None = None

    @property
    def refusal(self) -> ProviderError | None:
        """That fault, where it was to slow down."""
        return self.fault if self.fault is not None and self.fault.slow_down else None


class Deadlines:
    """`begin` with a start, `blame` what ended it, `drop` with the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: dict[str, Deadline] = {}

    def limit_s(self, task: Task) -> float:
        """How long the task may take from its start, retries included."""
        timeouts = self._settings.timeouts
        default = timeouts.long_s if task.request.lane == "long" else timeouts.short_s
        return task.request.timeout_s or default

    def of(self, task: Task) -> Deadline | None:
        """None where it has not started."""
        return self._found.get(task.request.id)

    def begin(self, task: Task) -> float:
        """The task starts: until when it may take, by the loop's clock, retries included."""
        if (allowance := self._found.get(task.id)) is None:
            now = asyncio.get_running_loop().time()
            allowance = self._found[task.id] = Deadline(now + self.limit_s(task))
        return allowance.until

    def blame(self, task: Task, fault: ProviderError) -> None:
        """Remember why it has to wait again, for the case that its time runs out meanwhile."""
        if (allowance := self._found.get(task.id)) is None:
            return
        if not isinstance(fault, GateClosed):
            allowance.fault = fault
        elif allowance.fault is None and not task.tries:
            self.drop(task)

    def drop(self, task: Task) -> None:
        """Its time begins anew with its next start, if there is one."""
        self._found.pop(task.id, None)

    def over(self, task: Task, begun: bool) -> ProviderError:
        """What a task fails with whose time ends in a call; `begun`: with an answer under way."""
        allowance = self._found.get(task.id)
        if not begun and allowance is not None and allowance.refusal is not None:
            return allowance.refusal  # what it had time for was waiting
        return TaskTimeout(f"the task took longer than {self.limit_s(task):g} s")
