"""The workers: as many coroutines for each account as it may ever take calls at once.

Owns the worker coroutines. Promises that one which dies is back at once and its task tried
again, whatever it died of; that at most one worker of an account stands at its gate. Never
looks at a task.
"""

import asyncio
import logging

from asyncsvc.engine.dispatch import Dispatch
from asyncsvc.engine.executor import Executor
from asyncsvc.engine.seats import Seat, Taken
from asyncsvc.providers.permit import Permit

log = logging.getLogger(__name__)


class WorkerPool:
    """`run` until cancelled."""

    def __init__(self, dispatch: Dispatch, executor: Executor) -> None:
        self.restarts = 0
        """How many workers have died and been replaced."""
        self._dispatch = dispatch
        self._executor = executor

    async def run(self) -> None:
        """Keep every seat staffed. Ends only by cancellation."""
        async with asyncio.TaskGroup() as group:
            for seat in self._dispatch.seats:
                for number in range(seat.upstream.gate.most):
                    name = f"worker {seat.upstream.gate.name}/{number + 1}"
                    group.create_task(self._keep(seat), name=name)

    async def _keep(self, seat: Seat) -> None:
        """A worker, and after it the next one: nothing but cancellation ends this."""
        while True:
            task_id: str | None = None
            try:
                permit, taken = await self._turn(seat)
                task_id = taken.entry.task_id
                try:
                    await self._executor.run(task_id, seat.upstream, permit, taken.route)
                finally:
                    permit.release()
                    self._dispatch.match()  # a long task may have waited for this slot
            except Exception:
                self.restarts += 1
                log.exception("a worker of %s died and is replaced", seat.upstream.gate.name)
                if task_id is not None:
                    await self._hand_back(task_id)

    async def _turn(self, seat: Seat) -> tuple[Permit, Taken]:
        """Stand at the gate until there is both a permit and a task for it."""
        gate = seat.upstream.gate
        async with seat.turn:
            while True:
                permit = await gate.acquire()
                try:
                    taken = await self._dispatch.next(seat, permit)
                except BaseException:
                    permit.release()
                    raise
                if taken is not None:
                    return permit, taken
                permit.release()

    async def _hand_back(self, task_id: str) -> None:
        try:
            await self._executor.abandoned(task_id)
        except Exception:
            log.exception("task %s could not be handed back; a restart will", task_id)
