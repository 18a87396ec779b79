"""A chat run over OpenClaw's WebSocket: from `chat.send` to its last event.

Owns the turning of `chat` and `agent` events into text and tool events. Promises what `Client.chat`
promises; that a run which is left is aborted, unless the sink says that its status will be asked
for later; that text which the gateway takes back is never part of an answer. Never sends a run
twice.
"""

import asyncio
from contextlib import suppress
from typing import Any

from asyncsvc.config.settings import Timeouts
from asyncsvc.errors import (
    FirstTokenTimeout,
    IdleTimeout,
    ProviderError,
    UpstreamDisconnected,
    UpstreamTooLarge,
)
from asyncsvc.providers.answers import finish_reasons as finish
from asyncsvc.providers.answers.answer import Answer
from asyncsvc.providers.answers.delta import Delta, Sink
from asyncsvc.providers.answers.size import too_large
from asyncsvc.providers.dialects import MODEL_HEADER, target
from asyncsvc.providers.openclaw.runs import full_key, json_text, text_of, usage_in
from asyncsvc.providers.openclaw.socket import Gateway, Payload, fault_in
from asyncsvc.providers.upstream import Upstream

LEAVING_S = 3.0
"""How long an abort may take when a run is left."""


async def chat(
    gateway: Gateway,
    upstream: Upstream,
    messages: list[dict[str, Any]],
    sink: Sink,
    key: str,
    timeouts: Timeouts,
) -> Answer:
    """Run it and give its text to the sink. `key` is the attempt's session."""
    aim = target(upstream.model_id, upstream.settings.extra_headers)
    full = full_key(key, aim.agent)
    run = _Run(sink, upstream, gateway.most)
    events = gateway.listen(full)
    try:
        async with asyncio.timeout(timeouts.first_token_s) as limit:
            if language := aim.headers.get(MODEL_HEADER):
                await gateway.call("sessions.patch", {"key": full, "model": language})
            sent = await gateway.call("chat.send", _sending(full, prompt(messages), key))
            run.id = str(sent.get("runId") or key)
            sink.head(True)
            while not run.answer.done:
                event = await events.get()
                if isinstance(event, ProviderError):
                    try:
                        raise event
                    finally:
                        del event  # else it would hold its own frame, and the messages with it
                run.take(event)
                sink.alive()
                if sink.full:
                    limit.reschedule(None)
                    await sink.drained()
                if run.answer.begun:
                    limit.reschedule(asyncio.get_running_loop().time() + timeouts.idle_s)
    except TimeoutError:
        await _abort(gateway, full, run.id)
        if run.answer.begun:
            raise IdleTimeout(f"the stream was silent for {timeouts.idle_s:g} s") from None
        raise FirstTokenTimeout(f"no token within {timeouts.first_token_s:g} s") from None
    except (UpstreamTooLarge, asyncio.CancelledError) as error:
        if isinstance(error, UpstreamTooLarge) or not sink.returns:
            await _abort(gateway, full, run.id)
        raise
    finally:
        gateway.ignore(full)
    run.answer.check(upstream.preset.empty_answers)
    return run.answer


def _sending(key: str, message: str, once: str) -> Payload:
    return {
        "sessionKey": key,
        "message": message,
        "idempotencyKey": once,
        "deliver": False,
        # A user's text that begins with a slash is text, not a command to the gateway.
        "suppressCommandInterpretation": True,
    }


async def _abort(gateway: Gateway, key: str, run_id: str | None) -> None:
    """Closing a socket would not end it."""
    with suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(LEAVING_S):
            if run_id is None:
                await gateway.call("sessions.abort", {"key": key})
            else:
                await gateway.call("chat.abort", {"sessionKey": key, "runId": run_id})


class _Run:
    """A run while its events come."""

    def __init__(self, sink: Sink, upstream: Upstream, most: int) -> None:
        self._room = self._most = most
        """How many characters of text and of tool calls may still come, and at first."""
        self.id: str | None = None
        self.answer = Answer(dialect=upstream.preset.errors)
        self._sink = sink
        self._secrets = upstream.secrets
        self._sent = ""

    def take(self, event: Payload) -> None:
        """Raises ProviderError where the run ended without an answer."""
        if self.id is not None and event.get("runId") not in (None, self.id):
            return  # another run of the session: one that the gateway took up by itself
        if event["event"] == "agent":
            self._agent(event)
            return
        match event.get("state"):
            case "delta":
                self._catch_up(event)
            case "final":
                self._catch_up(event)
                self.answer.done = True
                self.answer.ending = finish.ending(event.get("stopReason") or "stop")
                message = event.get("message")
                if isinstance(message, dict):
                    self.answer.usage = usage_in(message.get("usage"))
            case "aborted":
                raise UpstreamDisconnected("the gateway's run was aborted")
            case "error":
                raise fault_in(
                    {"message": event.get("errorMessage"), "code": event.get("errorKind")},
                    self._secrets,
                )

    def _catch_up(self, event: Payload) -> None:
        """Each event has all of the text so far, so one that was missed costs nothing."""
        message = event.get("message")
        whole = text_of(message) if isinstance(message, dict) else ""
        if not whole:
            whole = self._sent + str(event.get("deltaText") or "")
        if not whole.startswith(self._sent):
            if event.get("state") == "final":
                raise UpstreamDisconnected("the gateway took back text that it had sent")
            return
        text, self._sent = whole[len(self._sent) :], whole
        if text:
            self._count(len(text))
            self._sink.write(self.answer.text(text))

    def _count(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise too_large(self._most)

    def _agent(self, event: Payload) -> None:
        """A tool that the agent uses, as it begins and ends."""
        data = event.get("data")
        if event.get("stream") != "tool" or not isinstance(data, dict):
            return
        self.answer.begun = True
        name, number = str(data.get("name") or ""), data.get("toolCallId")
        if data.get("phase") == "start":
            function = {"name": name, "arguments": json_text(data.get("args"))}
            self._count(len(function["arguments"]))
            call = {"id": number, "type": "function", "function": function, "by": "openclaw"}
            self._sink.write(Delta("", event=("tool_call", call)))
        elif data.get("phase") == "result":
            head = {"id": number, "name": name, "error": bool(data.get("isError"))}
            result = {**head, "result": _short(data.get("result")), "by": "openclaw"}
            self._count(len(json_text(result)))
            self._sink.write(Delta("", event=("tool_result", result)))


def _short(value: Any) -> Any:
    """A tool's result may be a file: what is kept of it is its beginning."""
    text = value if isinstance(value, str) else json_text(value)
    return text if len(text) <= 2000 else text[:1999] + "…"


def prompt(messages: list[dict[str, Any]]) -> str:
    """One text for what the protocol takes as one: the conversation before, then the question."""
    last = max((i for i, m in enumerate(messages) if m.get("role") == "user"), default=-1)
    before = [
        f"{str(m.get('role') or 'user').capitalize()}: {text_of(m)}"
        for i, m in enumerate(messages)
        if i != last and text_of(m)
    ]
    asked = text_of(messages[last]) if last >= 0 else ""
    if not before:
        return asked
    return "\n\n".join(["[The conversation before, for context]", *before, "[Now]", asked])
