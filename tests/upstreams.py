"""Builders for the tests of the providers' floor: an upstream, a sink, a client, answers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest

from asyncsvc.clock import Now
from asyncsvc.config.settings import Model, Timeouts
from asyncsvc.errors import ProviderError
from asyncsvc.limits.account import AccountLimiter, Listener
from asyncsvc.limits.breaker import Breaker
from asyncsvc.limits.sliding_window import Window
from asyncsvc.providers.answers.answer import Answer
from asyncsvc.providers.answers.delta import Delta
from asyncsvc.providers.client import Client
from asyncsvc.providers.dialects import PLAIN, Preset
from asyncsvc.providers.upstream import Upstream
from tests.virtual_time import START_MS

KEY = "sk-the-very-secret-key-0123456789"
URL = "http://provider.test/v1"
ASK: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]


def gate(
    concurrency: int = 5,
    rpm: int = 0,
    *,
    failures: int = 5,
    cooldown_s: float = 30.0,
    on_close: Callable[[AccountLimiter], None] = lambda _: None,
) -> AccountLimiter:
    return AccountLimiter(
        "m",
        concurrency=concurrency,
        window=Window(rpm),
        breaker=Breaker(failures, cooldown_s),
        listener=Listener(on_close=on_close),
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
        self.accepted = False
        self.full = False
        self.wrote = asyncio.Event()
        self.dry = asyncio.Event()

    def head(self, accepted: bool) -> None:
        self.heads += 1
        self.accepted |= accepted

    def write(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.wrote.set()

    def alive(self) -> None:
        return None

    @property
    def returns(self) -> bool:
        return False

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
GOOD = piece("Hel") + piece("lo") + piece(finish="stop") + DONE
HELLO = piece("Hello")
Pause = float


class Script(httpx.AsyncByteStream):
    """A body in parts; a number is a pause, an exception is raised."""

    def __init__(self, parts: Iterable[bytes | Pause | Exception]) -> None:
        self.parts = list(parts)
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, bytes):
                yield part
            else:
                await asyncio.sleep(part)

    async def aclose(self) -> None:
        self.closed = True


def stream(*parts: bytes | Pause | Exception) -> httpx.Response:
    return httpx.Response(200, headers=STREAM, stream=Script(parts))


Reply = httpx.Response | Exception | float


async def chat(
    *replies: Reply, sheet: Sheet | None = None, account: Upstream | None = None, **timeouts: Any
) -> tuple[Answer, Sheet]:
    """One call, answered by the reply; a pause may come before it."""
    sheet = sheet or Sheet()
    async with client(in_turn(replies), **timeouts) as made:
        return await made.chat(account or upstream(), ASK, {}, sheet), sheet


def in_turn(replies: Iterable[Reply]) -> httpx.MockTransport:
    """A network that does the one thing, whatever is asked; a number is a pause before it."""

    async def answer(_: httpx.Request) -> httpx.Response:
        for reply in replies:
            if isinstance(reply, httpx.Response):
                return reply
            if isinstance(reply, Exception):
                raise reply
            await asyncio.sleep(reply)
        raise AssertionError

    return httpx.MockTransport(answer)


async def failure(*replies: Reply, sheet: Sheet | None = None, **timeouts: Any) -> ProviderError:
    with pytest.raises(ProviderError) as found:
        await chat(*replies, sheet=sheet, **timeouts)
    return found.value


def unheard(accepted: bool) -> None:
    """For a call of which only the end is looked at."""
