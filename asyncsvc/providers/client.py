"""Speaking to providers over HTTP.

Owns the calls over httpx: requests go straight to its transport, with the account's URL and headers
parsed once. Promises that a chat call hands on text as it arrives, ends only when the provider
ended the answer, keeps to its deadlines, closes the connection when it is left, and raises nothing
but ProviderError (and CancelledError). Never tries again after a byte of an answer, never counts,
never waits for a turn, never follows a redirect and keeps no cookie.

httpx runs over aiohttp's connector: its own pool scans all connections on each request and
collapses above fifty streams (48 against 3,608 requests a second at 200 in flight).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Self

import aiohttp
import httpx
import orjson

from asyncsvc.clock import Now
from asyncsvc.config.settings import Limits, Timeouts
from asyncsvc.errors import (
    ConnectTimeout,
    FieldRefused,
    FirstTokenTimeout,
    GatewayAway,
    KeptConnectionLost,
    ProviderError,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamRejected,
    UpstreamTooLarge,
    without_frames,
)
from asyncsvc.large_work import ASIDE_BYTES, LargeWork
from asyncsvc.limits.headers import rate_headers
from asyncsvc.loop_turns import LoopTurns
from asyncsvc.net import json_bounds
from asyncsvc.providers import errors as faults
from asyncsvc.providers.agents import RunStatus
from asyncsvc.providers.answers.answer import Answer
from asyncsvc.providers.answers.chat_reading import LINGER_S, ChatReading, odd_error
from asyncsvc.providers.answers.delta import Sink
from asyncsvc.providers.answers.embeddings import Embeddings, embeddings_in, refusal_in
from asyncsvc.providers.answers.frames import Frames, Mark, Odd
from asyncsvc.providers.answers.size import AnswerRoom
from asyncsvc.providers.connections import (
    ACCEPTED,
    Connections,
    Forgotten,
    Losses,
    body_of,
)
from asyncsvc.providers.dialects import SESSION_HEADER
from asyncsvc.providers.explained import broken, explained, unconnected
from asyncsvc.providers.keys import without_keys
from asyncsvc.providers.openclaw import chat as openclaw_chat
from asyncsvc.providers.openclaw import runs as openclaw_runs
from asyncsvc.providers.openclaw.socket import AWAY_S, Gateway, socket_url
from asyncsvc.providers.upstream import CHAT, EMBEDDINGS, Upstream, named_in

WRITE_S = 30.0
ERROR_BYTES = 64 * 1024
FETCH_S = 10.0
HEADERS = httpx.Headers(
    {
        "Accept": "*/*",
        "Accept-Encoding": ACCEPTED,
        "Connection": "keep-alive",
        "User-Agent": f"python-httpx/{httpx.__version__}",
    }
)
"""What every request has, as httpx's own client sends it."""
ACCEPTS = {CHAT: "text/event-stream, application/json", EMBEDDINGS: "application/json"}
"""What a call accepts. A server whose errors are JSON may refuse a request for an event stream
alone with 406 (RFC 9110, 12.5.1)."""
VALUE_CHARS = 8
"""What a value of a request counts beside its text: a name, a quote, a comma."""
EXPLAIN_S = 1.0
"""How long the explanation of a refusal may take: it follows the head at once."""
WITHOUT_CONTENT = frozenset({204, 205})


