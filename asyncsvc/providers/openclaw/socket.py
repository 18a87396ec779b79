"""OpenClaw's own WebSocket protocol, version 4.

Owns one connection per gateway, shared by all its tasks: handshake, requests by id, events by
session. Promises that a run is sent once: a socket that breaks ends the call as a disconnection,
and what became of the run is asked, never sent again; that leaving a call aborts its run, for a
closed socket would not; that the next use connects again, with a growing pause after failures.
Never gives the token to another than the gateway.
"""

import asyncio
import itertools
import logging
from typing import Any
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from asyncsvc import __version__
from asyncsvc.errors import (
    ContextTooLong,
    GatewayAway,
    GatewayUnavailable,
    ProviderError,
    RateLimited,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamOverloaded,
    UpstreamRejected,
)
from asyncsvc.limits.backoff import backoff
from asyncsvc.net import json_bounds
from asyncsvc.providers.answers.size import DEFAULT_BYTES, too_large
from asyncsvc.providers.errors import clean

log = logging.getLogger(__name__)

PROTOCOL = 4
HANDSHAKE_S = 15.0
ANSWER_S = 30.0
SCOPES = ["operator.admin", "operator.read", "operator.write"]
AWAY_S = 2.0
"""How long a gateway that cannot be reached is left alone; its restarts take 9 to 19 s."""
STARTING = 1013
KINDS: dict[str, type[ProviderError]] = {
    "rate_limit": RateLimited,
    "context_length": ContextTooLong,
    "auth": UpstreamAuth,
    "UNAVAILABLE": GatewayUnavailable,
    "INVALID_REQUEST": UpstreamRejected,
}
"""What an error's code or kind means; any other is an overload, which is tried again."""

Payload = dict[str, Any]


TOO_BIG = 1009
"""The close code for a frame above the bound."""


