"""Records the gateway's HTTP side, asked by our own client through a proxy that keeps the bytes.

Owns the exchanges of `recorded/http_*.json`. Part of `python -m tests.openclaw.record DIR`.
"""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import httpx

from asyncsvc.errors import ProviderError
from asyncsvc.providers.agents import RunState
from asyncsvc.providers.client import Client
from asyncsvc.providers.dialects import PRESETS
from asyncsvc.providers.upstream import Upstream
from tests.openclaw.stage import Stage, until
from tests.openclaw.wiretap import Tap, save, tapped
from tests.upstreams import ASK, Sheet, client, upstream

KEY = "asyncsvc:recorded-http:{}"


class Recorder:
    """`file` is what the exchanges since the last one are called."""

    def __init__(self, stage: Stage, tap: Tap, port: int, made: Client, folder: Path) -> None:
        assert stage.gateway is not None
        self._stage, self._tap, self._port, self._made = stage, tap, port, made
        self._token = stage.gateway.token
        self._secrets = [self._token, str(folder), str(Path.home())]

    async def all(self) -> None:
        await self._stage.pace(12, 20)
        await self._chat("chat")
        self.file("chat")
        await self._chat("agent", model="openclaw/nope")
        self.file("unknown_agent")
        await self._chat("token", key="not-the-token")
        self.file("wrong_token")
        await self._made.run_status(self._account(), KEY.format("nothing"))
        self.file("no_session")
        await self._cancelled()
        await self._killed()
        await self._draining()
        await self._stage.stop()
        await self._stage.start()
        # The last, for the gateway then rests that key.
        await self._failing()

    def file(self, name: str) -> None:
        found, self._tap.found = self._tap.found, []
        save(name, found, self._secrets)

    async def _failing(self) -> None:
        """The model's own provider refuses the gateway's key."""
        await self._faults({"401": 1.0})
        await self._chat("failing")
        self.file("model_refused")

    async def _cancelled(self) -> None:
        await self._stage.pace(200, 20)
        sheet = Sheet()
        call = asyncio.create_task(self._chat("cancel", sheet))
        await sheet.wrote.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await asyncio.sleep(0.5)
        self.file("cancel")

    async def _killed(self) -> None:
        """A cut in mid-stream, and what the history says until the answer is there."""
        await self._stage.pace(40, 10)
        sheet = Sheet()
        call = asyncio.create_task(self._chat("cut", sheet))
        await sheet.wrote.wait()
        await self._stage.kill()
        await call
        self.file("cut")
        await self._stage.start()
        self._tap.found = []
        seen: list[RunState] = []

        async def answered() -> bool:
            run_status = await self._made.run_status(self._account(), KEY.format("cut"))
            if run_status.state in seen:
                self._tap.found.pop()
            else:
                seen.append(run_status.state)
            return run_status.state is RunState.ANSWERED

        await until(answered)
        self.file("history")

    async def _draining(self) -> None:
        account = self._account()
        await self._made.look([account])
        sheet = Sheet()
        call = asyncio.create_task(self._chat("running", sheet))
        await sheet.wrote.wait()
        self._tap.found = self._tap.found[:1]
        self._stage.tell(signal.SIGTERM)
        await asyncio.sleep(1)
        await self._chat("late")
        account.looked_at = float("-inf")
        await self._made.look([account])
        self.file("draining")
        await asyncio.gather(call, return_exceptions=True)

    def _account(self, **more: str) -> Upstream:
        given = {"key": self._token, "model": "openclaw/main"} | more
        url = f"http://127.0.0.1:{self._port}/v1"
        return upstream(url, preset=PRESETS["openclaw"], **given)

    async def _chat(self, name: str, sheet: Sheet | None = None, **more: str) -> None:
        key = KEY.format(name)
        with suppress(ProviderError):
            await self._made.chat(self._account(**more), ASK, {}, sheet or Sheet(), key)

    async def _faults(self, shares: dict[str, float]) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            change = {"models": {"fake-1": {"faults": shares}}}
            url = f"{self._stage.sim.url}/_sim/profile"
            (await http.post(url, json=change)).raise_for_status()


async def record(stage: Stage, folder: Path) -> None:
    """All exchanges; the model of the gateway fails after that."""
    async with asyncio.timeout(300), tapped(stage.port) as (tap, port), client() as made:
        await Recorder(stage, tap, port, made, folder).all()
