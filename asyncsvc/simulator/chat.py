"""Chat completions: the content of an answer, its pace, and its way out, streamed or whole.

Chunks come in OpenAI's order (role, reasoning, content one token each, calls of tools in pieces,
finish, usage if asked, [DONE]); ``call.tokens`` and ``call.text`` are what left for the client.
Pauses follow an absolute schedule, so that a late timer does not slow the stream down; what is
overdue leaves in one write.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import orjson

from asyncsvc.simulator import answers, wire
from asyncsvc.simulator.exchange import Exchange
from asyncsvc.simulator.fault_effects import STREAM_BREAKS, break_stream, send_body, writer
from asyncsvc.simulator.faults import Fault, Tags
from asyncsvc.simulator.profile import ModelSettings
from asyncsvc.simulator.requests import ChatRequest
from asyncsvc.simulator.simulator import Call
from asyncsvc.simulator.steps import Step

MOST_CHUNKS_A_WRITE = 64
MOST_TAGGED_TOKENS = 1_000_000
MOST_CALLS = 128


@dataclass(slots=True)
class Plan:
    """An answer before it is sent."""

    thoughts: list[str]
    content: list[str]
    finish: str
    prompt_tokens: int
    calls: list[dict[str, Any]] = field(default_factory=list)

    def usage(self) -> dict[str, object]:
        called = sum(answers.estimate_tokens(each["function"]["arguments"]) for each in self.calls)
        return wire.usage(self.prompt_tokens, len(self.content) + called, len(self.thoughts))


@dataclass(slots=True)
class Pace:
    """When tokens leave: the first after ``first_s``, then one every ``token_s`` seconds."""

    first_s: float
    token_s: float
    jitter: float
    chance: random.Random

    def varied(self, seconds: float) -> float:
        if not self.jitter:
            return seconds
        return seconds * (1 + self.jitter * (2 * self.chance.random() - 1))


@dataclass(slots=True)
class AcceptedChat:
    """One accepted chat call with all that its answer depends on."""

    exchange: Exchange
    request: ChatRequest
    settings: ModelSettings
    tags: Tags
    fault: Fault | None
    call: Call
    chance: random.Random


def plan_for(chat: AcceptedChat) -> Plan:
    """Compose the answer; for temperature 0 it is a function of the request alone."""
    request, settings, wanted = chat.request, chat.settings, chat.tags.settings
    chance, label = chat.chance, str(chat.call.n)
    if request.deterministic:
        chance, label = random.Random(request.digest), request.digest[:4]
    count = min(int(wanted.get("tokens", settings.answer_tokens)), MOST_TAGGED_TOKENS)
    thinking = min(int(wanted.get("reasoning", settings.reasoning_tokens)), MOST_TAGGED_TOKENS)
    prompt = chat.tags.text
    if request.step is not None:
        return _scripted(chat, request.step)
    if request.tools and wanted.get("calls"):
        made = answers.tool_calls(request.tools, min(int(wanted["calls"]), MOST_CALLS), label)
        thoughts = answers.compose_thoughts(prompt, thinking, chance)
        return Plan(thoughts, [], "tool_calls", request.prompt_tokens, made)
    content = _content(request, prompt, count, label, chance)
    kind = chat.fault.kind if chat.fault else ""
    if kind == "empty":
        content = []
    elif kind == "think":
        inline = answers.compose_thoughts(prompt, 8, chance)
        content = ["<th", "ink>", *inline, "</", "thi", "nk>", *content]
    thoughts = answers.compose_thoughts(prompt, thinking, chance)
    finish = "stop"
    if request.most_tokens is not None and len(content) > request.most_tokens:
        content, finish = content[: request.most_tokens], "length"
    return Plan(thoughts, content, finish, request.prompt_tokens)


def _scripted(chat: AcceptedChat, step: Step) -> Plan:
    """A step of an agent; its calls are text for a model that reads of its tools in a text."""
    request = chat.request
    text, calls = step.text, [call.as_dict() for call in step.calls]
    if chat.fault is not None and chat.fault.kind == "empty":
        text, calls = "", []
    elif request.textual:
        text, calls = step.as_text(), []
    finish = "tool_calls" if calls else "stop"
    thoughts, content = answers.tokenize(step.thoughts), answers.tokenize(text)
    return Plan(thoughts, content, finish, request.prompt_tokens, calls)


def _content(
    request: ChatRequest, prompt: str, count: int, label: str, chance: random.Random
) -> list[str]:
    """The tokens of the answer, in the shape that is wanted, up to the first stop sequence."""
    if request.shape is not None:
        text = orjson.dumps(answers.sample(request.shape)).decode()
    else:
        tokens = answers.compose(prompt, count, label, chance)
        if not request.stop:
            return tokens
        text = "".join(tokens)
    ends = [at for stop in request.stop if (at := text.find(stop)) >= 0]
    return answers.tokenize(text[: min(ends)] if ends else text)


def pace_for(chat: AcceptedChat) -> Pace:
    wanted, settings = chat.tags.settings, chat.settings
    rate = wanted.get("rate", settings.tokens_per_s)
    first = wanted.get("first", settings.first_token_s)
    return Pace(first, 1 / rate if rate else 0.0, settings.jitter, chat.chance)


async def answer(chat: AcceptedChat) -> None:
    """Answer a chat call; raises ClientGone when the client leaves."""
    plan, pace = plan_for(chat), pace_for(chat)
    if chat.request.stream:
        await ChatStream(chat, plan, pace).run()
    else:
        await _answer_whole(chat, plan, pace)


async def _answer_whole(chat: AcceptedChat, plan: Plan, pace: Pace) -> None:
    exchange, call = chat.exchange, chat.call
    duration = pace.first_s + pace.token_s * (len(plan.thoughts) + len(plan.content))
    await exchange.pause_until(exchange.arrived + pace.varied(duration))
    text = "".join(plan.content)
    message: dict[str, object] = {"role": "assistant", "content": text}
    if plan.calls:
        message |= {"content": text or None, "tool_calls": plan.calls}
    if plan.thoughts:
        message["reasoning_content"] = "".join(plan.thoughts)
    payload = wire.completion(
        f"chatcmpl-sim-{call.n}",
        int(exchange.arrived_at),
        chat.request.model,
        message,
        plan.finish,
        plan.usage(),
    )
    if chat.fault is not None and chat.fault.kind == "no-choices":
        payload["choices"] = []
    if await send_body(exchange, payload, chat.fault):
        call.text, call.tokens = text, len(plan.content)


class ChatStream:
    """One answer as server-sent events."""

    def __init__(self, chat: AcceptedChat, plan: Plan, pace: Pace) -> None:
        self._chat = chat
        self._plan = plan
        self._pace = pace
        self._exchange = chat.exchange
        self._call = chat.call
        self._fault = chat.fault
        self._write = writer(chat.exchange, chat.fault)
        self._chunks = wire.Chunks(
            f"chatcmpl-sim-{chat.call.n}",
            int(chat.exchange.arrived_at),
            chat.request.model,
            with_usage=chat.request.include_usage,
        )
        self._queue: list[bytes] = []
        self._queued_tokens = 0
        self._due = chat.exchange.arrived + pace.varied(pace.first_s)
        self._between = self._filler()

    async def run(self) -> None:
        try:
            await self._open()
            for token in self._plan.thoughts:
                self._queue.append(self._chunks.reasoning(token))
                await self._next_due()
            if not await self._send_content():
                await self._finish()
        finally:
            self._call.text = "".join(self._plan.content[: self._call.tokens])

    def _filler(self) -> bytes:
        """What goes between the chunks of streams that are right but odd."""
        kind = self._fault.kind if self._fault else ""
        if kind == "keepalive":
            return b": keep-alive\n\n\n"
        return self._chunks.no_choices if kind == "no-choices" else b""

    async def _open(self) -> None:
        at_once = self._chat.settings.head == "at_once"
        if at_once:
            await self._exchange.start(200, wire.SSE_HEADERS)
        await self._exchange.pause_until(self._due)
        if not at_once:
            await self._exchange.start(200, wire.SSE_HEADERS)
        self._queue.append(self._chunks.role)

    async def _send_content(self) -> bool:
        """Send the text and the calls, break where the fault says so; True where the stream is
        over."""
        pieces = answers.call_pieces(self._plan.calls)
        total = len(self._plan.content) + len(pieces)
        breaks = self._fault is not None and self._fault.kind in STREAM_BREAKS
        at = min(self._fault.at, total) if self._fault and breaks else -1
        chunks, queue, between = self._chunks, self._queue, self._between
        for index, token in enumerate(self._plan.content):
            if index == at and await self._break():
                return True
            queue.append(chunks.content(token))
            if between:
                queue.append(between)
            self._queued_tokens += 1
            await self._next_due()
        for index, piece in enumerate(pieces, start=len(self._plan.content)):
            if index == at and await self._break():
                return True
            queue.append(chunks.tool_call(piece))
            await self._next_due()
        return at == total and await self._break()

    async def _break(self) -> bool:
        assert self._fault is not None
        await self._flush()
        return await break_stream(self._exchange, self._chunks, self._fault)

    async def _next_due(self) -> None:
        """Wait for the moment of the next token; what is queued leaves before the wait."""
        if self._pace.token_s:
            self._due += self._pace.varied(self._pace.token_s)
            if self._due > self._exchange.now():
                await self._flush()
                await self._exchange.pause_until(self._due)
                return
        if len(self._queue) >= MOST_CHUNKS_A_WRITE:
            await self._flush()
            await self._exchange.yield_to_loop()

    async def _flush(self) -> None:
        if self._queue:
            data = b"".join(self._queue)
            self._queue.clear()
            await self._write(data)
            self._call.tokens += self._queued_tokens
            self._queued_tokens = 0

    async def _finish(self) -> None:
        kind = self._fault.kind if self._fault else ""
        self._queue.append(self._chunks.finish(self._plan.finish))
        if self._chat.request.include_usage and kind != "empty":
            self._queue.append(self._chunks.usage(self._plan.usage()))
        if kind != "no-done":
            self._queue.append(wire.DONE)
        if kind in ("slow-bytes", "split-utf8"):
            await self._flush()
        await self._exchange.end(b"".join(self._queue))
        self._call.tokens += self._queued_tokens
