"""Spans of tasks, made from their events: one for each attempt, each tool of an agent, each task.

Follows OpenTelemetry's semantic conventions for GenAI (the names of 1.41). `SpanMaker.take` is
given the events of all tasks in order and returns the spans that have ended. The ids are those
that `tasks/trace.py` makes of a task, so what was passed on to a provider fits. A span holds no
text of a prompt or an answer; the exporter may add it. Nothing is exported here.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from asyncsvc.journal.journal import Event
from asyncsvc.providers.upstream import Upstream
from asyncsvc.tasks import trace
from asyncsvc.tasks.marks import AGAIN
from asyncsvc.tasks.state import FINISHED, EventType, Task

OPEN_MOST = 100_000
"""Attempts under way of which is remembered when they began; the oldest go first."""
OPERATIONS = {"chat": "chat", "embedding": "embeddings", "agent": "invoke_agent"}
TEXT = frozenset({EventType.CHUNK, EventType.REASONING, EventType.TOOL_CALL})
SHARES = "shares the call"

Attributes = dict[str, Any]


class Measured(NamedTuple):
    """What an attempt contributes to the metrics: seconds, tokens, and the attributes that go with
    them."""

    seconds: float
    first_s: float | None
    tokens: dict[str, int]
    attributes: Attributes


@dataclass(slots=True)
class SpanRecord:
    """A span that has ended. Times are ms since the epoch, ids hexadecimal."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start: int
    end: int
    attributes: Attributes
    calls_provider: bool = False
    """Whether it is about a call to another service."""
    error: str | None = None
    measured: Measured | None = None
    task: Task | None = None
    """Set in the span of an attempt that has answered: whose text may be added."""


@dataclass(slots=True)
class _Attempt:
    number: int
    model: str
    name: str
    began: int
    shares: bool
    first: int | None = None
    why: dict[str, Any] | None = None
    """The error after which another attempt follows."""
    tools: dict[str, int] = field(default_factory=dict)
    """When each tool that runs has begun."""


