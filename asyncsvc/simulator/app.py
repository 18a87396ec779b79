"""The ASGI application of the simulated provider: OpenAI's paths, and its own under ``/_sim/``.

A call is judged in this order: body, key, model, limits, fault. It gives its place back and its
record is closed whatever happens. The paths under ``/_sim/`` take no key and count as no call.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import orjson

from asyncsvc.simulator import chat, wire
from asyncsvc.simulator.exchange import BodyTooLarge, ClientGone, Exchange, Receive, Scope, Send
from asyncsvc.simulator.fault_effects import replace_answer, send_body
from asyncsvc.simulator.faults import Fault, FaultSyntaxError, Tags, read_tags
from asyncsvc.simulator.profile import ProfileError
from asyncsvc.simulator.requests import (
    BadRequest,
    ChatRequest,
    EmbeddingRequest,
    Refusal,
    read_chat,
    read_embedding,
)
from asyncsvc.simulator.simulator import PROMPT_CHARS, Call, Model, Simulator, Violation

Request = ChatRequest | EmbeddingRequest
MOST_RECORDS = 50_000


def application(simulator: Simulator) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the ASGI application of a simulated provider."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the simulator speaks HTTP only, not {scope['type']}")
        exchange = Exchange(scope, receive, send)
        try:
            await _answer(simulator, exchange)
        except ClientGone:
            await exchange.settle()
        finally:
            exchange.close()

    return app


async def _answer(simulator: Simulator, exchange: Exchange) -> None:
    path = exchange.path
    try:
        match exchange.method, path:
            case "POST", "/v1/chat/completions":
                await _call(simulator, exchange, read_chat)
            case "POST", "/v1/embeddings":
                await _call(simulator, exchange, read_embedding)
            case "GET", "/v1/models":
                _check_key(simulator, exchange)
                await exchange.reply_json(200, wire.model_list(simulator.models))
            case method, "/v1/chat/completions" | "/v1/embeddings" | "/v1/models":
                raise Refusal(405, f"{method} is not allowed here", "method_not_allowed")
            case _ if path.startswith("/_sim/"):
                await _answer_own(simulator, exchange)
            case _:
                raise Refusal(404, f"no such path: {path}", "not_found")
    except BodyTooLarge:
        await _refuse(exchange, Refusal(413, "the body is above 32 MiB", "request_too_large"))
    except Refusal as refusal:
        await _refuse(exchange, refusal)


async def _refuse(exchange: Exchange, refusal: Refusal) -> None:
    kind = "requests" if refusal.status == 429 else "invalid_request_error"
    body = wire.error(str(refusal), kind, refusal.code, refusal.param)
    await exchange.reply_json(refusal.status, body)


def _check_key(simulator: Simulator, exchange: Exchange) -> None:
    key = simulator.profile.server.api_key
    if key is not None and exchange.header(b"authorization") != f"Bearer {key}":
        raise Refusal(401, "Incorrect API key provided.", "invalid_api_key", reason="auth")


async def _call(simulator: Simulator, exchange: Exchange, read: Callable[[bytes], Request]) -> None:
    body = await exchange.read_body()
    request: Request | None = None
    try:
        request = read(body)
        tags = _tags(request)
        _check_key(simulator, exchange)
        model = _model_for(simulator, request)
    except Refusal as refusal:
        simulator.refused[refusal.reason] += 1
        call = simulator.log.open(request.model if request else "", exchange.arrived_at)
        call.prompt = request.prompt[:PROMPT_CHARS] if request else ""
        _close_refused(simulator, call, refusal)
        raise
    # The simulated path to the provider takes its time; the arrival is at its end.
    if delay := model.settings.network_jitter_s:
        await exchange.pause(model.chance.random() * delay)
        exchange.stamp()
    await _admit(simulator, exchange, model, request, tags)


def _close_refused(simulator: Simulator, call: Call, refusal: Refusal) -> None:
    call.status = refusal.status
    simulator.log.close(call, "rejected")


def _tags(request: Request) -> Tags:
    try:
        return read_tags(request.prompt)
    except FaultSyntaxError as error:
        raise BadRequest(str(error), "messages") from None


def _model_for(simulator: Simulator, request: Request) -> Model:
    model = simulator.model(request.model)
    if model is None:
        message = f"The model `{request.model}` does not exist."
        raise Refusal(404, message, "model_not_found", "model", reason="model")
    wanted = "chat" if isinstance(request, ChatRequest) else "embedding"
    if model.settings.type not in ("any", wanted):
        raise BadRequest(f"The model `{request.model}` does not do {wanted}.", "model")
    return model


async def _admit(
    simulator: Simulator, exchange: Exchange, model: Model, request: Request, tags: Tags
) -> None:
    """Answer the call, or raise the Refusal of the limit that it broke."""
    log, stats = simulator.log, model.stats
    call = log.open(model.name, exchange.arrived_at)
    call.prompt, call.marker = request.prompt[:PROMPT_CHARS], tags.marker
    violation = model.admit(exchange, exchange.arrived, exchange.arrived_at)
    if violation is not None:
        refusal = _limit_refusal(model, violation)
        _close_refused(simulator, call, refusal)
        raise refusal
    exchange.before_end = partial(model.limits.release, exchange)
    fault = simulator.fault_for(model, request.prompt, tags)
    try:
        await _answer_call(exchange, model, request, tags, fault, call)
        call.outcome = fault.kind if fault else "completed"
    except ClientGone:
        call.client_left = True
        call.outcome = fault.kind if fault else "disconnected"
        raise
    finally:
        model.limits.release(exchange)
        call.status = exchange.status
        simulator.finish(log, stats, call)


def _limit_refusal(model: Model, violation: Violation) -> Refusal:
    settings = model.settings
    if violation == "concurrency":
        limit = f"concurrency limit reached: {settings.concurrency} calls in flight at once"
    else:
        limit = f"rate limit reached: {settings.rpm} calls in {settings.window_s:g} seconds"
    return Refusal(429, f"{limit} (model {model.name})", "rate_limit_exceeded")


async def _answer_call(
    exchange: Exchange, model: Model, request: Request, tags: Tags, fault: Fault | None, call: Call
) -> None:
    if fault is not None and await replace_answer(exchange, fault):
        return
    settings = model.settings
    if isinstance(request, ChatRequest):
        await chat.answer(
            chat.AcceptedChat(exchange, request, settings, tags, fault, call, model.chance)
        )
        return
    first_s = tags.settings.get("first", settings.first_token_s)
    await exchange.pause_until(exchange.arrived + first_s)
    payload = wire.embedding_list(
        request.model,
        [] if fault is not None and fault.kind == "empty" else request.inputs,
        request.dimensions or settings.dimensions,
        request.prompt_tokens,
        base64=request.base64,
    )
    await send_body(exchange, payload, fault)


async def _answer_own(simulator: Simulator, exchange: Exchange) -> None:
    """Answer one request to ``/_sim/...``."""
    answer: dict[str, Any]
    match exchange.method, exchange.path.removeprefix("/_sim/"):
        case "GET", "stats":
            answer = simulator.stats()
        case "GET", "calls":
            answer = {"calls": _records(simulator, exchange.query)}
        case "POST", "reset":
            simulator.reset()
            answer = {"ok": True}
        case "GET" | "POST" as method, "profile":
            if method == "POST":
                _configure(simulator, await exchange.read_body())
            answer = simulator.profile.model_dump(exclude={"server": {"api_key"}})
        case method, path:
            raise Refusal(404, f"no such call: {method} /_sim/{path}", "not_found")
    await exchange.reply_json(200, answer)


def _records(simulator: Simulator, query: bytes) -> list[dict[str, Any]]:
    given = parse_qs(query.decode("latin-1"))
    try:
        after = int(given.get("after", ["0"])[-1])
        limit = min(int(given.get("limit", ["1000"])[-1]), MOST_RECORDS)
    except ValueError:
        raise BadRequest("'after' and 'limit' must be whole numbers") from None
    return simulator.calls(after, limit)


def _configure(simulator: Simulator, body: bytes) -> None:
    try:
        changes = orjson.loads(body)
        if not isinstance(changes, dict):
            raise ProfileError("profile: must be a JSON object shaped as the profile file")
        simulator.configure(changes)
    except (orjson.JSONDecodeError, ProfileError) as error:
        raise Refusal(400, str(error), "invalid_profile") from None
