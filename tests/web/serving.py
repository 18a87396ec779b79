"""The real server and the simulated provider in this loop, over real sockets on free ports."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from asyncsvc.app import open_services
from asyncsvc.config.settings import Settings
from asyncsvc.server import serve
from asyncsvc.simulator import Profile, Running, running
from asyncsvc.web.http.state import Services
from tests.web.description import message_as_described

PATIENCE_S = 30.0
FAST = {"default": {"answer_tokens": 12}}
HANG = "[[sim:hang]]"
"""A prompt whose call never answers: its task runs until a client stops it."""


@dataclass(frozen=True)
class Client:
    """Asks a running service; `url` is without a path."""

    url: str
    http: httpx.AsyncClient

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def submit(self, content: str = "hello", **more: Any) -> str:
        """The id of a new task."""
        answer = await self.http.post("/tasks", json={"content": content, **more})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    async def task(self, task_id: str) -> dict[str, Any]:
        return expect(await self.http.get(f"/tasks/{task_id}"), 200)

    async def done(self, task_id: str) -> dict[str, Any]:
        """The task when it is finished; its stream ends with it."""
        await self.http.get(f"/tasks/{task_id}/events", headers={"accept": "text/event-stream"})
        return await self.task(task_id)

    async def events(self, task_id: str, after: int = 0) -> list[dict[str, Any]]:
        """What is stored of a task."""
        answer = await self.http.get(f"/tasks/{task_id}/events", params={"after": after})
        found = [json.loads(line) for line in answer.text.splitlines()]
        for event in found if answer.status_code == 200 else ():
            message_as_described(event)
        return found

    async def steer(self, task_id: str, verb: str) -> httpx.Response:
        return await self.http.post(f"/tasks/{task_id}/{verb}")

    async def running(self, content: str = HANG, **more: Any) -> str:
        """The id of a new task that runs; its call is about to be made."""
        return await self.came(await self.submit(content, **more), "attempt")

    async def speaking(self, content: str, **more: Any) -> str:
        """The id of a new task whose answer has begun: the provider has seen its call."""
        return await self.came(await self.submit(content, **more), "chunk")

    async def came(self, task_id: str, kind: str) -> str:
        """The same id, once the task has had an event of that kind."""
        async with self.ws(f"/ws/tasks/{task_id}") as socket:
            while (await message(socket))["type"] != kind:
                pass
        return task_id

    def ws(self, path: str = "/ws", **how: Any) -> connect:
        options: dict[str, Any] = {"proxy": None, "compression": None, "max_size": None}
        return connect(f"ws{self.url.removeprefix('http')}{path}", **(options | how))


@dataclass(frozen=True)
class Service(Client):
    """A service in this loop, with the provider that it asks."""

    sim: Running
    stop: Callable[[], None]
    """Ends the service, as a signal would."""
    parts: Services
    """Its open parts, for what no client can bring about."""


def expect(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an answer that must have this status."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert isinstance(body, dict)
    return body


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The `error` of a refusal, which must have the contract's shape."""
    body = expect(answer, status)
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "code", "param"}
    assert error["message"]
    assert error["type"]
    assert error["code"] == code
    return error


async def message(socket: ClientConnection) -> dict[str, Any]:
    """The next message, which must come in time and be as it is described."""
    async with asyncio.timeout(PATIENCE_S):
        value = json.loads(await socket.recv())
    assert isinstance(value, dict)
    message_as_described(value)
    return value


async def reply(socket: ClientConnection) -> dict[str, Any]:
    """The next message that is no event."""
    while "op" not in (value := await message(socket)):
        pass
    return value


async def ask(socket: ClientConnection, **fields: Any) -> dict[str, Any]:
    """Send one op; its answer."""
    await socket.send(json.dumps(fields))
    return await reply(socket)


async def rest(socket: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """All messages until the server closes, and the close code."""
    found = []
    try:
        while True:
            found.append(await message(socket))
    except ConnectionClosed as end:
        return found, end.rcvd.code if end.rcvd else None


def stored(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events that can be read again."""
    return [event for event in events if event.get("seq") is not None]


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in stored(events)]


def text(events: list[dict[str, Any]]) -> str:
    """The chunks since the last attempt, joined."""
    last = max(i for i, event in enumerate(events) if event["type"] == "attempt")
    return "".join(e["data"]["text"] for e in events[last:] if e["type"] == "chunk")


def model(base_url: str, **more: Any) -> dict[str, Any]:
    return {"base_url": base_url, "model": "sim", **more}


def local_client(url: str, timeout_s: float = PATIENCE_S) -> httpx.AsyncClient:
    """A client of plain HTTP: without TLS it need not read the authorities' certificates, 35 ms."""
    timeout = httpx.Timeout(timeout_s)
    return httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False, verify=False)


@asynccontextmanager
async def serving(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    profile: Mapping[str, Any] | None = None,
    concurrency: int = 5,
    reread: Mapping[str, Any] | None = None,
    **sections: Any,
) -> AsyncIterator[Service]:
    """A service on a free port with the models `fast` and `embed`; `sections` are settings, and
    `reread` those that a reload finds in their place."""
    async with running(Profile.parse(dict(profile or FAST))) as sim:
        models = {
            "fast": model(sim.base_url, concurrency=concurrency),
            "embed": model(sim.base_url, type="embedding"),
        }
        values: dict[str, Any] = {
            "storage": {"path": str(folder / "tasks.db")},
            "retry": {"base_s": 0.01, "max_s": 0.05},
            "models": models,
            # The process of the tests is no measure of a service.
            "limits": {"memory_mb": 100_000, "disk_free_mb": 0, "loop_lag_ms": 0},
            "tools": {"enabled": False},
            **sections,
        }
        values["server"] = {"port": 0, "grace_s": 0.05} | sections.get("server", {})
        stop = asyncio.Event()
        settings = Settings.model_validate(values)

        def read() -> Settings:
            return Settings.model_validate(values | dict(reread or {}))

        async with (
            _served(settings, environ or {}, stop, read) as (url, parts),
            local_client(url) as http,
        ):
            yield Service(url, http, sim, stop.set, parts)


@asynccontextmanager
async def _served(
    settings: Settings,
    environ: Mapping[str, str],
    stop: asyncio.Event,
    read: Callable[[], Settings],
) -> AsyncIterator[tuple[str, Services]]:
    began: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    opened: list[Services] = []

    @asynccontextmanager
    async def noted(*given: Any, **named: Any) -> AsyncIterator[Services]:
        async with open_services(*given, **named) as services:
            opened.append(services)
            yield services

    async def beside(url: str) -> None:
        began.set_result(url)
        await stop.wait()

    with patch("asyncsvc.server.open_services", noted):
        service = asyncio.create_task(serve(settings, environ, lambda _: None, beside, read))
        waits: set[asyncio.Future[Any]] = {service, began}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if service.done():
        service.result()
    try:
        yield began.result(), opened[0]
    finally:
        stop.set()
        await service
