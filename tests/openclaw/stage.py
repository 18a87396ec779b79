"""A real OpenClaw gateway, the simulator as its model, and asyncsvc in a process before it.

Owns their starting, killing and restarting. Promises that each is ended by its own pid and that
nothing of an OpenClaw of the user's is touched. Opt-in: `pytest -m openclaw`.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from asyncsvc.simulator import Profile, Running, running
from tests.flows.openclaw_gateway import Gateway, gateway
from tests.flows.process import Remote, service

WAIT_S = 90.0

SETTINGS = """
[server]
port = 0
grace_s = 0
[storage]
path = "{db}"
[breaker]
failures = 50
[models.claw]
preset = "openclaw"
base_url = "{url}"
api_key_env = "OPENCLAW_GATEWAY_TOKEN"
model = "openclaw/main"
concurrency = 4
[models.second]
preset = "openclaw"
base_url = "{url}"
api_key_env = "OPENCLAW_GATEWAY_TOKEN"
model = "openclaw/second@fake/other"
concurrency = 4
[models.socket]
preset = "openclaw"
protocol = "openclaw-ws"
base_url = "{url}"
api_key_env = "OPENCLAW_GATEWAY_TOKEN"
model = "openclaw/main"
concurrency = 4
[models.wrong]
preset = "openclaw"
base_url = "{url}"
api_key_env = "WRONG_TOKEN"
model = "openclaw/main"
[models.wrongsocket]
preset = "openclaw"
protocol = "openclaw-ws"
base_url = "{url}"
api_key_env = "WRONG_TOKEN"
model = "openclaw/main"
"""


class Stage:
    """`gateway` and `sim` as they run; the gateway can be killed and started again."""

    def __init__(self, folder: Path, sim: Running, port: int) -> None:
        self.folder, self.sim, self.port = folder, sim, port
        self.gateway: Gateway | None = None
        self._open: AbstractAsyncContextManager[Gateway] | None = None

    async def start(self) -> None:
        self._open = gateway(self.folder, self.sim.base_url, self.port)
        self.gateway = await self._open.__aenter__()
        self.port = int(self.gateway.base_url.split(":")[2].split("/")[0])

    async def stop(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.__aexit__(None, None, None)

    async def kill(self) -> None:
        """As a power cut would."""
        assert self.gateway is not None
        os.killpg(self.gateway.process.pid, signal.SIGKILL)
        await self.gateway.process.wait()
        await self.stop()

    def tell(self, number: signal.Signals) -> None:
        assert self.gateway is not None
        self.gateway.process.send_signal(number)

    async def pace(self, tokens: int, per_s: float) -> None:
        """How long the model's answers are, and how fast."""
        shape = {"answer_tokens": tokens, "tokens_per_s": per_s, "first_token_s": 0.0}
        async with httpx.AsyncClient(trust_env=False) as http:
            changes = {"models": {"fake-1": shape, "other": shape}}
            (await http.post(f"{self.sim.url}/_sim/profile", json=changes)).raise_for_status()

    async def calls(self) -> list[dict[str, Any]]:
        """All calls of the model so far."""
        async with httpx.AsyncClient(trust_env=False) as http:
            found: list[dict[str, Any]] = (await http.get(f"{self.sim.url}/_sim/calls")).json()[
                "calls"
            ]
        return found


@asynccontextmanager
async def staged(folder: Path) -> AsyncGenerator[Stage]:
    async with running(Profile.builtin()) as sim:
        stage = Stage(folder, sim, 0)
        try:
            await stage.start()
            yield stage
        finally:
            await stage.stop()


@asynccontextmanager
async def served(folder: Path, stage: Stage) -> AsyncGenerator[Remote]:
    """asyncsvc before the gateway; the same folder means the same database."""
    assert stage.gateway is not None
    path = folder / "settings.toml"
    path.write_text(
        SETTINGS.format(db=folder / "tasks.db", url=stage.gateway.base_url), encoding="utf-8"
    )
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(service(path))


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that no event tells."""
    async with asyncio.timeout(WAIT_S):
        while True:
            if await look():
                return
            await asyncio.sleep(0.2)


async def wrote(remote: Remote, task_id: str, characters: int = 30) -> None:
    """Wait until the task has written so much."""

    async def enough() -> bool:
        return len((await remote.task(task_id))["result"] or "") >= characters

    await until(enough)


__all__ = ["Stage", "served", "staged", "until", "wrote"]
