"""What the routes are given: the parts of the house, by name.

Owns the type of starlette's lifespan state. Never holds anything itself.
"""

from dataclasses import dataclass

from asyncsvc.engine.batching import Batches
from asyncsvc.engine.cache import Cache
from asyncsvc.engine.control import Control
from asyncsvc.engine.dispatch import Dispatch
from asyncsvc.engine.executor import Executor
from asyncsvc.engine.forecast import Forecaster
from asyncsvc.engine.holding import Holds
from asyncsvc.engine.importing import Importer
from asyncsvc.engine.intake import Intake
from asyncsvc.engine.monitor import Monitor
from asyncsvc.engine.pool import WorkerPool
from asyncsvc.engine.reloading import Reloader
from asyncsvc.engine.schedules import Schedules
from asyncsvc.engine.tally import Tally
from asyncsvc.engine.webhooks import Webhooks
from asyncsvc.providers.catalogue import Catalogue
from asyncsvc.settings import Settings
from asyncsvc.tasks.backup import Backups
from asyncsvc.tasks.journal import Journal
from asyncsvc.web.bodies import Bodies
from asyncsvc.web.sockets import Sockets


@dataclass(frozen=True, slots=True)
class House:
    """The open parts, as `app.py` has wired them."""

    settings: Settings
    journal: Journal
    catalogue: Catalogue
    dispatch: Dispatch
    executor: Executor
    cache: Cache
    forecaster: Forecaster
    intake: Intake
    webhooks: Webhooks
    control: Control
    holds: Holds
    schedules: Schedules
    batches: Batches
    pool: WorkerPool
    reloader: Reloader
    tally: Tally
    monitor: Monitor
    sockets: Sockets
    bodies: Bodies
    backups: Backups
    importer: Importer
    started_ms: int
