"""A service whose providers are scripted and whose clock is virtual.

Owns opening the real wiring (`asyncsvc.app.open_services`) on a file, killing it as a crash
would, and opening it again. Use it under `@virtual`.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, cast
from unittest.mock import patch

import orjson

from asyncsvc.app import open_services
from asyncsvc.config.diff import Difference
from asyncsvc.config.settings import Settings
from asyncsvc.monitoring.monitor import Monitor, Rhythm
from asyncsvc.monitoring.process_statistics import ProcessStatistics
from asyncsvc.providers.client import Client
from asyncsvc.tasks.state import State, Task
from asyncsvc.tasks.submission import Submission
from asyncsvc.web.http.state import Services
from tests.scripted import Script, ScriptedClient
from tests.virtual_time import START_MS, loop, wall_ms

TURNS = 2_000
MOMENT = 0.001
"""Virtual seconds: whatever can happen without waiting has happened by then."""


def model(**fields: Any) -> dict[str, Any]:
    """A model of the settings; by default one call at a time and no rate limit."""
    return {"base_url": "http://127.0.0.1:9/v1", "model": "id", "concurrency": 1} | fields


ONE = {"a": model()}
SELDOM = Rhythm(look_s=1e9, lag_s=1e9, idle_probe_s=1e9)
"""A monitor that does nothing by itself: a virtual day is not to be made of a million looks."""


class _NoPurge:
    """Retention has tests of its own; here it would write without being asked."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def run(self) -> None:
        await asyncio.Event().wait()


class EngineServices:
    """`async with EngineServices(tmp_path, models) as services`; more are settings."""

    services: Services

    def __init__(
        self,
        folder: Path,
        models: dict[str, dict[str, Any]] | None = None,
        client: ScriptedClient | None = None,
        **sections: Any,
    ) -> None:
        self.client = client or ScriptedClient()
        self.environ: Mapping[str, str] = {}
        self.shift_ms = 0
        """Milliseconds by which the wall clock was set away from the loop's."""
        self._folder = folder
        self.settings = self._made(ONE if models is None else models, sections)
        self.wanted = self.settings
        """What a reload finds."""
        self._open: AbstractAsyncContextManager[Services] | None = None
        self.seen = ProcessStatistics()
        """What the machine shows."""
        self.rhythm = SELDOM
        self.reliefs: list[float] = []
        """When freed memory was given back."""

    def _made(self, models: dict[str, dict[str, Any]], sections: dict[str, Any]) -> Settings:
        storage = {"path": str(self._folder / "tasks.db")}
        workspace = {"workspace": str(self._folder / "workspaces")}
        tools = {"tools": workspace | sections.get("tools", {})}
        whole = {"storage": storage, "models": models, **sections, **tools}
        return Settings.model_validate(whole)

    async def reload(
        self, models: dict[str, dict[str, Any]] | None = None, **sections: Any
    ) -> Difference:
        """Write other settings and have them read."""
        self.wanted = self._made(ONE if models is None else models, sections)
        return await self.services.reloader.reload()

    def now(self) -> int:
        return wall_ms() + self.shift_ms

    async def _look(self) -> ProcessStatistics:
        return self.seen

    async def _relieve(self) -> None:
        self.reliefs.append(loop().time())

    # Opening and closing --------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.reopen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def reopen(self) -> None:
        with patch("asyncsvc.app.Retention", _NoPurge):
            watch = partial(Monitor, look=self._look, rhythm=self.rhythm, relieve=self._relieve)
            self._open = open_services(
                self.settings,
                self.environ,
                self.now,
                lambda: self.wanted.model_copy(),
                watch,
                client=cast(Client, self.client),
            )
            self.services = await self._open.__aenter__()
        await asyncio.sleep(0)

    async def close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.__aexit__(None, None, None)

    async def crash(self) -> None:
        """End everything that is under way at this point, finishing and writing nothing."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        with suppress(asyncio.CancelledError):  # the journal waits for its writer, which is gone
            await self.close()

    async def restart(self) -> None:
        await self.crash()
        await self.reopen()

    # Asking ---------------------------------------------------------------------------------

    async def submit(self, content: str, *, key: str | None = None, **fields: Any) -> str:
        """The id of a new chat task."""
        return await self.submit_fields(key=key, content=content, **fields)

    async def submit_fields(self, *, key: str | None = None, **fields: Any) -> str:
        submission = Submission.model_validate(fields)
        return (await self.services.intake.submit(submission, key=key)).task_id

    async def answer(self, content: str, **fields: Any) -> dict[str, Any]:
        """The answer to the submitter of a new chat task."""
        submission = Submission.model_validate({"content": content} | fields)
        return (await self.services.intake.submit(submission)).answer

    async def submit_script(self, content: str, *scripts: Script, **fields: Any) -> str:
        """A task for whose prompt the provider plays these scripts."""
        self.client.on(content, *scripts)
        return await self.submit(content, **fields)

    async def submit_many(self, contents: list[str], **fields: Any) -> list[str]:
        submissions = [Submission.model_validate({"content": c} | fields) for c in contents]
        return [taken.task_id for taken in await self.services.intake.submit_all(submissions)]

    async def task(self, task_id: str) -> Task:
        return await self.services.journal.task(task_id)

    async def state(self, task_id: str) -> State:
        return (await self.task(task_id)).state

    async def finished(self, task_id: str) -> Task:
        """Wait for the task's last event."""
        async for _ in self.services.journal.follow(task_id):
            pass
        return await self.task(task_id)

    async def code(self, task_id: str) -> str | None:
        """Wait for the end; the code of its error."""
        error = (await self.finished(task_id)).error
        return None if error is None else str(error["code"])

    async def result(self, task_id: str) -> str | None:
        return await self.services.journal.store.result((await self.task(task_id)).n)

    async def streamed(self, task_id: str) -> str:
        """The text of the chunk events since the last attempt."""
        task = await self.task(task_id)
        rows = await self.services.journal.store.since_attempt(task.n)
        return "".join(orjson.loads(row)["text"] for row in rows)

    async def events(self, task_id: str) -> list[tuple[str, dict[str, Any]]]:
        """All (type, data) of the task. Their seq must be dense."""
        task = await self.task(task_id)
        rows = await self.services.journal.store.events(task.n, 0, 100_000)
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        return [(row.type, orjson.loads(row.data)) for row in rows]

    async def kinds(self, task_id: str) -> list[str]:
        """The events in short: the cause of a status event, the type of another."""
        return [str(data.get("cause", kind)) for kind, data in await self.events(task_id)]


def since(start: float = 0.0) -> float:
    """Virtual seconds since `start`, without the moments spent on getting there."""
    return round(loop().time() - start, 2)


def at_ms(seconds: float) -> int:
    """The wall clock at a virtual time."""
    return START_MS + round(seconds * 1000)