class Listener:
    """The events of one session that its run has not taken yet, `most` bytes of them at once.

    Each piece of text comes with all of the text before it, so a piece that finds no room costs
    nothing; any other event that finds none ends the run.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._events: asyncio.Queue[tuple[int, Payload | ProviderError]] = asyncio.Queue()

    async def get(self) -> Payload | ProviderError:
        """The next event; a broken connection comes as an error."""
        size, event = await self._events.get()
        self._held -= size
        return event

    def put(self, event: Payload | ProviderError, size: int = 0) -> None:
        """Keep an event of so many bytes."""
        if size and self._held and self._held + size > self._most:
            assert isinstance(event, dict)
            if event["event"] == "chat" and event.get("state") == "delta":
                return
            size, event = 0, too_large(self._most)
        self._held += size
        self._events.put_nowait((size, event))


class Gateway:
    """The connection to one gateway. `call` a method; `listen` to a session. `most`: bytes of one
    frame, and of the events that wait for one run."""

    def __init__(
        self, url: str, token: str | None, connect_s: float, most: int = DEFAULT_BYTES
    ) -> None:
        self.most = most
        self._url = url
        self._token = token
        self._connect_s = connect_s
        self._numbers = itertools.count(1)
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Future[Payload]] = {}
        self._listeners: dict[str, Listener] = {}
        self._opening = asyncio.Lock()
        self._failures = 0
        self._not_before = 0.0

    async def call(self, method: str, params: Payload) -> Payload:
        """The payload of the answer. Raises ProviderError."""
        await self._open()
        return await self._ask(method, params)

    def listen(self, key: str) -> Listener:
        """The events of that session from now on."""
        listener = self._listeners[key] = Listener(self.most)
        return listener

    def ignore(self, key: str) -> None:
        self._listeners.pop(key, None)

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _open(self) -> None:
        """Connect unless it is; one at a time, and not at once after a failure."""
        async with self._opening:
            if self._socket is not None:
                return
            loop = asyncio.get_running_loop()
            if (pause := self._not_before - loop.time()) > 0:
                await asyncio.sleep(pause)
            try:
                await self._connect()
            except ProviderError:
                self._not_before = loop.time() + backoff(self._failures, 0.2, 5.0)
                self._failures += 1
                raise
            self._failures = 0

    async def _connect(self) -> None:
        try:
            socket = await connect(
                self._url,
                open_timeout=self._connect_s,
                max_size=self.most,
                compression=None,
                proxy=None,
            )
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise GatewayAway(f"cannot connect: {error}", retry_after=AWAY_S) from None
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._greet(socket)
        except BaseException as error:
            await socket.close()
            if isinstance(error, ConnectionClosed):
                raise self._closed(socket) from None
            if isinstance(error, TimeoutError):
                raise GatewayUnavailable("no answer to the handshake", retry_after=AWAY_S) from None
            raise
        self._socket = socket
        self._reader = asyncio.create_task(self._read(socket), name="openclaw socket")

    async def _greet(self, socket: ClientConnection) -> None:
        challenge = _message(await socket.recv())
        if challenge.get("event") != "connect.challenge":
            raise UpstreamInvalid("the gateway did not begin with a challenge")
        params = {
            "minProtocol": PROTOCOL,
            "maxProtocol": PROTOCOL,
            "client": {
                "id": "gateway-client",  # the gateway knows a closed list of names
                "version": __version__,
                "platform": "python",
                "mode": "backend",
            },
            "role": "operator",
            "scopes": SCOPES,
            "caps": ["tool-events"],
            "auth": {"token": self._token} if self._token else {},
        }
        await socket.send(_request("0", "connect", params))
        while True:
            message = _message(await socket.recv())
            if message.get("type") == "res" and message.get("id") == "0":
                self._result(message)
                return

    async def _ask(self, method: str, params: Payload) -> Payload:
        socket, number = self._socket, str(next(self._numbers))
        if socket is None:
            raise UpstreamDisconnected("the gateway's connection broke")
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await socket.send(_request(number, method, params))
            async with asyncio.timeout(ANSWER_S):
                return self._result(await answer)
        except ConnectionClosed:
            raise self._closed(socket) from None
        except TimeoutError:
            raise UpstreamDisconnected(f"no answer to {method} in {ANSWER_S:g} s") from None
        finally:
            self._answers.pop(number, None)

    async def _read(self, socket: ClientConnection) -> None:
        """Ends with its connection, telling all who wait."""
        try:
            async for frame in socket:
                self._take(_message(frame), len(frame))
        except (ConnectionClosed, UpstreamInvalid):
            pass
        finally:
            self._socket = None
            await socket.close()
            error = self._closed(socket)
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(error)
            if socket.close_code == TOO_BIG and len(self._listeners) == 1:
                error = too_large(self.most)  # of several runs it is not known which it was
            for listener in self._listeners.values():
                listener.put(error)
            log.info("openclaw: %s", error)

    def _take(self, message: Payload, size: int) -> None:
        if message.get("type") == "res":
            answer = self._answers.get(str(message.get("id")))
            if answer is not None and not answer.done():
                answer.set_result(message)
            return
        payload = message.get("payload")
        if message.get("event") in ("chat", "agent") and isinstance(payload, dict):
            key = str(payload.get("sessionKey") or "")
            # A default agent's sessions are announced with its name before them.
            listener = self._listeners.get(key) or self._listeners.get(_bare(key))
            if listener is not None:
                listener.put({**payload, "event": message["event"]}, size)

    def _closed(self, socket: ClientConnection) -> ProviderError:
        code, reason = socket.close_code, socket.close_reason or ""
        message = f"the gateway closed the connection: {code or 1006} {reason}".strip()
        if code == STARTING:
            return GatewayUnavailable(message, retry_after=AWAY_S)
        return UpstreamDisconnected(clean(message, self._secrets))

    def _result(self, message: Payload) -> Payload:
        if message.get("ok"):
            payload = message.get("payload")
            return payload if isinstance(payload, dict) else {}
        raise fault_in(message.get("error"), self._secrets)

    @property
    def _secrets(self) -> list[str]:
        return [self._token] if self._token else []


def fault_in(error: Any, secrets: list[str]) -> ProviderError:
    """The error that an error object of the gateway stands for."""
    error = error if isinstance(error, dict) else {"message": str(error)}
    details = error.get("details") if isinstance(error.get("details"), dict) else {}
    assert isinstance(details, dict)
    code = str(error.get("code") or error.get("kind") or "")
    text = clean(f"the gateway refused: {error.get('message') or code}", secrets)
    detail = str(details.get("code") or "")
    if "AUTH" in detail or "IDENTITY" in detail or "PAIRING" in detail:
        return UpstreamAuth(text)
    wait_ms = error.get("retryAfterMs")
    wait = wait_ms / 1000 if isinstance(wait_ms, int | float) else None
    kind = KINDS.get(code, UpstreamOverloaded)
    if kind is GatewayUnavailable:
        wait = wait or AWAY_S
    return kind(text, retry_after=wait)


def _message(frame: str | bytes) -> Payload:
    """The object in a frame; empty where it holds another value. Raises UpstreamInvalid."""
    data = frame.encode() if isinstance(frame, str) else frame
    try:
        json_bounds.check(data)
        value = orjson.loads(data)
    except (orjson.JSONDecodeError, json_bounds.BeyondBounds) as error:
        raise UpstreamInvalid(f"the gateway sent a frame that is not read: {error}") from None
    return value if isinstance(value, dict) else {}


def _request(number: str, method: str, params: Payload) -> str:
    return orjson.dumps({"type": "req", "id": number, "method": method, "params": params}).decode()


def _bare(key: str) -> str:
    """`agent:main:KEY` as KEY."""
    parts = key.split(":", 2)
    return parts[2] if len(parts) == 3 and parts[0] == "agent" else key


def socket_url(base_url: str) -> str:
    """The URL of a gateway's WebSocket."""
    parts = urlsplit(base_url)
    return f"{parts.scheme.replace('http', 'ws')}://{parts.netloc}/"
