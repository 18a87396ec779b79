"""TCP connections of the HTTP server: their number, their speed, and what one may send.

`Connections` is the set of open connections with the limits that need no parsed request: the
number of connections, the seconds that a head may take, the progress that a body must make, the
requests that may wait on one connection, and the seconds that an answer may wait for a client that
does not read. `heads` has the rules of a head and of what surrounds a body. A client is never cut
for a delay that the service itself causes.

Beyond the limit a few more connections are accepted for supervisors, whose probes are answered
at any time; `auth.Authenticator` refuses all other requests on them.
"""

import asyncio
import json
import logging
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from asyncsvc.errors import (
    InvalidHttp,
    Overloaded,
    RequestError,
    RequestTimeout,
    ShuttingDown,
)
from asyncsvc.loop_turns import LoopTurns
from asyncsvc.web.http.auth import CROWDED
from asyncsvc.web.http.heads import FIELDS_MOST, HEAD_BYTES, Framing, check, head_too_large
from asyncsvc.web.http.pieces import Pieces
from asyncsvc.web.http.slow_readers import SlowReader, reset
from asyncsvc.web.http.sockets import CLOSE_WITHIN_S, STALL_S

Headers = Iterable[tuple[bytes, bytes]]
OFFER = frozenset({b"upgrade", b"http2-settings"})
WEBSOCKET = b"websocket"


class Reader(Protocol):
    """What the parser needs of the connection: the head as far as it was read."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class Parser(httptools.HttpRequestParser):
    """uvicorn's parser, but that it goes on after an offer which is ignored."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._reader = reader
        # As uvicorn does: a request that follows `Connection: close` in one packet is no error.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def ignores(self) -> bool:
        """Whether the message that has just been read ended because of an offer to ignore."""
        return self.should_upgrade() and _offers_other(self._reader.headers)

    def feed_data(self, data: "bytes | bytearray | memoryview | array[int]") -> None:
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not _offers_other(self._reader.headers):
                raise
            rest = bytes(memoryview(data)[offer.args[0] :])
            self.feed_data(self._head() + rest)

    def _head(self) -> bytes:
        version = self.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.get_method(), self._reader.url, version)]
        kept = ((name, value) for name, value in self._reader.headers if name not in OFFER)
        lines += [b"%s: %s" % pair for pair in kept]
        return b"\r\n".join([*lines, b"", b""])


def _offers_other(headers: Headers) -> bool:
    """Whether a protocol is offered, but not WebSocket."""
    offers = [value.strip().lower() for name, value in headers if name == b"upgrade"]
    return bool(offers) and WEBSOCKET not in offers


log = logging.getLogger(__name__)

SPARE = 16
"""Connections beyond the most that are still answered."""
PIPELINED = 64
"""Requests that may wait on one connection for the answer to the first; where more are sent, these
are answered and the connection is closed (RFC 9112, 9.3.2: a client sends the others again)."""
LEAST_RATE = 1024
"""Bytes a second that count as progress of a body."""
LINGER_S = 1.0


class Connections:
    """All of them; `protocol` makes one."""

    def __init__(
        self,
        most: int,
        patience_s: float,
        body_most: int,
        stall_s: float = STALL_S,
    ) -> None:
        self.most = most
        self.patience_s = patience_s
        self.stall_s = stall_s
        """How long an answer may find no room while its reader takes nothing."""
        self.rest_most = body_most + (1 << 20)
        """Bytes of a body that are read and thrown away after an early answer."""
        self._open: dict[asyncio.Transport, Connection | None] = {}
        """By transport; None for those that have become WebSockets."""
        self._tick: asyncio.TimerHandle | None = None
        self.turns = LoopTurns()
        """In which clients that send much at once are read."""
        self._every_s = min(1.0, patience_s / 5, stall_s / 5)

    def __len__(self) -> int:
        return len(self._open)

    def protocol(self, **parts: Any) -> "Connection":
        """What uvicorn calls for each new connection."""
        return Connection(self, **parts)

    def add(self, transport: asyncio.Transport, connection: "Connection") -> None:
        self._open[transport] = connection
        if self._tick is None:
            self._later()

    def became_websocket(self, transport: asyncio.Transport) -> Callable[[], None]:
        """It has other rules from now on; call the answer when it is lost."""
        self._open[transport] = None
        return lambda: self.discard(transport)

    def discard(self, transport: asyncio.Transport) -> None:
        self._open.pop(transport, None)

    def _later(self) -> None:
        loop = asyncio.get_running_loop()
        self._tick = loop.call_later(self._every_s, self._look) if self._open else None

    def _look(self) -> None:
        """One round for all is cheaper than a timer for each request."""
        self._later()
        for connection in list(self._open.values()):
            if connection is None:
                continue
            try:
                connection.look(self._every_s)
            except Exception:  # the others are looked at all the same
                log.exception("a fault of ours while looking at a connection, which is closed")
                connection.transport.abort()