class SpanMaker:
    """`upstreams` gives the accounts of a model by its name; none where it is gone."""

    def __init__(self, upstreams: Callable[[str], Sequence[Upstream]]) -> None:
        self._upstreams = upstreams
        self._open: OrderedDict[str, _Attempt] = OrderedDict()

    def wants(self, event: Event) -> bool:
        """Whether the task of an event is needed to take it."""
        return event.type in (EventType.STATUS, EventType.TOOL_RESULT)

    def take(self, event: Event, task: Task | None) -> Iterator[SpanRecord]:
        """The spans that end with the event. `task`: as it stands, for events that `wants` names;
        None where it is gone."""
        attempt = self._open.get(event.task_id)
        match event.type:
            case EventType.ATTEMPT:
                self._begin(event)
            case EventType.RETRY if attempt is not None:
                attempt.why = event.data.get("why")
            case EventType.TOOL_STARTED if attempt is not None:
                attempt.tools[str(event.data.get("id"))] = event.ts
            case EventType.TOOL_RESULT if attempt is not None and task is not None:
                yield from self._tool(event, task, attempt)
            case EventType.STATUS if task is not None:
                yield from self._moved(event, task)
            case kind if attempt is not None and attempt.first is None and kind in TEXT:
                attempt.first = event.ts

    def _begin(self, event: Event) -> None:
        data = event.data
        shares = str(data.get("why", "")).startswith(SHARES)
        self._open[event.task_id] = _Attempt(
            data["number"], data["model"], data["name"], event.ts, shares
        )
        self._open.move_to_end(event.task_id)
        if len(self._open) > OPEN_MOST:
            self._open.popitem(last=False)

    def _moved(self, event: Event, task: Task) -> Iterator[SpanRecord]:
        data = event.data
        if data["status"] == "running" or not trace.sampled(task.request.traceparent):
            return
        attempt = self._open.pop(event.task_id, None)
        if attempt is not None:
            yield self._attempt(event, task, attempt)
        if data["status"] in FINISHED:
            yield self._task(event, task)

    def _attempt(self, event: Event, task: Task, attempt: _Attempt) -> SpanRecord:
        data, request = event.data, task.request
        error = data.get("error") or attempt.why
        code = None if error is None else str(error["code"])
        operation = OPERATIONS.get(request.type, request.type)
        common: Attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": attempt.model,
        } | self._provider(attempt.name)
        if code is not None:
            common["error.type"] = code
        first_s = None if attempt.first is None else (attempt.first - attempt.began) / 1000
        tokens = _tokens(data.get("usage"))
        more: Attributes = {
            "gen_ai.response.model": attempt.model,
            **{f"gen_ai.usage.{kind}_tokens": count for kind, count in tokens.items()},
            "asyncsvc.task.id": task.id,
            "asyncsvc.attempt": attempt.number,
            "asyncsvc.model": attempt.name,
            "asyncsvc.outcome": data["cause"],
        }
        if first_s is not None:
            more["gen_ai.response.time_to_first_chunk"] = first_s
        if (reason := data.get("finish_reason")) is not None:
            more["gen_ai.response.finish_reasons"] = [reason]
        if request.session_id is not None:
            more["gen_ai.conversation.id"] = request.session_id
        seconds = (event.ts - attempt.began) / 1000
        measured = Measured(seconds, first_s, tokens, common)
        return SpanRecord(
            f"{operation} {attempt.model}",
            request.trace_id,
            trace.attempt_span(task.id, attempt.number),
            trace.task_span(task.id, task.marks),
            attempt.began,
            event.ts,
            common | more,
            calls_provider=not attempt.shares,
            error=code,
            measured=None if attempt.shares else measured,
            task=task if data["status"] == "completed" else None,
        )

    def _tool(self, event: Event, task: Task, attempt: _Attempt) -> Iterator[SpanRecord]:
        data = event.data
        call_id, name = str(data.get("id")), str(data.get("name"))
        began = attempt.tools.pop(call_id, None)
        if began is None or not trace.sampled(task.request.traceparent):
            return
        attributes: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call_id,
            "asyncsvc.task.id": task.id,
        }
        yield SpanRecord(
            f"execute_tool {name}",
            task.request.trace_id,
            trace.tool_span(task.id, attempt.number, call_id),
            trace.attempt_span(task.id, attempt.number),
            began,
            event.ts,
            attributes,
            error=None if data.get("ok") else "tool_failed",
        )

    def _task(self, event: Event, task: Task) -> SpanRecord:
        request = task.request
        code = None if task.error is None else str(task.error["code"])
        again = task.marks and task.marks[0][0] == AGAIN
        attributes: Attributes = {
            "asyncsvc.task.id": task.id,
            "asyncsvc.task.type": request.type,
            "asyncsvc.task.lane": request.lane,
            "asyncsvc.task.status": event.data["status"],
            "asyncsvc.task.attempts": task.starts,
            "asyncsvc.task.cached": task.cached,
        }
        if code is not None:
            attributes["error.type"] = code
        return SpanRecord(
            f"task {request.type}",
            request.trace_id,
            trace.task_span(task.id, task.marks),
            trace.parent_span(request.traceparent),
            task.marks[0][1] if again else request.created_at,
            event.ts,
            attributes,
            error=code,
        )

    def _provider(self, name: str) -> Attributes:
        """The provider of a model, and where it is."""
        if not (upstreams := self._upstreams(name)):
            return {"gen_ai.provider.name": name}
        url, preset = urlsplit(upstreams[0].base_url), upstreams[0].settings.preset
        found: Attributes = {"gen_ai.provider.name": preset or url.hostname or name}
        if url.hostname:
            port = url.port or (443 if url.scheme == "https" else 80)
            found |= {"server.address": url.hostname, "server.port": port}
        return found


def _tokens(usage: dict[str, Any] | None) -> dict[str, int]:
    """The tokens of an attempt, in the words of the conventions."""
    words = {"input": "prompt_tokens", "output": "completion_tokens"}
    found = {kind: (usage or {}).get(name) for kind, name in words.items()}
    return {kind: count for kind, count in found.items() if isinstance(count, int)}