class Client:
    """One for all providers. Use as `async with Client(...)`."""

    def __init__(
        self,
        timeouts: Timeouts,
        now: Now,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        limits: Limits | None = None,
        large_work: LargeWork | None = None,
    ) -> None:
        self._timeouts = timeouts
        self._large_work = large_work or LargeWork()
        self._room = AnswerRoom(limits or Limits())
        self._now = now
        self._transport = transport or Connections()
        self._gateways: dict[tuple[str, str | None], Gateway] = {}
        """The connections to agent gateways, by URL and token."""
        self._losses = Losses()
        self._turns = LoopTurns()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for gateway in self._gateways.values():
            with suppress(ProviderError, OSError):
                await gateway.close()
        await self._transport.aclose()

    def apply(self, timeouts: Timeouts, limits: Limits) -> None:
        """Other limits for the calls from now on; those under way keep theirs."""
        self._timeouts = timeouts
        self._room.apply(limits)
        for gateway in self._gateways.values():
            gateway.most = self._room.most

    async def chat(
        self,
        upstream: Upstream,
        messages: list[dict[str, Any]],
        params: dict[str, Any],
        sink: Sink,
        session_key: str | None = None,
        trace: dict[str, str] | None = None,
    ) -> Answer:
        """Stream an answer into the sink; cancelling it closes the connection. `session_key` names
        the run of an agent gateway, `trace` are the headers of a trace. Raises ProviderError."""
        timeouts = upstream.limits(self._timeouts)
        with _explained(upstream):
            if upstream.settings.protocol == "openclaw-ws":
                assert session_key is not None
                gateway = self._gateway(upstream)
                answer = await openclaw_chat.chat(
                    gateway, upstream, messages, sink, session_key, timeouts
                )
                return _cleaned(answer, upstream)
            now_ms = self._now()
            answer = _answer(upstream, messages, params, now_ms)
            body = upstream.chat_body(messages, params)
            own = upstream.own_fields(CHAT, params)
            frames, deadline = Frames(most=self._room.most), asyncio.timeout(None)
            reading = ChatReading(answer, sink, upstream, timeouts, deadline, now_ms, self._room)
            try:
                async with deadline:
                    stream = self._stream(upstream, CHAT, body, sink.head, own, session_key, trace)
                    async with aclosing(stream) as parts:
                        async for part in parts:
                            if frames.held <= ASIDE_BYTES:
                                await reading.take(frames.feed(part))
                            else:
                                await reading.take(await self._complete(frames, part))
                    await reading.take(await self._complete(frames))
            except TimeoutError:
                if not answer.ended:
                    raise reading.late(frames.end()) from None
            except (UpstreamDisconnected, UpstreamInvalid, UpstreamTooLarge):
                # How the connection ends after the answer's end does not matter.
                if not answer.certain:
                    raise
            finally:
                reading.close()
                for delta in answer.rest():
                    sink.write(delta)
            reading.end(empty=frames.empty)
        return _cleaned(answer, upstream)

    async def embed(
        self,
        upstream: Upstream,
        texts: str | list[str],
        params: dict[str, Any],
        on_head: Callable[[bool], None],
        trace: dict[str, str] | None = None,
    ) -> Embeddings:
        """One vector a text, in one call: no more texts than a batch of the preset."""
        with _explained(upstream):
            return await self._embed(upstream, texts, params, on_head, trace)

    async def _embed(
        self,
        upstream: Upstream,
        texts: str | list[str],
        params: dict[str, Any],
        on_head: Callable[[bool], None],
        trace: dict[str, str] | None,
    ) -> Embeddings:
        body = upstream.embedding_body(texts, params)
        own = upstream.own_fields(EMBEDDINGS, params)
        limit_s = self._timeouts.first_token_s
        frames, found = Frames(final=True, most=self._room.most), list[Any]()
        stream = self._stream(upstream, EMBEDDINGS, body, on_head, own, trace=trace)
        try:
            async with asyncio.timeout(limit_s) as limit:
                async with aclosing(stream) as parts:
                    async for part in parts:
                        more = await self._complete(frames, part)
                        found += [f for f in more if not isinstance(f, Mark)]
                        if found and isinstance(found[0], Odd):
                            break
                        if found:
                            limit.reschedule(asyncio.get_running_loop().time() + LINGER_S)
                more = await self._complete(frames)
                found += [f for f in more if not isinstance(f, Mark)]
        except TimeoutError:
            if not found:
                raise FirstTokenTimeout(f"no answer within {limit_s:g} s") from None
        if not found:
            raise UpstreamInvalid("the provider sent broken JSON: the body is empty")
        if isinstance(found[0], Odd):
            raise odd_error(found[0], upstream, self._now())
        if (error := refusal_in(found[0])) is not None:
            raise faults.of_stream(error, upstream.secrets, upstream.preset.errors, self._now())
        return embeddings_in(found[0], 1 if isinstance(texts, str) else len(texts))

    async def run_status(self, upstream: Upstream, key: str) -> RunStatus:
        """The status of the run of that session. Raises UpstreamAuth, nothing else."""
        return await openclaw_runs.run_status(self.fetch, self._gateway(upstream), upstream, key)

    async def abort(self, upstream: Upstream, key: str) -> str:
        """End the run of that session; the gateway's reply, for people."""
        return await openclaw_runs.abort(self._gateway(upstream), upstream, key)

    async def look(self, upstreams: Sequence[Upstream]) -> None:
        """Ask the gateways among them whether they are ready; half a second at most."""
        await openclaw_runs.look(self.fetch, upstreams)

    async def fetch(self, url: str, headers: dict[str, str]) -> tuple[int, Any]:
        """(status, JSON) of a GET; None where the answer is no JSON. Raises ProviderError."""
        try:
            async with asyncio.timeout(FETCH_S):
                return await self._get(url, headers)
        except TimeoutError:
            raise ConnectTimeout(f"no answer within {FETCH_S:g} s") from None
        except (httpx.InvalidURL, httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            without_frames(error)
            raise _translate(error, self._timeouts) from error

    async def _get(self, url: str, headers: dict[str, str]) -> tuple[int, Any]:
        """A GET does no harm twice, so it is made again where a kept connection was lost."""
        try:
            status, body = await self._read(url, headers)
        except Forgotten:
            status, body = await self._read(url, headers)
        with suppress(orjson.JSONDecodeError, json_bounds.BeyondBounds):
            json_bounds.check(body)
            return status, orjson.loads(body)
        return status, None

    async def _read(self, url: str, headers: dict[str, str]) -> tuple[int, bytes]:
        body = bytearray()
        async with self._answered("GET", httpx.URL(url), _joined(HEADERS, headers)) as response:
            await _read_into(body, response, self._room.most, self._turns)
        return response.status_code, bytes(body)

    def _gateway(self, upstream: Upstream) -> Gateway:
        url, token = socket_url(upstream.base_url), upstream.key
        if (found := self._gateways.get((url, token))) is None:
            found = self._gateways[url, token] = Gateway(
                url, token, self._timeouts.connect_s, self._room.most
            )
        return found

    @asynccontextmanager
    async def _answered(
        self, method: str, url: httpx.URL, headers: httpx.Headers, content: bytes | None = None
    ) -> AsyncGenerator[httpx.Response]:
        """The response to a request, closed at the end."""
        limits = {"connect": self._timeouts.connect_s, "read": None, "write": WRITE_S, "pool": None}
        request = httpx.Request(
            method, url, headers=headers, content=content, extensions={"timeout": limits}
        )
        response = await self._transport.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()

    async def _stream(
        self,
        upstream: Upstream,
        path: str,
        body: dict[str, Any],
        on_head: Callable[[bool], None],
        own: Mapping[str, Sequence[str]],
        session_key: str | None = None,
        trace: dict[str, str] | None = None,
    ) -> AsyncGenerator[bytes]:
        """The body of an answer in the parts in which it comes. `own` are the fields of the
        request that the service adds by itself."""
        acts = upstream.preset.acts
        try:
            url, sent = _prepared(upstream, path)
            if session_key is not None:
                sent = _joined(sent, {SESSION_HEADER: session_key})
            if trace is not None:
                sent = _joined(sent, trace)
            content = await self._written(body)
            async with self._answered("POST", url, sent, content) as response:
                self._losses.answered(upstream.gate.name)
                accepted = response.is_success and response.status_code not in WITHOUT_CONTENT
                on_head(accepted)
                if (limits := rate_headers(response.headers, self._now())) is not None:
                    # The times of a refusal are weighed with those in its body.
                    upstream.gate.read(limits, rest=accepted)
                if not accepted:
                    raise await self._refusal(response, upstream, own)
                async with aclosing(body_of(response, self._room.most, self._turns)) as parts:
                    async for part in parts:
                        yield part
        except (httpx.InvalidURL, UnicodeError) as error:
            raise UpstreamInvalid(f"not an address: {error}") from None
        except Forgotten as error:
            without_frames(error)
            if acts or not self._losses.lost(upstream.gate.name, error.pool):
                raise UpstreamDisconnected(f"the connection broke: {error}") from error
            raise KeptConnectionLost(f"a kept connection was lost: {error}") from error
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            without_frames(error)
            raise _translate(error, self._timeouts, acts) from error

    async def _written(self, body: dict[str, Any]) -> bytes:
        """The body of a request as JSON."""
        size = _size(body)
        if size < ASIDE_BYTES:
            return orjson.dumps(body)
        return await self._large_work.run(size, partial(orjson.dumps, body))

    async def _complete(self, frames: Frames, part: bytes | None = None) -> list[Any]:
        """What is complete with a part of the body, or (None) with its end."""
        work = frames.end if part is None else partial(frames.feed, part)
        if frames.held <= ASIDE_BYTES or not (part is None or frames.completes(part)):
            return work()
        try:
            return await self._large_work.run(frames.held, work)
        except asyncio.CancelledError:
            frames.forget()  # the thread may still read it
            raise

    async def _refusal(
        self, response: httpx.Response, upstream: Upstream, own: Mapping[str, Sequence[str]]
    ) -> ProviderError:
        body = bytearray()
        # The status alone says enough where the explanation cannot be read, or does not end.
        with suppress(httpx.HTTPError, aiohttp.ClientError, ProviderError, TimeoutError):
            async with asyncio.timeout(EXPLAIN_S):
                await _read_into(body, response, ERROR_BYTES, self._turns)
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


def _size(value: Any) -> int:
    """About how many characters the texts of a request have; `ASIDE_BYTES` or more where there are
    many or long ones, without a look at all of them."""
    found, left = 0, [value]
    while left and found < ASIDE_BYTES:
        one = left.pop()
        if isinstance(one, str):
            found += len(one)
        elif isinstance(one, dict | list):
            found += len(one) * VALUE_CHARS
            if found < ASIDE_BYTES:
                left += one.values() if isinstance(one, dict) else one
    return found


def _answer(
    upstream: Upstream, messages: list[dict[str, Any]], params: dict[str, Any], now_ms: int
) -> Answer:
    """The answer that is to come, empty."""
    return Answer(
        dialect=upstream.preset.errors,
        now_ms=now_ms,
        unopened=upstream.thinks(params),
        after_tool=bool(messages) and messages[-1].get("role") in ("tool", "function"),
    )


def _cleaned(answer: Answer, upstream: Upstream) -> Answer:
    """The answer without the account's key in the provider's word for its end."""
    if answer.ending is not None:
        word = without_keys(answer.ending.word, upstream.secrets)
        answer.ending = answer.ending._replace(word=word)
    return answer


@contextmanager
def _explained(upstream: Upstream) -> Iterator[None]:
    """Give each error what is known of the account, and none its key: libraries quote what a
    provider sent."""
    try:
        yield
    except ProviderError as fault:
        error = fault
        error.reworded(
            lambda text: explained(error, upstream, without_keys(text, upstream.secrets))
        )
        raise


async def _read_into(
    body: bytearray, response: httpx.Response, most: int, turns: LoopTurns
) -> None:
    """Read the beginning of a body."""
    async with aclosing(body_of(response, 2 * most, turns)) as parts:
        async for part in parts:
            body += part[: most - len(body)]
            if len(body) >= most:
                return


def _prepared(upstream: Upstream, path: str) -> tuple[httpx.URL, httpx.Headers]:
    """The URL and the headers of an account's calls, made once."""
    key = path, upstream.model_id
    if (found := upstream.prepared.get(key)) is None:
        sent = {"Content-Type": "application/json", "Accept": ACCEPTS[path]} | upstream.headers()
        url = httpx.URL(upstream.base_url + path)
        found = upstream.prepared[key] = url, _joined(HEADERS, sent)
    return found


def _joined(headers: httpx.Headers, more: Mapping[str, str]) -> httpx.Headers:
    joined = headers.copy()
    joined.update(more)
    return joined


def _translate(error: Exception, timeouts: Timeouts, acts: bool = False) -> ProviderError:
    """A library's exception as one of ours. httpx-aiohttp calls nearly every broken connection
    a ConnectTimeout, so the exception beneath decides. `acts`: the provider is an agent gateway."""
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) and error.__cause__ else error
    if isinstance(cause, aiohttp.ServerTimeoutError | httpx.ConnectTimeout):
        return ConnectTimeout(f"no connection within {timeouts.connect_s:g} s")
    if isinstance(cause, aiohttp.ClientConnectorError | httpx.ConnectError):
        if acts:  # a gateway of the user's own: it restarts, and nothing has begun
            return GatewayAway(unconnected(cause), retry_after=AWAY_S)
        return UpstreamDisconnected(unconnected(cause))
    if isinstance(cause, aiohttp.InvalidURL | httpx.UnsupportedProtocol):
        return UpstreamInvalid(f"not an address: {cause}")
    return UpstreamDisconnected(broken(cause))
