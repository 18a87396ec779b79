"""The ASGI application of the simulated provider: paths, keys, admission, the life of one call.

Owns the order in which a request is judged: body, key, model, limits, fault, answer. Promises that
whatever happens a call gives its place back and its record is closed. It never raises into the
server.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from asyncsvc.simulator import admin, chat, embeddings, wire
from asyncsvc.simulator.bodies import send_body
from asyncsvc.simulator.exchange import BodyTooLarge, ClientGone, Exchange, Receive, Scope, Send
from asyncsvc.simulator.faults import Fault, FaultSyntaxError
from asyncsvc.simulator.heads import HEADS
from asyncsvc.simulator.limits import Violation
from asyncsvc.simulator.profile import Profile
from asyncsvc.simulator.provider import Model, Provider
from asyncsvc.simulator.requests import (
    BadRequest,
    ChatRequest,
    EmbeddingRequest,
    read_chat,
    read_embedding,
)
from asyncsvc.simulator.stats import PROMPT_CHARS, Call, CallLog
from asyncsvc.simulator.tags import Tags, read_tags

Request = ChatRequest | EmbeddingRequest


class Simulator:
    """A simulated provider as an ASGI application (``app``) with its figures at hand.

    ``wall`` is the clock for times since the epoch.
    """

    def __init__(self, profile: Profile, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._provider = Provider(profile)

        # A function and not a method: uvicorn takes a bound method for an older kind of ASGI.
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self._exchange(scope, receive, send)

        self.app = app

    @property
    def profile(self) -> Profile:
        return self._provider.profile

    def stats(self) -> dict[str, Any]:
        """What ``GET /_sim/stats`` answers."""
        return self._provider.figures()

    def calls(self, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """The records that ``GET /_sim/calls`` answers."""
        return self._provider.log.after(after, limit)

    def configure(self, changes: dict[str, Any]) -> None:
        """As ``POST /_sim/profile``; raises ProfileError and changes nothing if it is wrong."""
        self._provider.configure(changes)

    def reset(self) -> None:
        """As ``POST /_sim/reset``."""
        self._provider.reset()

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the simulator speaks HTTP only, not {scope['type']}")
        exchange = Exchange(scope, receive, send, self._wall)
        try:
            await self._route(exchange)
        except BodyTooLarge:
            await _Refusal(413, "the body is above 32 MiB", "request_too_large").send(exchange)
        except ClientGone:
            await exchange.settle()
        finally:
            exchange.close()

    async def _route(self, exchange: Exchange) -> None:
        path, method = exchange.path, exchange.method
        if path.startswith("/_sim/"):
            await admin.answer(exchange, self)
        elif path == "/v1/chat/completions" and method == "POST":
            await self._call(exchange, read_chat)
        elif path == "/v1/embeddings" and method == "POST":
            await self._call(exchange, read_embedding)
        elif path == "/v1/models" and method == "GET":
            await self._list_models(exchange)
        elif path in ("/v1/chat/completions", "/v1/embeddings", "/v1/models"):
            refusal = _Refusal(405, f"{method} is not allowed here", "method_not_allowed")
            await refusal.send(exchange)
        else:
            await _Refusal(404, f"no such path: {path}", "not_found").send(exchange)

    async def _list_models(self, exchange: Exchange) -> None:
        if not self._authorized(exchange):
            await _key_refusal().send(exchange)
            return
        names = self._provider.model_names()
        models = [
            {"id": n, "object": "model", "created": 0, "owned_by": "simulator"} for n in names
        ]
        await exchange.reply_json(200, {"object": "list", "data": models})

    def _authorized(self, exchange: Exchange) -> bool:
        key = self.profile.server.api_key
        return key is None or exchange.header(b"authorization") == f"Bearer {key}"

    async def _call(self, exchange: Exchange, read: Callable[[bytes], Request]) -> None:
        body = await exchange.read_body()
        request: Request | None = None
        try:
            request = read(body)
            tags = _tags(request)
            model = self._model_for(exchange, request)
        except BadRequest as error:
            kind = "invalid"
            refusal = _Refusal(400, str(error), None, error.param)
        except _Refusal as error:
            kind, refusal = error.kind, error
        else:
            await self._arrive(exchange, model)
            await self._accepted_or_rejected(exchange, model, request, tags)
            return
        self._provider.refused[kind] += 1
        log = self._provider.log
        call = log.open(request.model if request else "", exchange.arrived_at)
        call.prompt = request.prompt[:PROMPT_CHARS] if request else ""
        await self._reject(exchange, log, call, refusal)

    def _model_for(self, exchange: Exchange, request: Request) -> Model:
        if not self._authorized(exchange):
            raise _key_refusal()
        model = self._provider.model(request.model)
        if model is None:
            message = f"The model `{request.model}` does not exist."
            raise _Refusal(404, message, "model_not_found", "model", kind="model")
        wanted = "chat" if isinstance(request, ChatRequest) else "embedding"
        if model.settings.type not in ("any", wanted):
            message = f"The model `{request.model}` does not do {wanted}."
            raise _Refusal(400, message, None, "model", kind="invalid")
        return model

    async def _arrive(self, exchange: Exchange, model: Model) -> None:
        """Let the simulated path to the provider take its time; the arrival is at its end."""
        delay = model.settings.network_jitter_s
        if delay:
            await exchange.pause(model.chance.random() * delay)
            exchange.stamp()

    async def _accepted_or_rejected(
        self, exchange: Exchange, model: Model, request: Request, tags: Tags
    ) -> None:
        log, stats = self._provider.log, model.stats
        call = log.open(model.name, exchange.arrived_at)
        call.prompt, call.marker = request.prompt[:PROMPT_CHARS], tags.marker
        violation = model.admit(exchange, exchange.arrived, exchange.arrived_at)
        if violation is not None:
            await self._reject(exchange, log, call, _limit_refusal(model, violation))
            return
        exchange.before_end = partial(model.limits.release, exchange)
        fault = self._provider.fault_for(model, request.prompt, tags)
        try:
            await _answer(exchange, model, request, tags, fault, call)
            call.outcome = fault.kind if fault else "completed"
        except ClientGone:
            call.client_left = True
            call.outcome = fault.kind if fault else "disconnected"
            raise
        finally:
            model.limits.release(exchange)
            call.status = exchange.status
            self._provider.finish(log, stats, call, exchange.wall_now())

    async def _reject(
        self, exchange: Exchange, log: CallLog, call: Call, refusal: "_Refusal"
    ) -> None:
        call.status = refusal.status
        log.close(call, "rejected", exchange.wall_now())
        await refusal.send(exchange)


class _Refusal(Exception):
    """An answer in place of the one that was asked for; ``kind`` is its name in the figures."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None,
        param: str | None = None,
        kind: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self._code = code
        self._param = param

    async def send(self, exchange: Exchange) -> None:
        kind = "requests" if self.status == 429 else "invalid_request_error"
        payload = wire.error(str(self), kind, self._code, self._param)
        await exchange.reply_json(self.status, payload)


