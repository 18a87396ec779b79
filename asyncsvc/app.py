"""The application context: opens all parts of the service in order, and builds the web app.

A failed start closes what was open. This is the only module that imports from every package.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Router
from starlette.types import ASGIApp

from asyncsvc.access import Clients
from asyncsvc.batches.batches import Batches
from asyncsvc.batches.files import Files
from asyncsvc.batches.steps import Steps
from asyncsvc.clock import Now, Uptime, now_ms, uptime_ms
from asyncsvc.config.environment import Environment
from asyncsvc.config.settings import Settings
from asyncsvc.cron.schedules import Schedules
from asyncsvc.errors import StorageUnavailable
from asyncsvc.execution.agent import Agents
from asyncsvc.execution.execution import Executor
from asyncsvc.execution.workers import WorkerPool
from asyncsvc.intake.admission import Admission, Keys
from asyncsvc.intake.agent_checks import AgentChecks
from asyncsvc.intake.commands import Control, Holds
from asyncsvc.intake.decisions import Decisions
from asyncsvc.intake.forks import Forks
from asyncsvc.intake.importer import Importer
from asyncsvc.intake.intake import Intake
from asyncsvc.intake.staging import Staging
from asyncsvc.journal.counters import TaskCounters
from asyncsvc.journal.journal import Journal
from asyncsvc.large_work import LargeWork
from asyncsvc.lifecycle.reload import Reloader
from asyncsvc.lifecycle.restart import LearnedLimits, recover
from asyncsvc.lifecycle.retention import Retention
from asyncsvc.limits.account import AccountLimiter
from asyncsvc.monitoring.figures import FigureHistory
from asyncsvc.monitoring.model_log import ModelLog
from asyncsvc.monitoring.monitor import Monitor, Watch
from asyncsvc.monitoring.otel import Telemetry
from asyncsvc.monitoring.spans import SpanMaker
from asyncsvc.monitoring.task_log import TaskLog
from asyncsvc.providers.client import Client
from asyncsvc.providers.registry import Catalogue
from asyncsvc.routing.router import Router as ModelRouter
from asyncsvc.scheduling.cache import Cache
from asyncsvc.scheduling.candidates import AccountSlot, Chooser
from asyncsvc.scheduling.dispatcher import Dispatcher
from asyncsvc.scheduling.eta import EtaEstimator
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.scheduling.timers import Timers
from asyncsvc.storage.backup import Backups
from asyncsvc.storage.database import Database
from asyncsvc.storage.migrations import unusable
from asyncsvc.storage.room import MB
from asyncsvc.tools.execute import Runner, exec_tools
from asyncsvc.tools.fetch import fetch_tools
from asyncsvc.tools.files import FILE_TOOLS
from asyncsvc.tools.mcp_servers import McpServers
from asyncsvc.tools.memory import Memories, memory_tools
from asyncsvc.tools.registry import Toolbox, Workspaces
from asyncsvc.tools.task_workspaces import TaskWorkspaces
from asyncsvc.web.http import errors
from asyncsvc.web.http.auth import Authenticator
from asyncsvc.web.http.body_memory import Bodies
from asyncsvc.web.http.proxies import TrustedProxies
from asyncsvc.web.http.resources import open_paths
from asyncsvc.web.http.security_headers import with_security_headers
from asyncsvc.web.http.state import Services
from asyncsvc.web.openai.batches import endpoints
from asyncsvc.web.openapi.routes import Description
from asyncsvc.web.page.routes import Page
from asyncsvc.web.routes import ROUTES
from asyncsvc.web.tasks import views
from asyncsvc.webhooks.deliveries import Webhooks

RECORD_S = 5.0
"""How long a stop tries to record what it interrupts."""


@asynccontextmanager
async def open_services(
    settings: Settings,
    environ: Mapping[str, str],
    now: Now = now_ms,
    read: Callable[[], Settings] | None = None,
    watch: Watch = Monitor,
    uptime: Uptime = uptime_ms,
    client: Client | None = None,
) -> AsyncIterator[Services]:
    """All parts of the service, open and running. Raises StartError or SettingsError.

    `settings` belong to the service from here on: a reload changes them to what `read` returns.
    `client` makes the calls to providers; by default one over HTTP. It is opened and closed with
    the service.
    """
    async with AsyncExitStack() as stack:
        path, large_work = Path(settings.storage.path), LargeWork()
        stack.callback(large_work.close)
        http = partial(Client, limits=settings.limits, large_work=large_work)
        try:
            services = await _opened(
                stack,
                settings,
                environ,
                now,
                read,
                watch,
                uptime,
                client or http(settings.timeouts, now),
                large_work,
            )
        except StorageUnavailable as error:
            raise unusable(path, error) from None
        yield services


async def _opened(
    stack: AsyncExitStack,
    settings: Settings,
    environ: Mapping[str, str],
    now: Now,
    read: Callable[[], Settings] | None,
    watch: Watch,
    uptime: Uptime,
    client: Client,
    large_work: LargeWork,
) -> Services:
    environment = Environment.of(environ)
    catalogue = Catalogue(settings, environment)
    journal = await _journal(stack, settings, now, catalogue)
    await stack.enter_async_context(client)
    router = ModelRouter(settings.models, settings.routes)
    scheduler = await _scheduler(settings, catalogue, router, journal)
    stack.push_async_callback(scheduler.close)
    tools, workspaces = _toolbox(stack, settings, environment, journal), _workspaces(settings)
    agents = Agents(journal, client, scheduler, tools, workspaces, settings)
    executor = Executor(journal, client, scheduler, settings, agents, large_work)
    stack.push_async_callback(executor.close)
    pool = WorkerPool(scheduler, executor, settings, journal.store.upkeep.room.open)
    holds = Holds(journal, catalogue, scheduler)
    await holds.open()
    await recover(journal, catalogue, scheduler)
    learned_limits = LearnedLimits(journal, catalogue.listener)
    stack.push_async_callback(learned_limits.close)
    _begin(stack, pool.run(), "workers")
    retention = Retention(journal, settings, now, uptime, sweep_workspaces=workspaces.sweep)
    _begin(stack, retention.run(), "retention")
    reloader = Reloader(
        settings,
        read,
        environment,
        Clients(settings, environment),
        journal,
        catalogue,
        client,
        router,
        scheduler,
        learned_limits,
        pool,
        holds,
    )
    rooms = _rooms(settings, large_work)
    parts = await _front(stack, environment, watch, executor, reloader, tools, workspaces, rooms)
    _begin_front(stack, parts)
    return parts


async def _journal(
    stack: AsyncExitStack, settings: Settings, now: Now, catalogue: Catalogue
) -> Journal:
    """The journal of the database of the settings."""
    store = await Database.open(Path(settings.storage.path), stack)
    store.upkeep.room.least = lambda: settings.limits.disk_free_mb * MB
    keep_ms = round(catalogue.longest_window_s() * 2000)
    return await stack.enter_async_context(Journal(store, now, keep_ms))


async def _front(
    stack: AsyncExitStack,
    environ: Mapping[str, str],
    watch: Watch,
    executor: Executor,
    inside: Reloader,
    toolbox: Toolbox,
    workspaces: TaskWorkspaces,
    rooms: Mapping[str, Bodies],
) -> Services:
    """The parts that serve clients: intake, commands, schedules, batches, webhooks, the monitor."""
    settings, journal, scheduler = inside.settings, inside.journal, inside.scheduler
    eta_estimator = EtaEstimator(scheduler.dispatcher, scheduler.sessions)
    webhooks = Webhooks(journal, settings.webhooks, environ, tracing=settings.otel.on)
    task_counters = TaskCounters(journal.live.values())
    journal.on_change = task_counters.changed
    admission, keys = _admission(inside, eta_estimator, webhooks, toolbox), Keys(journal)
    intake = Intake(journal, admission, scheduler, settings, task_counters, keys)
    control = Control(journal, scheduler, executor, intake, workspaces.remove)
    monitor = await stack.enter_async_context(watch(journal, intake, settings))
    return Services(
        settings=settings,
        journal=journal,
        catalogue=inside.catalogue,
        scheduler=scheduler,
        executor=executor,
        cache=scheduler.cache,
        eta_estimator=eta_estimator,
        intake=intake,
        webhooks=webhooks,
        control=control,
        decisions=Decisions(journal, scheduler),
        holds=inside.holds,
        batches=await _batches(stack, journal, intake, control, keys, settings),
        pool=inside.pool,
        reloader=inside,
        task_counters=task_counters,
        monitor=monitor,
        figures=FigureHistory(journal, task_counters, inside.catalogue, scheduler, monitor),
        bodies=rooms["bodies"],
        answers=rooms["answers"],
        backups=Backups(journal.store.path, journal.store.upkeep.room, journal.store.upkeep.check),
        importer=_importer(journal, scheduler, intake, workspaces, settings),
        toolbox=toolbox,
        workspaces=workspaces,
        forks=Forks(journal, intake, toolbox, workspaces, settings.queue),
        started_ms=journal.now(),
        # Last: what was missed while the service was away is submitted here.
        schedules=await _schedules(stack, journal, intake, keys),
    )


def _begin_front(stack: AsyncExitStack, services: Services) -> None:
    """Deliver webhooks, run batches and log what happens; send spans and metrics to the collector
    of the settings, if they name one. Raises StartError where the extra is missing."""
    _begin(stack, services.webhooks.run(partial(views.whole, services)), "webhooks")
    services.batches.begin(endpoints(services))
    _begin_log(services)
    if not services.settings.otel.on:
        return
    settings, maker = services.settings, SpanMaker(services.catalogue.of)
    telemetry = Telemetry(services.journal, maker, lambda: settings.otel)
    stack.push_async_callback(telemetry.close)
    _begin(stack, telemetry.run(), "telemetry")


def _begin_log(services: Services) -> None:
    """Log what happens to models, and each task that fails."""
    settings, catalogue = services.settings, services.catalogue
    model_log = ModelLog(lambda: settings.log, lambda: catalogue.gates)
    listener = catalogue.listener
    take_back = listener.on_close

    def closed(gate: AccountLimiter) -> None:
        model_log.closed(gate)
        take_back(gate)

    listener.on_close = closed
    for gate in catalogue.gates:
        model_log.closed(gate)
    services.monitor.on_look.append(model_log.look)
    task_log = TaskLog(lambda: settings.log, settings.otel.on)
    services.task_counters.on_failed = task_log.failed


def _admission(
    inside: Reloader, eta_estimator: EtaEstimator, webhooks: Webhooks, toolbox: Toolbox
) -> Admission:
    """The checks of a submit."""
    agents = AgentChecks(toolbox, inside.catalogue, inside.settings)
    return Admission(inside.catalogue, eta_estimator, inside.router, webhooks, agents)


async def _schedules(
    stack: AsyncExitStack, journal: Journal, intake: Intake, keys: Keys
) -> Schedules:
    schedules = Schedules(journal, intake, keys)
    stack.push_async_callback(schedules.close)
    await schedules.open()
    return schedules


def _importer(
    journal: Journal,
    scheduler: Scheduler,
    intake: Intake,
    workspaces: TaskWorkspaces,
    settings: Settings,
) -> Importer:
    folder = Path(settings.tools.workspace) / "incoming"
    staging = Staging(folder, journal.store.upkeep.room)
    return Importer(journal, scheduler, intake, workspaces, staging)


def _workspaces(settings: Settings) -> TaskWorkspaces:
    """The workspaces of agents: those of this database, of all that lie in the folder."""
    root, database = Path(settings.tools.workspace), Path(settings.storage.path).resolve()
    return TaskWorkspaces(root, lambda: settings.tools.checkpoint_mb * MB, str(database))


def _toolbox(
    stack: AsyncExitStack, settings: Settings, environ: Mapping[str, str], journal: Journal
) -> Toolbox:
    """The tools of the settings; none where they are switched off."""
    tools = settings.tools
    runner = Runner(tools)
    every = [
        *(kind() for kind in FILE_TOOLS),
        *exec_tools(runner, tools.exec_allow),
        *fetch_tools(tools),
        *memory_tools(Memories(journal)),
    ]
    workspaces = Workspaces(Path(tools.workspace))
    servers = McpServers(tools.mcp if tools.enabled else {}, environ, tools.timeout_s)
    toolbox = Toolbox(every if tools.enabled else [], workspaces, runner, servers)
    stack.push_async_callback(toolbox.close)
    return toolbox


def _rooms(settings: Settings, work: LargeWork) -> dict[str, Bodies]:
    """The memory for bodies of requests that are read, and for answers that are sent."""
    memory_mb, most = settings.limits.memory_mb, settings.queue.max_task_bytes
    return {kind: Bodies.of(memory_mb, most, work, kind) for kind in ("bodies", "answers")}


async def _batches(
    stack: AsyncExitStack,
    journal: Journal,
    intake: Intake,
    control: Control,
    keys: Keys,
    settings: Settings,
) -> Batches:
    files = Files(journal, settings, keys)
    await files.open()
    steps = partial(Steps, journal, intake, control, files, settings)
    batches = Batches(journal, files, settings, keys, steps)
    stack.push_async_callback(batches.close)
    return batches


def _begin(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    """Run a coroutine in the background until the service closes."""
    stack.push_async_callback(_cancelled, asyncio.create_task(work, name=name))


async def _scheduler(
    settings: Settings, catalogue: Catalogue, router: ModelRouter, journal: Journal
) -> Scheduler:
    """The scheduler with its dispatcher and the answers that the cache held before."""
    account_slots = [AccountSlot(upstream) for upstream in catalogue.upstreams]
    chooser = Chooser(account_slots, router, settings.routing.balance)
    dispatcher = Dispatcher(account_slots, chooser, catalogue.lacking, settings.queue.weights)
    cache = Cache(settings.cache, catalogue.upstreams, journal.now)
    await cache.load(journal.store)
    scheduler = Scheduler(journal, dispatcher, Timers(journal.now), settings, cache)
    catalogue.listener.on_close = scheduler.account_closed
    catalogue.listener.on_room = dispatcher.match_soon
    return scheduler


async def drain(services: Services, grace_s: float, hurry: asyncio.Event) -> None:
    """Stop in the order that loses nothing; `hurry` cuts the grace short.

    Intake, lanes, grace, interruption of the calls that still run, then the WebSockets: a client
    receives every committed event before its socket is closed.
    """
    services.intake.closed = True
    services.scheduler.stop()
    executions = list(services.executor.executions.values())
    if executions and grace_s > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await _first(_all([each.ended.wait() for each in executions]), hurry.wait())
    # A disk that refuses writes must not keep the process alive: what cannot be recorded is
    # found running by the next one, which takes it up just the same.
    with suppress(TimeoutError):
        async with asyncio.timeout(RECORD_S):
            await services.executor.interrupt_all()
    await services.sockets.close_all()
    services.journal.release()


async def _all(waits: Iterable[Awaitable[object]]) -> None:
    await asyncio.gather(*waits)


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until the first of them is done, and cancel the others."""
    tasks = {asyncio.create_task(wait) for wait in waits}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def web(services: Services) -> ASGIApp:
    """The web application over open services: authentication before the routes. Raises TypeError
    for a route that declares no scope.

    CORS headers are added only where the settings allow other origins, and those of a proxy count
    only where it is trusted.
    """
    server = services.settings.server

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[dict[str, object]]:
        yield {"services": services, "description": Description(ROUTES), "page": Page()}

    router = Router(ROUTES, default=errors.not_found, lifespan=lifespan)
    app = Authenticator(server, services.clients, open_paths(ROUTES)).behind(router.app)
    if server.allowed_origins:
        app = CORSMiddleware(
            app,
            allow_origins=server.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Location", "Retry-After", "X-Task-Id"],
        )
    return TrustedProxies(server.trusted_proxies).behind(with_security_headers(app))
