"""Models that somebody has paused.

Owns which they are. Promises that a pause is durable when it is acknowledged and holds over
restarts until it is taken back; that calls under way go on, and that whoever waits for the
model goes to another one where another can serve. Never touches a task.
"""

import asyncio

import orjson

from asyncsvc.errors import ModelNotFound
from asyncsvc.journal.journal import Journal, PersistedValue
from asyncsvc.providers.registry import Catalogue
from asyncsvc.scheduling.scheduler import Scheduler, through

KIND = "held"


class Holds:
    """`pause` and `resume`; both may be said again."""

    def __init__(self, journal: Journal, catalogue: Catalogue, scheduler: Scheduler) -> None:
        self._journal = journal
        self._catalogue = catalogue
        self._scheduler = scheduler
        self._since: dict[str, int] = {}
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Hold what earlier processes held; call it before the workers start."""
        for name, _, value in await self._journal.store.persisted_values(KIND):
            self._since[name] = orjson.loads(value)["since"]
            self._set(name)

    def apply(self) -> None:
        """Hold what has come anew by a reload of the settings."""
        for name in self._since:
            self._set(name)

    def since(self, name: str) -> int | None:
        """When it was paused, in ms; None where it is not."""
        return self._since.get(name)

    async def pause(self, name: str) -> None:
        """Begin no call there. Raises ModelNotFound or StorageUnavailable."""
        await through(self._hold(name, True))

    async def resume(self, name: str) -> None:
        """Let calls begin again. Raises ModelNotFound or StorageUnavailable."""
        await through(self._hold(name, False))

    async def _hold(self, name: str, held: bool) -> None:
        models = self._catalogue.settings.models
        if name not in models:
            known = ", ".join(models) or "none"
            raise ModelNotFound(f"there is no model {name!r}; known: {known}", param="name")
        async with self._turn:
            if held == (name in self._since):
                return
            now = self._journal.now()
            value = orjson.dumps({"since": now}).decode() if held else None
            await self._journal.append(PersistedValue(KIND, name, value, durable=True))
            if held:
                self._since[name] = now
            else:
                del self._since[name]
            self._set(name)
            self._scheduler.match()

    def _set(self, name: str) -> None:
        reason = f"{name} is paused" if name in self._since else None
        gates = [upstream.gate for upstream in self._catalogue.of(name)]
        for gate in gates:  # all at once: a task that leaves the first must not go to the second
            gate.paused, gate.changes = reason, gate.changes + 1
        for gate in gates:
            gate.pause(reason)