def _tags(request: Request) -> Tags:
    try:
        return read_tags(request.prompt)
    except FaultSyntaxError as error:
        raise BadRequest(str(error), "messages") from None


def _key_refusal() -> _Refusal:
    return _Refusal(401, "Incorrect API key provided.", "invalid_api_key", kind="auth")


def _limit_refusal(model: Model, violation: Violation) -> _Refusal:
    settings = model.settings
    if violation == "concurrency":
        limit = f"concurrency limit reached: {settings.concurrency} calls in flight at once"
    else:
        limit = f"rate limit reached: {settings.rpm} calls in {settings.window_s:g} seconds"
    return _Refusal(429, f"{limit} (model {model.name})", "rate_limit_exceeded")


async def _answer(
    exchange: Exchange,
    model: Model,
    request: Request,
    tags: Tags,
    fault: Fault | None,
    call: Call,
) -> None:
    if fault is not None and fault.kind in HEADS:
        await HEADS[fault.kind](exchange, fault)
    elif isinstance(request, ChatRequest):
        turn = chat.Turn(exchange, request, model.settings, tags, fault, call, model.chance)
        await chat.answer(turn)
    else:
        await _embed(exchange, model, request, tags, fault)


async def _embed(
    exchange: Exchange,
    model: Model,
    request: EmbeddingRequest,
    tags: Tags,
    fault: Fault | None,
) -> None:
    first = tags.settings.get("first", model.settings.first_token_s)
    await exchange.pause_until(exchange.arrived + first)
    payload = embeddings.payload(
        request.model,
        [] if fault is not None and fault.kind == "empty" else request.inputs,
        request.dimensions or model.settings.dimensions,
        request.prompt_tokens,
        base64=request.base64,
    )
    await send_body(exchange, payload, fault)
