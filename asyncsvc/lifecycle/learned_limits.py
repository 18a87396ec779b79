"""What the gates have learned, written down so that a restart begins where the last one ended.

Owns the moment of writing. Promises at most one write in `EVERY_S` for each gate, and none
where nothing was learned. Never holds up a gate: a disk that refuses costs only the memory of
it. Never decides a limit.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import orjson

from asyncsvc.errors import StorageUnavailable
from asyncsvc.journal.journal import Journal, PersistedValue
from asyncsvc.limits.account import Gate
from asyncsvc.storage.database import Store

KIND = "limits"
EVERY_S = 5.0


class LearnedLimits:
    """Listens to the gates from its making on; `close` writes what is still unwritten."""

    def __init__(self, journal: Journal, gates: Iterable[Gate]) -> None:
        self._journal = journal
        self._due: dict[str, tuple[Gate, asyncio.TimerHandle]] = {}
        self.listen(gates)

    def listen(self, gates: Iterable[Gate]) -> None:
        """To these too from now on."""
        for gate in gates:
            gate.on_learn = partial(self._changed, gate)

    async def close(self) -> None:
        """Write at once what would have been written later."""
        gates = [gate for gate, _ in self._due.values()]
        writes = [write for gate in gates if (write := self._write(gate)) is not None]
        with suppress(StorageUnavailable):
            await asyncio.gather(*writes)

    def _changed(self, gate: Gate) -> None:
        if gate.name not in self._due:
            timer = asyncio.get_running_loop().call_later(EVERY_S, self._write, gate)
            self._due[gate.name] = gate, timer

    def _write(self, gate: Gate) -> "asyncio.Future[Any] | None":
        _, timer = self._due.pop(gate.name)
        timer.cancel()
        if self._journal.closing:
            return None
        value = orjson.dumps(gate.adaptive.as_dict()).decode()
        return self._journal.append(PersistedValue(KIND, gate.name, value))


async def learned(store: Store) -> dict[str, Any]:
    """What earlier processes have written, by the gate's name."""
    return {key: orjson.loads(value) for key, _, value in await store.persisted_values(KIND)}
