"""Connections to providers: kept and used again, their answers decompressed and bounded.

Owns one pool of connections for each origin and the bounds on an answer's bytes. Promises that a
call which fails on a kept connection before any byte of an answer raises `Forgotten`, and that the
kept connections of that origin are then dropped: a balancer that forgot one has forgotten all;
that a body without an end stops the reading instead of filling the memory, counted after
decompression, and that decompressing much does not hold up the event loop. Never makes a call a
second time and never looks into what it lets through.
"""

import asyncio
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from itertools import chain, count
from time import thread_time
from types import SimpleNamespace
from typing import cast

import aiohttp
import httpx
import httpx_aiohttp

from asyncsvc.errors import UpstreamInvalid
from asyncsvc.loop_turns import LoopTurns
from asyncsvc.net.bounded_reads import bounded_socket
from asyncsvc.net.response_heads import BoundedResponse
from asyncsvc.providers.answers.size import DEFAULT_BYTES, too_large

ACCEPTED = "gzip, deflate"
"""Both can be decompressed with a bound on what comes out."""
PIECE_BYTES = 64 * 1024
PADDING_BYTES = 1024 * 1024
"""How much may follow the end of what is compressed."""
STEP_BYTES = 16 * 1024
"""Compressed bytes that are given to zlib at once: what it leaves is copied for each member."""
STEP_COST = 64
"""Bytes that a step of decompression counts at least: empty members have no output and no end."""
_GZIP = b"\x1f\x8b"
_WITH_HEADER = zlib.MAX_WBITS | 16


class Inflater:
    """One layer of compression."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._head = b""
        self._begun = False
        self._plain = False
        self._ended = False
        self._padding = 0
        self._engine = zlib.decompressobj(_WITH_HEADER)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decompressed data, in pieces; an empty one for a step that gave nothing. Raises
        UpstreamInvalid."""
        if not self._begun:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                yield b""
                return
            self._begin(data)
        if self._plain:
            yield data
            return
        try:
            for start in range(0, max(len(data), 1), STEP_BYTES):
                yield from self._inflate(data[start : start + STEP_BYTES])
        except zlib.error as error:
            raise UpstreamInvalid(
                f"the provider's answer is not the {self._encoding} that it is called: {error}"
            ) from None

    def end(self) -> bytes:
        """A body too short to tell what it is."""
        return b"" if self._begun else self._head

    def _begin(self, data: bytes) -> None:
        self._begun = True
        if self._encoding == "gzip":
            self._plain = data[:2] != _GZIP
        elif data[0] & 0xF != 8 or int.from_bytes(data[:2], "big") % 31:
            self._engine = zlib.decompressobj(-zlib.MAX_WBITS)  # deflate without its wrapping
        else:
            self._engine = zlib.decompressobj()

    def _pad(self, size: int) -> None:
        self._padding += size
        if self._padding > PADDING_BYTES:
            raise UpstreamInvalid(f"more than {PADDING_BYTES} bytes follow the provider's answer")

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._engine.eof:
                # gzip may consist of several members; anything else after one is padding.
                self._ended |= self._encoding != "gzip" or data[:1] not in (b"", _GZIP[:1])
                if self._ended:
                    self._pad(len(data))
                if self._ended or not data:
                    yield b""
                    return
                self._engine = zlib.decompressobj(_WITH_HEADER)
            piece = self._engine.decompress(data, PIECE_BYTES)
            yield piece
            data = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
            if not data and len(piece) < PIECE_BYTES:
                return


def inflaters(header: str) -> list[Inflater]:
    """The layers that Content-Encoding names, in the order in which they come off. Raises
    UpstreamInvalid for what was not asked for."""
    layers = []
    for name in header.lower().split(","):
        encoding = name.strip().removeprefix("x-")
        if encoding in ("gzip", "deflate"):
            layers.append(Inflater(encoding))
        elif encoding not in ("", "identity", "none", "utf-8"):
            raise UpstreamInvalid(
                f"the provider compressed its answer as {encoding[:20]!r}, which was not asked for"
            )
    return layers[::-1]


AROUND = 8
"""How many times the largest answer a body may have with all that stands around the text: an event
for each token takes some 300 bytes. What is held of it is bounded where it is held."""
SLICE_BYTES, LONG_SLICE_BYTES = 2048, 64 * 1024
"""The longest part that is given out at once, as hundreds of events may be in it; and where lines
are long on average, so that there are few."""
TURN_S, TURN_BYTES = 0.001, 1 << 20
"""After so much time or data other tasks have their turn: where the provider is faster than the
service, the next part is always there, and nothing else would let them."""


async def body_of(
    response: httpx.Response, most: int = DEFAULT_BYTES, turns: LoopTurns | None = None
) -> AsyncGenerator[bytes]:
    """The body of a response as it comes, decompressed; `turns` are those of all bodies. Raises
    UpstreamTooLarge for a body of more than `AROUND` times `most` bytes, UpstreamInvalid for one
    that cannot be decompressed. It is a generator, which is to be closed before the response is."""
    turns = turns or LoopTurns()
    stream = cast(httpx.AsyncByteStream, response.stream)
    layers = inflaters(response.headers.get("content-encoding", ""))
    length, turn, spent, now = 0, TURN_BYTES, 0.0, asyncio.get_running_loop().time
    async for packed in stream:
        began, worked = now(), thread_time()
        for whole in _inflated(layers, [packed]) if layers else (packed,):
            length += max(len(whole), STEP_COST) if layers else len(whole)
            if length > AROUND * most:
                raise too_large(most)
            for part in (whole,) if len(whole) <= SLICE_BYTES else _slices(whole):
                if part:
                    yield part
                ended = now()
                spent += ended - began
                began = ended
                if spent > TURN_S or length > turn:
                    turn = length + TURN_BYTES
                    await turns.next(thread_time() - worked)
                    spent, began, worked = 0.0, now(), thread_time()
    for layer in layers:
        if left := layer.end():
            yield left


