"""The requests of a call: from what a task asks to what the provider answered.

Owns which of the client's methods serves a type of task, further requests under the same
permit, and the second request without a field that the provider does not know. Promises a usage
with every answer, estimated where the provider gave none; that each request counts for the
account's rate and is on the disk before it is sent; that a field is left out only where the
service had added it by itself and the provider named it, at most once a request, and is
remembered only when the provider accepts the request without it. Never looks at the tasks that
share the call.
"""

import asyncio
from collections.abc import Awaitable, Callable, Set
from functools import partial
from typing import Any, TypeVar

import orjson

from asyncsvc.errors import FieldRefused, ProviderError
from asyncsvc.execution.call import Call
from asyncsvc.execution.outcome import Completed
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.providers.answers.embeddings import same_length
from asyncsvc.providers.client import Client
from asyncsvc.providers.tokens import completed_usage, estimated_usage, summed
from asyncsvc.providers.tools import ToolSink, converted, plain
from asyncsvc.tasks.state import Task
from asyncsvc.tasks.submission import last_user_text
from asyncsvc.tasks.trace import attempt_span, passed_on

T = TypeVar("T")


def request(
    client: Client, journal: Journal, call: Call, body: dict[str, Any]
) -> Awaitable[Completed]:
    """The provider's answer to the task's stored `body`. Raises what the client raises."""
    ask = embed if call.leader.request.type == "embedding" else chat
    return ask(client, journal, call, body)


async def chat(client: Client, journal: Journal, call: Call, body: dict[str, Any]) -> Completed:
    """Stream one answer into the call."""
    messages = body.get("messages") or [{"role": "user", "content": body["content"]}]
    params, back = body["params"], None
    if not plain(params):
        back = ToolSink(call, converted(params.get("tools"), call.upstream.preset.tools))
    ask = partial(client.chat, call.upstream, messages, params, back or call, call.session_key)
    if call.trace is not None:
        ask = partial(ask, trace=call.trace)
    try:
        answer = await ask()
    except FieldRefused as refusal:
        answer = await without_refused_fields(call, journal, ask, refusal.fields)
    if back is not None:
        back.finish()
    written = "".join([delta.written for delta in call.received])
    counts = completed_usage(answer.usage, last_user_text(messages), written)
    raw = answer.ending.word if answer.ending else None
    return Completed(call.text, counts, answer.called, answer.finish_reason, raw)


async def embed(client: Client, journal: Journal, call: Call, body: dict[str, Any]) -> Completed:
    """All vectors in the order of the texts, by as many requests as the texts need, one after
    the other; the usage is their sum. A failed attempt leaves nothing behind."""
    vectors: list[list[float]] = []
    usages: list[dict[str, Any]] = []
    for index, batch in enumerate(call.upstream.batches(body["input"])):
        if index:
            await count_request(call, journal)
        ask = partial(client.embed, call.upstream, batch, body["params"], call.head)
        if call.trace is not None:
            ask = partial(ask, trace=call.trace)
        try:
            found = await ask()
        except FieldRefused as refusal:
            found = await without_refused_fields(call, journal, ask, refusal.fields)
        vectors += found.vectors
        usages.append(found.usage or estimated_usage("".join(batch), ""))
    same_length(vectors)
    return Completed(orjson.dumps(vectors).decode(), summed(usages))


def outgoing(task: Task, tracing: bool) -> dict[str, str] | None:
    """The headers of the trace for the next attempt of a task; `tracing`: spans are recorded, so
    the provider's span is below that of the attempt."""
    span = attempt_span(task.id, task.starts + 1) if tracing else None
    request = task.request
    return passed_on(request.trace_id, request.traceparent, request.tracestate, span)


async def count_request(call: Call, journal: Journal) -> None:
    """Wait for the account's rate, then write one more request down, so that a restart counts
    it."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    call.heard_at = None
    await call.permit.again()
    call.waited_s += loop.time() - since
    if call.upstream.settings.counted:
        task_id = next(iter(call.executions))
        await asyncio.shield(journal.append(Change(task_id, [], call=call.upstream.gate.name)))
    call.permit.sent()
    call.alive()


async def without_refused_fields(
    call: Call, journal: Journal, ask: Callable[[], Awaitable[T]], fields: Set[str]
) -> T:
    """The answer to a second request, without the service's own fields that were refused."""
    refused = call.upstream.refused
    added = fields - refused
    refused |= added
    await count_request(call, journal)
    try:
        return await ask()
    except ProviderError:
        if not call.begun:
            refused -= added  # the provider may have refused something else
        raise
