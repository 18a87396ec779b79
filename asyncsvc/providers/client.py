"""Speaking to providers over HTTP.

Owns httpx: nobody else imports it. Promises that a chat call hands on text as it
arrives, ends only when the provider said that it was done, keeps to its deadlines, closes
the connection when it is left, and raises nothing but ProviderError (and CancelledError).
Never retries, never counts, never waits for a turn.

httpx runs over aiohttp's connector: its own pool scans all connections on each request and
collapses above fifty streams (48 against 3,608 requests a second at 200 in flight).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Self

import aiohttp
import httpx
import httpx_aiohttp
import orjson
from httpx_sse import EventSource, SSEError

from asyncsvc.clock import Now
from asyncsvc.errors import (
    ConnectTimeout,
    FieldRefused,
    FirstTokenTimeout,
    GatewayAway,
    IdleTimeout,
    ProviderError,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamRejected,
)
from asyncsvc.providers import faults, openclaw, openclaw_chat, openclaw_runs
from asyncsvc.providers.bounded import BoundedTransport
from asyncsvc.providers.deltas import Answer
from asyncsvc.providers.embeddings import Embeddings, embeddings_in, refusal_in
from asyncsvc.providers.headers import rate_headers
from asyncsvc.providers.openclaw import Fate
from asyncsvc.providers.openclaw_ws import AWAY_S, Gateway, Gateways
from asyncsvc.providers.upstream import CHAT, EMBEDDINGS, Sink, Upstream, named_in
from asyncsvc.settings import Timeouts

WRITE_S = 30.0
JSON_TYPE = "application/json"
ERROR_BYTES = 64 * 1024
FETCH_S = 10.0
CHAT_TYPES = "text/event-stream, application/json"
"""What a chat call accepts. A server whose errors are JSON may refuse a request for an event stream
alone with 406 (RFC 9110, 12.5.1)."""
LINGER_S = 0.2
"""After [DONE] the body's end follows at once, and the connection can be used again. A
provider that keeps it open instead costs the connection, not the answer."""


class Client:
    """One for all providers. Use as `async with Client(...)`."""

    def __init__(
        self, timeouts: Timeouts, now: Now, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._timeouts = timeouts
        self._now = now
        self._transport = transport
        self._stack = AsyncExitStack()
        self._gateways = Gateways()

    async def __aenter__(self) -> Self:
        transport = self._transport or httpx_aiohttp.AiohttpTransport(client=_session)
        self._http = await self._stack.enter_async_context(
            httpx.AsyncClient(
                transport=BoundedTransport(transport),
                timeout=_timeout(self._timeouts),
                follow_redirects=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                trust_env=False,
            )
        )
        self._stack.push_async_callback(self._gateways.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def apply(self, timeouts: Timeouts) -> None:
        """Other limits for the calls from now on; those under way keep theirs."""
        self._timeouts = timeouts
        self._http.timeout = _timeout(timeouts)

    async def chat(
        self,
        upstream: Upstream,
        messages: list[dict[str, Any]],
        params: dict[str, Any],
        sink: Sink,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Stream an answer into the sink; cancelling it closes the connection."""
        timeouts = upstream.limits(self._timeouts)
        if upstream.settings.protocol == "openclaw-ws":
            key = (headers or {})[openclaw.SESSION_HEADER]
            return await openclaw_chat.chat(
                self._gateway(upstream), upstream, messages, sink, key, timeouts
            )
        answer = Answer(
            dialect=upstream.preset.errors,
            now_ms=self._now(),
            unopened=upstream.thinks(params),
            after_tool=bool(messages) and messages[-1].get("role") in ("tool", "function"),
        )
        body = upstream.chat_body(messages, params)
        own = upstream.own_fields(CHAT, params)
        try:
            async with asyncio.timeout(timeouts.first_token_s) as limit:
                stream = self._stream(
                    upstream, CHAT, body, sink.head, headers, accept=CHAT_TYPES, own=own
                )
                async with aclosing(stream) as events:
                    async for data in events:
                        if data == "[DONE]":
                            answer.done = True
                            limit.reschedule(_soon(LINGER_S))
                        elif not answer.done:
                            await _take(
                                data, answer, sink, limit, timeouts.idle_s, upstream.secrets
                            )
        except TimeoutError:
            if not answer.ended:
                raise _late(answer, timeouts) from None
        except (UpstreamDisconnected, UpstreamInvalid):
            # How the connection ends after the answer's end does not matter.
            if not answer.certain:
                raise
        finally:
            for delta in answer.rest():
                sink.write(delta)
        answer.check(upstream.preset.empty_answers)
        return answer

    async def embed(
        self,
        upstream: Upstream,
        texts: str | list[str],
        params: dict[str, Any],
        on_head: Callable[[bool], None],
    ) -> Embeddings:
        """One vector a text, in one call: no more texts than a batch of the preset."""
        body = upstream.embedding_body(texts, params)
        own = upstream.own_fields(EMBEDDINGS, params)
        limit_s = self._timeouts.first_token_s
        try:
            async with asyncio.timeout(limit_s):
                parts = [
                    part
                    async for part in self._stream(
                        upstream, EMBEDDINGS, body, on_head, None, accept=JSON_TYPE, own=own
                    )
                ]
        except TimeoutError:
            raise FirstTokenTimeout(f"no answer within {limit_s:g} s") from None
        count = 1 if isinstance(texts, str) else len(texts)
        value = _json("".join(parts))
        if (error := refusal_in(value)) is not None:
            raise faults.of_stream(error, upstream.secrets, upstream.preset.errors, self._now())
        return embeddings_in(value, count)

    async def fate(self, upstream: Upstream, key: str) -> Fate:
        """What became of the run of that session. Raises UpstreamAuth, nothing else."""
        return await openclaw_runs.fate(self.fetch, self._gateway(upstream), upstream, key)

    async def abort(self, upstream: Upstream, key: str) -> str:
        """End whatever runs in that session; what the gateway said to it, for people."""
        return await openclaw_runs.abort(self._gateway(upstream), upstream, key)

    async def look(self, upstreams: Sequence[Upstream]) -> None:
        """Ask the gateways among them whether they are ready; half a second at most."""
        await openclaw_runs.look(self.fetch, upstreams)

    async def fetch(self, url: str, headers: dict[str, str]) -> tuple[int, Any]:
        """(status, JSON) of a GET; None where the answer is no JSON. Raises ProviderError."""
        try:
            async with asyncio.timeout(FETCH_S):
                response = await self._http.get(url, headers=headers)
        except TimeoutError:
            raise ConnectTimeout(f"no answer within {FETCH_S:g} s") from None
        except (httpx.InvalidURL, httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            raise _translate(error, self._timeouts) from error
        with suppress(orjson.JSONDecodeError):
            return response.status_code, orjson.loads(response.content)
        return response.status_code, None

    def _gateway(self, upstream: Upstream) -> Gateway:
        return self._gateways.of(upstream.base_url, upstream.key, self._timeouts.connect_s)

    async def _stream(
        self,
        upstream: Upstream,
        path: str,
        body: dict[str, Any],
        on_head: Callable[[bool], None],
        headers: dict[str, str] | None,
        *,
        accept: str,
        own: Mapping[str, Sequence[str]],
    ) -> AsyncGenerator[str]:
        """The data of each event; a plain JSON answer is a single one. `own` are the fields of
        the body that the service adds by itself."""
        sent = {"Content-Type": JSON_TYPE, "Accept": accept}
        sent |= upstream.headers() | (headers or {})
        timeouts = self._timeouts
        try:
            async with self._http.stream(
                "POST", upstream.base_url + path, content=orjson.dumps(body), headers=sent
            ) as response:
                on_head(response.status_code == 200)
                if (told := rate_headers(response.headers, self._now())) is not None:
                    # The times of a refusal are weighed with those in its body.
                    upstream.gate.told(told, rest=response.status_code == 200)
                if response.status_code != 200:
                    raise await self._refusal(response, upstream, own)
                if "application/json" in response.headers.get("content-type", ""):
                    yield (await response.aread()).decode()
                    return
                async with aclosing(EventSource(response).aiter_sse()) as events:
                    async for event in events:
                        yield event.data
        except SSEError as error:
            raise UpstreamInvalid(f"the provider sent no event stream: {error}") from None
        except UnicodeDecodeError:
            raise UpstreamInvalid("the provider sent text that is not UTF-8") from None
        except (httpx.InvalidURL, UnicodeError) as error:
            raise UpstreamInvalid(f"not an address: {error}") from None
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            raise _translate(error, timeouts, upstream.preset.acts) from error

    async def _refusal(
        self, response: httpx.Response, upstream: Upstream, own: Mapping[str, Sequence[str]]
    ) -> ProviderError:
        body = bytearray()
        # The status alone says enough where the explanation cannot be read.
        with suppress(httpx.HTTPError, aiohttp.ClientError, ProviderError):
            async for part in response.aiter_bytes():
                body += part
                if len(body) > ERROR_BYTES:
                    break
        error = faults.of_response(
            response.status_code,
            bytes(body),
            upstream.secrets,
            dialect=upstream.preset.errors,
            now_ms=self._now(),
            headers=response.headers,
        )
        named = named_in(own, response.status_code, bytes(body))
        if named and isinstance(error, UpstreamRejected):
            return FieldRefused(str(error), named)
        return error


async def _take(
    data: str, answer: Answer, sink: Sink, limit: asyncio.Timeout, idle_s: float, secrets: list[str]
) -> None:
    for delta in answer.take(_json(data), secrets):
        sink.write(delta)
    sink.alive()
    if sink.full:
        # A disk that cannot keep up is no silence of the provider.
        limit.reschedule(None)
        await sink.drained()
    if answer.begun:
        limit.reschedule(_soon(idle_s))


def _late(answer: Answer, timeouts: Timeouts) -> ProviderError:
    if answer.begun:
        return IdleTimeout(f"the stream was silent for {timeouts.idle_s:g} s")
    return FirstTokenTimeout(f"no token within {timeouts.first_token_s:g} s")


def _timeout(timeouts: Timeouts) -> httpx.Timeout:
    return httpx.Timeout(connect=timeouts.connect_s, read=None, write=WRITE_S, pool=None)


def _session() -> aiohttp.ClientSession:
    # No limit of its own: the gates decide how many calls are under way.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        max_field_size=32 * 1024,
    )


def _soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def _translate(error: Exception, timeouts: Timeouts, comes_back: bool = False) -> ProviderError:
    """A library's exception as one of ours. httpx-aiohttp calls nearly every broken connection
    a ConnectTimeout, so the exception beneath decides."""
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) and error.__cause__ else error
    if isinstance(cause, aiohttp.ServerTimeoutError | httpx.ConnectTimeout):
        return ConnectTimeout(f"no connection within {timeouts.connect_s:g} s")
    if isinstance(cause, aiohttp.ClientConnectorError | httpx.ConnectError):
        if comes_back:  # a gateway of the user's own: it restarts, and nothing has begun
            return GatewayAway(f"cannot connect: {cause}", retry_after=AWAY_S)
        return UpstreamDisconnected(f"cannot connect: {cause}")
    if isinstance(cause, aiohttp.InvalidURL | httpx.UnsupportedProtocol):
        return UpstreamInvalid(f"not an address: {cause}")
    return UpstreamDisconnected(f"the connection broke: {cause or type(cause).__name__}")


def _json(data: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UpstreamInvalid(f"the provider sent broken JSON: {error}") from None
