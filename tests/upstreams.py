"""Builders for the tests of the providers' floor: an upstream, a sink, a client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson

from asyncsvc.clock import Now
from asyncsvc.providers.breaker import Breaker
from asyncsvc.providers.client import Client
from asyncsvc.providers.deltas import Delta
from asyncsvc.providers.dialects import PLAIN, Preset
from asyncsvc.providers.gate import Gate
from asyncsvc.providers.upstream import Upstream
from asyncsvc.providers.window import Window
from asyncsvc.settings import Model, Timeouts
from tests.virtual_time import START_MS

KEY = "sk-the-very-secret-key-0123456789"
URL = "http://provider.test/v1"
ASK: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]


def gate(
    concurrency: int = 5, rpm: int = 0, *, failures: int = 5, cooldown_s: float = 30.0
) -> Gate:
    return Gate(
        "m",
        concurrency=concurrency,
        window=Window(rpm),
        breaker=Breaker(failures, cooldown_s),
    )


def upstream(
    base_url: str = URL, *, preset: Preset = PLAIN, key: str | None = KEY, **model: Any
) -> Upstream:
    settings = Model(**{"model": "some-model"} | model)
    return Upstream("m", settings, preset, gate(), base_url, key)


class Sheet:
    """A sink that keeps everything; `full` can be set."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.heads = 0
        self.full = False
        self.wrote = asyncio.Event()
        self.dry = asyncio.Event()

    def head(self) -> None:
        self.heads += 1

    def write(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.wrote.set()

    async def drained(self) -> None:
        await self.dry.wait()
        self.full = False

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if not delta.reasoning)

    @property
    def thoughts(self) -> str:
        return "".join(delta.text for delta in self.deltas if delta.reasoning)


def standing_still() -> int:
    return START_MS


@asynccontextmanager
async def client(
    transport: httpx.AsyncBaseTransport | None = None, now: Now = standing_still, **timeouts: Any
) -> AsyncIterator[Client]:
    async with Client(Timeouts(**timeouts), now, transport) as made:
        yield made


def event(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n"


def piece(text: str | None = None, finish: str | None = None, **delta: Any) -> bytes:
    """One chunk of a stream."""
    if text is not None:
        delta["content"] = text
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


DONE = event(b"[DONE]")
STREAM = {"content-type": "text/event-stream"}
