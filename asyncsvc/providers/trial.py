"""The smallest call of an account, which shows whether key, address and model are right.

Owns what such a call asks for: one token, one word to embed, and of an agent gateway only
whether it is ready, as a run of an agent may act. Promises one result for each account, whatever
the provider does, and that the limits of other processes are not known here: a running service is
asked to make the calls instead.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from asyncsvc.clock import Now
from asyncsvc.config.settings import Limits, Timeouts
from asyncsvc.errors import EmptyAnswer, ProviderError, UpstreamDisconnected, UpstreamRejected
from asyncsvc.providers.answers.delta import Delta
from asyncsvc.providers.client import Client
from asyncsvc.providers.connections import Connections
from asyncsvc.providers.explained import address, key_of
from asyncsvc.providers.upstream import Upstream

LONGEST_S = 60.0
QUESTION = "Hi"
FEWEST, FEW = 1, 16
"""Tokens that are asked for, and that are where the provider wants more than so few."""
_TOO_FEW = re.compile(r"max_(?:\w{1,11}_)?tokens|token", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcome of one call. `ahead_s`: by how much the clock here is ahead of the provider's."""

    name: str
    model_id: str
    key: str
    url: str
    latency_s: float
    error: ProviderError | None = None
    ahead_s: float | None = None


class Ignored:
    """A sink for an answer that is not read."""

    full = False
    returns = False

    def head(self, accepted: bool) -> None:
        pass

    def write(self, delta: Delta) -> None:
        pass

    def alive(self) -> None:
        pass

    async def drained(self) -> None:
        pass


class Dated(httpx.AsyncBaseTransport):
    """A transport that notes the time of its latest response, as the provider's clock has it."""

    def __init__(self, now: Now, beneath: httpx.AsyncBaseTransport) -> None:
        self.ahead_s: float | None = None
        self._now = now
        self._beneath = beneath

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._beneath.handle_async_request(request)
        with suppress(KeyError, ValueError, TypeError, OverflowError):
            # The header has whole seconds, cut off.
            date = parsedate_to_datetime(response.headers["date"]).timestamp() + 0.5
            self.ahead_s = self._now() / 1000 - date
        return response

    async def aclose(self) -> None:
        await self._beneath.aclose()


async def trials(
    upstreams: Sequence[Upstream],
    timeouts: Timeouts,
    limits: Limits,
    now: Now,
    transport: Callable[[], httpx.AsyncBaseTransport] = Connections,
) -> list[Trial]:
    """Make the smallest call of each account, all at once; the results in the same order."""
    short = timeouts.model_copy(
        update={
            "first_token_s": min(timeouts.first_token_s, LONGEST_S),
            "idle_s": min(timeouts.idle_s, LONGEST_S),
        }
    )

    async def tried(upstream: Upstream) -> Trial:
        dated = Dated(now, transport())
        async with Client(short, now, dated, limits=limits) as client:
            return await _trial(client, upstream, dated)

    return list(await asyncio.gather(*map(tried, upstreams)))


async def _trial(client: Client, upstream: Upstream, dated: Dated) -> Trial:
    loop = asyncio.get_running_loop()
    error: ProviderError | None = None
    model_id, began = upstream.model_id, loop.time()
    try:
        await _called(client, upstream)
    except EmptyAnswer:
        pass  # one token may be no text
    except ProviderError as fault:
        error = fault.bare()
    return Trial(
        upstream.name,
        model_id,
        key_of(upstream) if upstream.key is not None else "no key",
        address(upstream),
        round(loop.time() - began, 3),
        error,
        dated.ahead_s,
    )


async def _called(client: Client, upstream: Upstream) -> None:
    if upstream.preset.acts:
        await client.look([upstream])
        if not upstream.ready:
            raise UpstreamDisconnected(
                f"start the gateway, or correct models.{upstream.name}.base_url: "
                f"{address(upstream)} does not say that it is ready"
            )
    elif upstream.settings.type == "embedding":
        await client.embed(upstream, QUESTION, {}, lambda accepted: None)
    else:
        await _chat(client, upstream)


async def _chat(client: Client, upstream: Upstream) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
    try:
        await client.chat(upstream, messages, {"max_tokens": FEWEST}, Ignored())
    except UpstreamRejected as error:
        if not _TOO_FEW.search(str(error)):
            raise
        await client.chat(upstream, messages, {"max_tokens": FEW}, Ignored())