def _slices(whole: bytes) -> Iterable[bytes]:
    few_lines = whole.count(b"\n") < len(whole) // SLICE_BYTES
    step = LONG_SLICE_BYTES if few_lines else SLICE_BYTES
    return (whole[at : at + step] for at in range(0, len(whole), step))


def _inflated(layers: Sequence[Inflater], parts: Iterable[bytes]) -> Iterable[bytes]:
    for layer in layers:
        parts = chain.from_iterable(map(layer.feed, parts))
    return parts


KEPT_S = 30.0
"""How long a connection may be idle and still be used again."""
MOST_LOST = 2
_HEAD_BYTES = 32 * 1024

Origin = tuple[str, str, int | None]


class Forgotten(httpx.ReadError):
    """A kept connection had been dropped by the other side. `pool` numbers the connections that
    were dropped together."""

    def __init__(self, cause: BaseException, request: httpx.Request, pool: int) -> None:
        super().__init__(str(cause) or type(cause).__name__, request=request)
        self.pool = pool


class Losses:
    """A counter of the pools that an account's calls have lost with no answer in between."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int]] = {}

    def lost(self, account: str, pool: int) -> bool:
        """Whether the loss is explained by a forgotten connection. An account whose calls are
        lost again and again has another fault."""
        last, lost = self._found.get(account, (0, 0))
        if pool != last:
            lost += 1
            self._found[account] = (pool, lost)
        return lost <= MOST_LOST

    def answered(self, account: str) -> None:
        self._found.pop(account, None)


@dataclass(eq=False, slots=True)
class _Attempt:
    reused: bool = False


_attempt: ContextVar[_Attempt | None] = ContextVar("attempt", default=None)


class Pool:
    """The connections to one origin. It is closed once it is retired and no call is under way."""

    def __init__(self, number: int, verify: ssl.SSLContext) -> None:
        self.number = number
        self._transport = httpx_aiohttp.AiohttpTransport(verify=verify, client=_session)
        self._calls = 0
        self._retired = False

    async def request(self, request: httpx.Request) -> httpx.Response:
        self._calls += 1
        try:
            response = await self._transport.handle_async_request(request)
        except BaseException:
            await self.leave()
            raise
        stream = cast(httpx.AsyncByteStream, response.stream)
        response.stream = _Leased(stream, self)
        return response

    async def leave(self) -> None:
        """A call has ended."""
        self._calls -= 1
        if self._retired and not self._calls:
            await self.aclose()

    async def retire(self) -> None:
        """Close it as soon as the calls under way have ended."""
        self._retired = True
        if not self._calls:
            await self.aclose()

    async def aclose(self) -> None:
        """Close it at once."""
        await self._transport.aclose()


class _Leased(httpx.AsyncByteStream):
    """A body that tells its pool when it is closed."""

    def __init__(self, inner: httpx.AsyncByteStream, pool: Pool) -> None:
        self._inner = inner
        self._pool: Pool | None = pool

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._inner.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            if (pool := self._pool) is not None:
                self._pool = None
                await pool.leave()


@cache
def _authorities() -> ssl.SSLContext:
    """The system's certificates, read once by each process: that takes 20 to 40 ms."""
    return ssl.create_default_context()


class Connections(httpx.AsyncBaseTransport):
    """A transport over one pool for each origin."""

    def __init__(self) -> None:
        self._verify = _authorities()
        self._pools: dict[Origin, Pool] = {}
        self._numbers = count(1)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        origin = (request.url.scheme, request.url.host, request.url.port)
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(next(self._numbers), self._verify)
        attempt = _Attempt()
        token = _attempt.set(attempt)
        try:
            return await pool.request(request)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            if not (attempt.reused and _broke(error)):
                raise
            if self._pools.get(origin) is pool:
                del self._pools[origin]
                await pool.retire()
            cause = error.__cause__ or error
            raise Forgotten(cause, request, pool.number) from cause
        finally:
            _attempt.reset(token)

    async def aclose(self) -> None:
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.aclose()


def _broke(error: Exception) -> bool:
    """Whether the connection ended without a byte of an answer."""
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) and error.__cause__ else error
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return isinstance(cause.message, str)  # else the head of an answer that broke off
    timed_out = isinstance(cause, aiohttp.ServerTimeoutError | aiohttp.ClientConnectorError)
    return isinstance(cause, aiohttp.ClientConnectionError | ConnectionError) and not timed_out


async def _note_reuse(
    _: aiohttp.ClientSession, __: SimpleNamespace, ___: aiohttp.TraceConnectionReuseconnParams
) -> None:
    if (attempt := _attempt.get()) is not None:
        attempt.reused = True


def _session() -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    # No limit of its own: the gates decide how many calls are under way.
    connector = aiohttp.TCPConnector(
        limit=0, keepalive_timeout=KEPT_S, socket_factory=bounded_socket
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        max_field_size=_HEAD_BYTES,
        response_class=BoundedResponse,
        trace_configs=[trace],
    )