class Reading(Enum):
    """What the client sends at the moment."""

    NOTHING, HEAD, BODY = range(3)


class Connection(HttpToolsProtocol):
    """One of them, as long as it speaks HTTP."""

    def __init__(self, connections: Connections, **parts: Any) -> None:
        super().__init__(**parts)
        self.parser = self._requests = Parser(self)
        self._all = connections
        self._refused = False
        self._reading = Reading.NOTHING
        self._unanswered: deque[RequestResponseCycle] = deque()
        """The requests that have no whole answer yet: the first one runs, the others wait."""
        self._deaf = False
        """Nothing more is read: the connection is closed behind the answers that are due."""
        self._fault: RequestError | None = None
        """Why a callback has stopped the parser."""
        self._framing = Framing()
        self._began = False
        self._wire = 0
        """Bytes since the message, or the time between two messages, began."""
        self._seen = 0
        self._seen_scope: Any = None
        self._quiet_s = 0.0
        self._rest_s = 0.0
        """How long the rest of a body comes that has its answer already."""
        self._reader = SlowReader(connections.stall_s)
        self._pieces = Pieces(connections.turns)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self._all) >= self._all.most + SPARE:
            self._refuse(transport)
            return
        if len(self._all) >= self._all.most:
            self.app_state = {**self.app_state, CROWDED: True}
        self._all.add(transport, self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._refused:
            return
        self._all.discard(self.transport)
        for cycle in self._unanswered:
            _disconnect(cycle)
        self._unanswered.clear()
        self._pieces.drop(self)
        super().connection_lost(exc)
        self._without_parser()

    def _without_parser(self) -> None:
        # What refers to itself, with an answer of megabytes that was not read, would wait for the
        # garbage collector.
        self.parser = None  # type: ignore[assignment]
        del self._requests

    def shutdown(self) -> None:
        """The service stops: answer what is whole; the rest of a body is not waited for."""
        if self._reading is Reading.BODY and self._unanswered:
            self._cut(ShuttingDown("the service is stopping", retry_after=5))
        elif self._unanswered:
            self._end_behind_answers()
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self.takes_more():
            self._pieces.received(data, self)

    def takes_more(self) -> bool:
        """Whether what comes is parsed."""
        return not (self._refused or self._deaf or self.transport.is_closing())

    def is_paused(self) -> bool:
        """Whether nothing is to be read because enough waits for the application."""
        return self.flow.read_paused

    def parse(self, data: bytes) -> None:
        """Parse a piece of what came."""
        self._began = False
        super().data_received(data)
        self._wire = 0 if self._began else self._wire + len(data)
        if not self._deaf and not self.transport.is_closing():
            self._check_size(len(data))

    def on_message_begin(self) -> None:
        self._message(Reading.HEAD)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is not Reading.BODY:
            if len(self.headers) >= FIELDS_MOST:
                self._fault = head_too_large()
                raise self._fault
            super().on_header(name, value)
            return
        try:
            self._framing.trailer(name, value)
        except InvalidHttp as error:
            self._fault = error
            raise

    def on_headers_complete(self) -> None:
        if self._requests.ignores():
            return
        try:
            self.url = check(self._requests.get_http_version(), self.url, self.headers)
        except RequestError as error:
            self._fault = error  # the parser's own would say nothing of it
            raise
        waiting = len(self._unanswered)
        if waiting > PIPELINED or (waiting and self._requests.should_upgrade()):
            raise InvalidHttp("this request must wait for the answers to those before it")
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self._unanswered.append(self.cycle)
        self._framing = Framing()
        self._message(Reading.BODY)

    def on_chunk_header(self) -> None:
        self._framing.part()

    def on_body(self, body: bytes) -> None:
        self._framing.part(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._requests.ignores():
            return  # the message follows once more
        super().on_message_complete()
        self._message(Reading.NOTHING)

    def on_response_complete(self) -> None:
        if self._unanswered:
            self._unanswered.popleft()
        super().on_response_complete()
        if self.pipeline and not self.transport.is_closing():
            self.flow.pause_reading()  # those that are here first

    def handle_websocket_upgrade(self) -> None:
        self._pieces.drop(self)  # no client may send frames before it has the answer
        super().handle_websocket_upgrade()
        socket: Any = self.transport.get_protocol()
        socket.when_lost = self._all.became_websocket(self.transport)
        socket.pieces.turns = self._all.turns
        self._without_parser()
        if not socket.handshake_initiated:  # such as a line that is too long for `websockets`
            self.transport.write(raw(InvalidHttp("this is no WebSocket handshake")))
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        # Its frames hold the connection: kept here, it would wait for the garbage collector.
        fault, self._fault = self._fault, None
        self._cut(fault or InvalidHttp("this is no HTTP request"))

    def look(self, elapsed_s: float) -> None:
        """Cut a client that does not read its answer, or that does not send its request."""
        try:
            stalled = self._reader.stalled(self.transport, self.flow.write_paused, elapsed_s)
        except AttributeError:
            # asyncio's TLS transport, closed twice, forgets its connection, and ends it by itself
            # within 30 s (its time limit for the end of TLS).
            self._all.discard(self.transport)
            return
        if stalled:
            # Not by `self.scope`, which may be that of a head that still comes.
            path = "" if self.cycle is None else self.cycle.scope["path"]
            log.info("a client that does not read its answer is disconnected: %s", path)
            reset(self.transport)
            return
        if self.transport.is_closing():
            return
        if self.scope is not self._seen_scope:
            self._seen_scope, self._seen, self._quiet_s, self._rest_s = self.scope, 0, 0.0, 0.0
        waits = self._waits_for_client()
        in_body = self._reading is Reading.BODY
        self._rest_s += elapsed_s if waits and in_body and not self._unanswered else 0.0
        if in_body and self._wire - self._seen >= LEAST_RATE * elapsed_s:
            waits = False
        self._seen = self._wire
        self._quiet_s = self._quiet_s + elapsed_s if waits else 0.0
        if self._quiet_s >= self._all.patience_s or self._rest_s >= CLOSE_WITHIN_S:
            too_slow = RequestTimeout("the request came too slowly")
            self._cut(too_slow, asked=self._reading is not Reading.NOTHING)

    def _message(self, reading: Reading) -> None:
        self._reading, self._began, self._wire, self._seen = reading, True, 0, 0

    def _waits_for_client(self) -> bool:
        if self._deaf or self.timeout_keep_alive_task is not None:
            return False  # between two requests; uvicorn ends that by itself
        if self._pieces:
            return False  # it waits for us
        if self._reading is not Reading.BODY:
            return not self._unanswered
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            return False  # it is we who do not read
        # After an early answer the rest of the body is still to come, and is thrown away.
        return len(self._unanswered) <= 1

    def _check_size(self, size: int) -> None:
        if self._reading is Reading.BODY:
            try:
                self._framing.received(size, self._wire)
            except InvalidHttp as error:
                self._cut(error)
            else:
                if not self._unanswered and self._wire > self._all.rest_most:
                    self.transport.abort()
        elif self._wire > HEAD_BYTES:
            self._cut(head_too_large())

    def _cut(self, error: RequestError, asked: bool = True) -> None:
        """Answer the request that is read with an error, unless it has an answer already, and close
        the connection; requests before it are answered first. `asked`: it has begun."""
        self._ignore_rest()
        if self._reading is Reading.BODY:
            cycle = self.cycle
            asked = not cycle.response_started
            if self._unanswered and self._unanswered[-1] is cycle:
                _disconnect(self._unanswered.pop())
        if self._unanswered:
            self._end_behind_answers()
            return
        if asked:
            self._say_last(error)
        else:
            self.transport.close()

    def _ignore_rest(self) -> None:
        self._deaf = True
        self._pieces.drop(self)

    def _end_behind_answers(self) -> None:
        self._ignore_rest()
        self._unanswered[-1].keep_alive = False

    def _refuse(self, transport: asyncio.Transport) -> None:
        """Answer before the client has asked."""
        self._refused, self.transport = True, transport
        full = f"{self._all.most} connections are open already"
        self._say_last(Overloaded(full, retry_after=5))

    def _say_last(self, error: RequestError) -> None:
        """Answer with an error, and close when the client has had the time to read it: closed at
        once, what it still sends would destroy the answer."""
        transport = self.transport
        transport.write(raw(error))
        if transport.can_write_eof():
            transport.write_eof()
            self.loop.call_later(LINGER_S, transport.abort)
        else:
            transport.close()


def _disconnect(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


def raw(error: RequestError) -> bytes:
    """An error as a whole HTTP answer."""
    body = json.dumps(error.body(), separators=(",", ":")).encode()
    retry = "" if error.retry_after is None else f"retry-after: {round(error.retry_after)}\r\n"
    head = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{retry}connection: close\r\nx-content-type-options: nosniff\r\n\r\n"
    )
    return STATUS_LINE[error.status] + head.encode("ascii") + body
