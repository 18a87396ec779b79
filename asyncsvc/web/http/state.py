"""`Services`: the open parts of the service, as starlette's lifespan state gives them to routes."""

import asyncio
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from asyncsvc.access import Caller, Clients
from asyncsvc.batches.batches import Batches
from asyncsvc.config.diff import Difference
from asyncsvc.config.settings import Settings
from asyncsvc.cron.schedules import Schedules
from asyncsvc.errors import TaskNotFound
from asyncsvc.execution.execution import Executor
from asyncsvc.execution.workers import WorkerPool
from asyncsvc.intake.commands import Control, Holds
from asyncsvc.intake.decisions import Decisions
from asyncsvc.intake.forks import Forks
from asyncsvc.intake.importer import Importer
from asyncsvc.intake.intake import Intake
from asyncsvc.journal.counters import TaskCounters
from asyncsvc.journal.journal import Journal
from asyncsvc.lifecycle.reload import Reloader
from asyncsvc.loop_turns import LoopTurns
from asyncsvc.monitoring.figures import FigureHistory
from asyncsvc.monitoring.monitor import Monitor
from asyncsvc.providers.registry import Catalogue
from asyncsvc.scheduling.cache import Cache
from asyncsvc.scheduling.eta import EtaEstimator
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.storage.backup import Backups
from asyncsvc.tasks.state import Task
from asyncsvc.tools.registry import Toolbox
from asyncsvc.tools.task_workspaces import TaskWorkspaces
from asyncsvc.web.http.body_memory import Bodies
from asyncsvc.web.http.sockets import Sockets
from asyncsvc.webhooks.deliveries import Webhooks

LONG_READS_AT_ONCE = 2
"""Lists of hundreds of tasks, and counts of all, that are read at once: one list holds some
megabytes until it is text, and Python seldom gives back what many of them took."""
EXPORTS_AT_ONCE = 2
"""Exports that have a page in memory: one with a task of 18 MB takes 50 MB. One whose client does
not read is let go within seconds, and the next one has its turn."""


@dataclass(frozen=True, slots=True)
class Services:
    """The open parts, as `app.py` has wired them."""

    settings: Settings
    journal: Journal
    catalogue: Catalogue
    scheduler: Scheduler
    executor: Executor
    cache: Cache
    eta_estimator: EtaEstimator
    intake: Intake
    webhooks: Webhooks
    control: Control
    decisions: Decisions
    holds: Holds
    schedules: Schedules
    batches: Batches
    pool: WorkerPool
    reloader: Reloader
    task_counters: TaskCounters
    monitor: Monitor
    figures: FigureHistory
    bodies: Bodies
    answers: Bodies
    """Room for the large answers that are being sent."""
    backups: Backups
    importer: Importer
    toolbox: Toolbox
    workspaces: TaskWorkspaces
    forks: Forks
    started_ms: int
    sockets: Sockets = field(default_factory=Sockets)
    exports: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(EXPORTS_AT_ONCE))
    """The exports that have a page of tasks in memory."""
    long_reads: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(LONG_READS_AT_ONCE)
    )
    turns: LoopTurns = field(default_factory=LoopTurns)
    """Of answers that take the event loop some milliseconds."""

    @property
    def clients(self) -> Clients:
        """The callers that have tokens."""
        return self.reloader.clients

    async def reload(self) -> Difference:
        """Read the settings again; callers who may no longer come in lose their WebSockets
        and streams. Raises SettingsError or StorageUnavailable; then nothing has changed."""
        found = await self.reloader.reload()
        await self.sockets.close_unknown(self.clients.knows)
        return found

    async def task(self, caller: Caller, task_id: str) -> Task:
        """The task as it stands, for a caller who may see it. Raises TaskNotFound.

        Another's task is answered as one that does not exist, and after the same read.
        """
        live = self.journal.live.get(task_id)
        if live is not None and caller.sees(live.request.owner):
            return live
        found = await self.journal.store.task(task_id)
        if found is None or not caller.sees(found.request.owner):
            raise TaskNotFound(task_id)
        return self.journal.live.get(task_id, found)


def services(connection: HTTPConnection) -> Services:
    """The open parts of the service, for a request or a WebSocket."""
    found: Services = connection.scope["state"]["services"]
    return found
