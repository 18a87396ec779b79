"""A service in a process of its own, with a simulated provider, for a browser to look at.

It keeps its port and its database when it is killed and started again, as a page that is open
would find it. The provider runs beside the test and outlives the service.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncsvc.simulator import Profile, Running, running
from tests.flows.process import PATIENCE_S, Process, start
from tests.polling import until
from tests.web.serving import Client, local_client

PACE = {"first_token_s": 0.05, "tokens_per_s": 200, "answer_tokens": 40}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"model": "sim-fast", "concurrency": 5, "good_at": ["simple", "general"]},
    "limited": {"model": "sim-limited", "concurrency": 1, "rpm": 3, "good_at": ["reasoning"]},
    "embed": {"model": "sim-embed", "type": "embedding", "concurrency": 2},
}
"""The models of the settings: one with room, one with a narrow rate window, one for embeddings."""


@dataclass(frozen=True)
class Site(Client):
    """A running service; `url` stays the same over `kill` and `start`."""

    sim: Running
    settings: Path
    _stack: AsyncExitStack = field(repr=False)
    _processes: list[Process] = field(repr=False)

    @property
    def process(self) -> Process:
        """The latest one."""
        return self._processes[-1]

    async def start(self) -> None:
        """Start it again, on the same port and database."""
        self._processes.append(await self._stack.enter_async_context(start(self.settings)))
        assert self.process.line == self.url, self.process.log

    async def kill(self) -> None:
        """End the service as a power cut would; the provider stays."""
        await self.process.kill()

    async def idle(self) -> None:
        """Wait until every task is over."""

        async def unfinished() -> int:
            return int((await self.http.get("/health")).json()["unfinished"])

        await until(unfinished, lambda number: number == 0)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


def _write(path: Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
    lines = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@asynccontextmanager
async def site(
    folder: Path,
    profile: Mapping[str, Any] | None = None,
    models: Mapping[str, Mapping[str, Any]] = MODELS,
    **sections: Mapping[str, Any],
) -> AsyncIterator[Site]:
    """A service on a free port, until the block ends. `sections` are further settings, whose names
    may have dots: `**{"clients.alice": {...}}`."""
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(
            running(Profile.parse(dict(profile or {"default": PACE})))
        )
        values: dict[str, dict[str, Any]] = {
            "server": {"port": 0, "grace_s": 0.0},
            "storage": {"path": str(folder / "tasks.db")},
            "limits": {"disk_free_mb": 0, "loop_lag_ms": 0},
            "retry": {"base_s": 0.05, "max_s": 0.2},
            **{f"models.{name}": {"base_url": sim.base_url, **one} for name, one in models.items()},
        }
        for name, given in sections.items():
            values[name] = {**values.get(name, {}), **given}
        path = folder / "settings.toml"
        _write(path, values)
        processes = await stack.enter_async_context(AsyncExitStack())
        first = await processes.enter_async_context(start(path))
        assert first.line.startswith("http://"), first.log
        values["server"]["port"] = int(first.line.rpartition(":")[2])
        _write(path, values)
        http = await stack.enter_async_context(local_client(first.line, PATIENCE_S))
        yield Site(first.line, http, sim, path, processes, [first])
