"""The reloader: applies changed settings while tasks run; the handler of SIGHUP, which asks for it.

Owns the order: read, check the whole, compare, apply; and the handler from before the store is
opened until after it is closed. Promises that faults change nothing; that
all changes are applied between two steps of the event loop; that no call under way is touched;
that a window's past calls still count; that waiting tasks choose a model anew, and what a
provider had refused for good is tried again. Never reads a file itself.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from asyncsvc.access import Clients
from asyncsvc.config import diff as live
from asyncsvc.config.diff import Difference
from asyncsvc.config.environment import Environment
from asyncsvc.config.settings import Settings
from asyncsvc.execution.workers import WorkerPool
from asyncsvc.intake.commands import Holds
from asyncsvc.journal.journal import Journal
from asyncsvc.lifecycle.restart import LearnedLimits, learned
from asyncsvc.limits.verdict import Stage
from asyncsvc.providers.client import Client
from asyncsvc.providers.registry import Catalogue
from asyncsvc.routing.router import Router
from asyncsvc.scheduling.candidates import AccountSlot
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.tools import registry

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Reloader:
    """`reload`, one at a time. `settings` are the settings in force, which all parts share."""

    settings: Settings
    read: Callable[[], Settings] | None
    """Reads file and environment. Raises SettingsError. None: there are none."""
    environment: Environment
    """The variables, of which those of the `.env` file are read again."""
    clients: Clients
    journal: Journal
    catalogue: Catalogue
    client: Client
    router: Router
    scheduler: Scheduler
    learned_limits: LearnedLimits
    pool: WorkerPool
    holds: Holds
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    renewals: list[Callable[[], None]] = field(default_factory=list)
    """Called first, such as for the certificate of TLS. May raise SettingsError."""
    reloaded: Callable[[], None] = lambda: None
    """Called when other settings are in force."""

    async def reload(self) -> Difference:
        """What has changed. Raises SettingsError or StorageUnavailable; then nothing
        has."""
        async with self.lock:
            for renew in self.renewals:
                renew()
            with self.environment.reread() as variables:
                return await self._reload(variables)

    async def _reload(self, variables: list[str]) -> Difference:
        """Read, check and apply the settings, `variables` of the `.env` file having changed."""
        new = self.read() if self.read is not None else self.settings
        plan, callers = self.catalogue.plan(new), self.clients.plan(new)
        store, now = self.journal.store, self.journal.now
        reach_ms = round(max((m.rpm_window_s for m in new.models.values()), default=60) * 2000)
        # The earlier calls of a model that was removed and comes back still count.
        known = {gate.name for gate in self.catalogue.gates}
        added = any(account.gate not in known for account in plan.usable)
        calls = await store.calls_since(now() - reach_ms) if added else []
        limits = await learned(store) if added else {}
        caching = new.cache.enabled and not self.settings.cache.enabled
        # No await from here to the end of `_apply`: no other coroutine sees half of the change.
        found = live.difference(self.settings, new)
        found.variables.extend(variables)
        found.needs_restart.extend(live.read_at_the_start(self.settings, variables))
        lacking = self.catalogue.lacking() | self._resting()
        live.adopt(self.settings, new)
        self.journal.keep_calls_ms = max(self.journal.keep_calls_ms, reach_ms)
        self.clients.adopt(new, callers)
        fresh = self.catalogue.adopt(plan)
        self.catalogue.restore(calls, now(), fresh)
        self.catalogue.learned(limits, fresh)
        self._apply("queue.ttl_s" in found.changed)
        self.reloaded()
        self._note_models(found, lacking)
        if caching:
            await self.scheduler.cache.load(store)
        log.info("settings read again: %s", found)
        for line in registry.warnings(new.tools) if "tools.approve" in found.changed else ():
            log.warning("%s", line)
        return found

    def _note_models(self, found: Difference, before: dict[str, str]) -> None:
        """Note which models the reload has brought back or taken away; `before` has the reasons
        why models could not be used."""
        after, resting = self.catalogue.lacking(), self._resting()
        found.enabled.extend(
            name for name in self.settings.models if name in before and name not in after | resting
        )
        found.disabled.update({n: why for n, why in after.items() if before.get(n) != why})

    def _resting(self) -> dict[str, str]:
        """The models of which no account takes calls at the moment, and why."""
        reasons: dict[str, list[str | None]] = {}
        for upstream in self.catalogue.upstreams:
            reasons.setdefault(upstream.name, []).append(upstream.gate.describe(Stage.QUEUE))
        return {name: str(found[-1]) for name, found in reasons.items() if all(found)}

    def _apply(self, ttl_changed: bool) -> None:
        settings = self.settings
        self.router.apply(settings.models, settings.routes)
        self.client.apply(settings.timeouts, settings.limits)
        self.scheduler.cache.apply(settings.cache)
        self.holds.apply()
        self.scheduler.apply(self._account_slots(), ttl_changed)
        self.pool.staff()

    def _account_slots(self) -> list[AccountSlot]:
        """An account slot for each account; an account that had one keeps it."""
        held = {
            id(account_slot.gate): account_slot for account_slot in self.scheduler.account_slots
        }
        account_slots = []
        for upstream in self.catalogue.upstreams:
            account_slot = held.get(id(upstream.gate)) or AccountSlot(upstream)
            account_slot.upstream = upstream
            account_slots.append(account_slot)
        return account_slots


@contextmanager
def hangup(reload: Callable[[], None], stop: Callable[[], None]) -> Generator[None]:
    """While the context lasts, SIGHUP calls `reload` in the event loop, or `stop` where the
    terminal of the process was closed. Systems without the signal are not affected."""
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        yield
        return
    loop = asyncio.get_running_loop()
    # Under nohup the signal was ignored: then a closed terminal must not stop the service.
    bound = signal.getsignal(number) is not signal.SIG_IGN and has_terminal()

    def received(*_: Any) -> None:
        loop.call_soon_threadsafe(stop if bound and not has_terminal() else reload)

    before = signal.signal(number, received)
    try:
        yield
    finally:
        signal.signal(number, before)


def has_terminal() -> bool:
    """Whether the process belongs to a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
