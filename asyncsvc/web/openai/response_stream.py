"""Responses and their events, from the journal of their task alone.

The same journal always gives the same events under the same `sequence_number`s, from 0 without a
gap, for every reader and across restarts. A sent number never changes its meaning: a new attempt
marks the items of the one before as incomplete and opens new ones under new indexes and ids. The
`response.output` of the last event is the result.
"""

from dataclasses import dataclass
from typing import Any, Self

from asyncsvc.clock import from_rfc3339
from asyncsvc.providers.answers.tool_calls import LATE_ID
from asyncsvc.web.openai import schemas
from asyncsvc.web.openai.items import THINKING, sealed

Object = dict[str, Any]
_OF_CALL = frozenset({"index", "id", "type", "function", "status", "by", LATE_ID})
PREFIX = "resp_"
ENCRYPTED = "reasoning.encrypted_content"
"""The entry of `include` that asks for `encrypted_content`."""
CUT_SHORT = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of an incomplete answer, with OpenAI's word for the reason."""
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Kinds of items that are calls, with the field of the tool's input."""
CALL_EVENTS = {
    "function_call": "response.function_call_arguments",
    "custom_tool_call": "response.custom_tool_call_input",
}
_ECHOED: Object = {
    "instructions": None, "metadata": {}, "max_output_tokens": None, "temperature": None,
    "top_p": None, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True,
    "previous_response_id": None, "background": False, "store": True,
    "text": {"format": {"type": "text"}}, "reasoning": {"effort": None, "summary": None},
    "truncation": "disabled", "service_tier": "default", "user": None, "max_tool_calls": None,
    "prompt_cache_key": None, "safety_identifier": None, "top_logprobs": 0,
}  # fmt: skip
"""Fields of the request that a response repeats, with their defaults."""


PREFIXES = {
    "message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"
}  # fmt: skip
"""Prefixes of the ids of items by their kind."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The shape of reasoning items: thinking is their content, or their summary where the request
    asks for one. `sealed`: with `encrypted_content`."""

    summary: bool = False
    sealed: bool = False

    @classmethod
    def of(cls, request: Object) -> Self:
        """The shape that a request to `/v1/responses` asks for."""
        wanted = request.get("reasoning") or {}
        asked = wanted.get("summary") or wanted.get("generate_summary")
        return cls(bool(asked), ENCRYPTED in (request.get("include") or []))

    @property
    def event(self) -> str:
        return f"response.reasoning_{'summary_' if self.summary else ''}text"

    @property
    def part(self) -> str:
        return "summary_text" if self.summary else "reasoning_text"

    @property
    def part_event(self) -> str:
        return "response.reasoning_summary_part" if self.summary else "response.content_part"

    @property
    def place(self) -> Object:
        return {"summary_index" if self.summary else "content_index": 0}

    def shown(self, text: str, parts: list[Object], opaque: str | None = None) -> Object:
        """The fields of a reasoning item; `opaque` is carried in place of thinking."""
        if opaque is None and self.sealed and text:
            opaque = sealed({THINKING: text})
        more = {} if opaque is None else {"encrypted_content": opaque}
        if self.summary:
            return {"summary": parts, **more}
        return {"summary": [], "content": parts, **more}


class Item:
    """An item of the output. `index` counts the items of all attempts."""

    def __init__(self, index: int, task_id: str, kind: str, reasoning: Reasoning) -> None:
        self.index = index
        self.kind = kind
        self.id = f"{PREFIXES[kind]}_{task_id}_{index}"
        self.status = "in_progress"
        self.texts: list[str] = []
        self.call: Object = {}
        self.reasoning = reasoning
        self.refusal = False
        self.opaque: str | None = None
        """A reasoning item's sealed fields, which the next turn needs."""

    def part(self) -> Object:
        """The part of the content that the texts are."""
        text = "".join(self.texts)
        if self.refusal:
            return {"type": "refusal", "refusal": text}
        if self.kind == "reasoning":
            return {"type": self.reasoning.part, "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def place(self) -> Object:
        """The index of the part, as events have it."""
        return self.reasoning.place if self.kind == "reasoning" else {"content_index": 0}

    def part_event(self, what: str) -> str:
        """The type of the event after which the part is `added` or `done`."""
        kind = self.reasoning.part_event if self.kind == "reasoning" else "response.content_part"
        return f"{kind}.{what}"

    def shown(self) -> Object:
        """The item in OpenAI's shape."""
        item: Object = {"id": self.id, "type": self.kind, "status": self.status}
        if self.kind in CALLS:
            return item | self.call | {CALLS[self.kind]: "".join(self.texts)}
        content = [self.part()] if self.texts else []
        if self.kind == "reasoning":
            return item | self.reasoning.shown("".join(self.texts), content, self.opaque)
        return item | {"role": "assistant", "content": content}


class ResponseEvents:
    """The events of a response: `take` the journal's events one after the other."""

    def __init__(self, task_id: str, request: Object) -> None:
        self._task_id = task_id
        self._request = request
        self._number = 0
        self._made = 0
        self._items: list[Item] = []
        """The items of the latest attempt."""
        self._open: Item | None = None
        self._calls: dict[int, Item] = {}
        """Open calls by the provider's index."""
        self._events: list[Object] = []
        self._reasoning = Reasoning.of(request)
        self._model = str(request["model"])
        self._created_at = 0
        self._completed_at: int | None = None
        self._usage: schemas.ResponseUsage | None = None
        self._error: schemas.ResponseError | None = None
        self._incomplete: Object | None = None
        self.status = "queued"

    @property
    def last(self) -> int:
        """The last `sequence_number`; -1: there is no event."""
        return self._number - 1

    def take(self, event: Object) -> list[Object]:
        """The events of the response that an event of the journal causes; the `seq` of the
        journal's events must have no gap."""
        self._events = []
        data = event["data"]
        match event["type"]:
            case "status":
                self._change_status(data, from_rfc3339(event["ts"]) // 1000)
            case "attempt":
                self._void()
                self._model, self.status = data["name"], "in_progress"
                self._emit("response.in_progress", response=self.response(begun=False))
            case "reasoning":
                self._add_text("reasoning", self._reasoning.event, data["text"])
            case "chunk" if data.get("refusal"):
                self._add_text("message", "response.refusal", data["text"], refusal=True)
            case "chunk":
                self._add_text("message", "response.output_text", data["text"])
            case "tool_call" if "function" in data:
                self._add_call(data)
            case "message":
                self._add_fields(data)
        return self._events

    def response(self, begun: bool = True) -> Object:
        """The response so far; `begun`: with its output."""
        request = self._request
        given = {k: v if request.get(k) is None else request[k] for k, v in _ECHOED.items()}
        return given | {
            "id": PREFIX + self._task_id,
            "object": "response",
            "created_at": self._created_at,
            "completed_at": self._completed_at,
            "status": self.status,
            "model": self._model,
            "output": [item.shown() for item in self._items] if begun else [],
            "usage": self._usage,
            "error": self._error,
            "incomplete_details": self._incomplete,
        }

    def _change_status(self, data: Object, at: int) -> None:
        cause, state = data["cause"], data["status"]
        if cause in ("submitted", "delayed"):
            self._created_at = at
            self._emit("response.created", response=self.response(begun=False))
            self._emit("response.queued", response=self.response(begun=False))
        elif cause == "rerun":
            self._void()
            self.status, self._completed_at = "queued", None
            self._usage = self._error = self._incomplete = None
            self._emit("response.queued", response=self.response(begun=False))
        elif state == "completed":
            self._completed_at, self._usage = at, usage_of(data.get("usage"))
            why = CUT_SHORT.get(str(data.get("finish_reason")))
            self._incomplete = {"reason": why} if why else None
            self._end("incomplete" if why else "completed", "incomplete" if why else "completed")
        elif state == "failed":
            error = data.get("error") or {}
            self._error = error_of(error)
            self._end("failed", "failed")
        elif state == "cancelled":
            self._end("cancelled", "incomplete")
        elif state != "running":
            self.status = "queued"  # it waits again; its text is valid until the next attempt

    def _end(self, status: str, event: str) -> None:
        self._close("completed" if status == "completed" else "incomplete")
        self.status = status
        self._emit(f"response.{event}", response=self.response())

    def _void(self) -> None:
        """Mark the items of the attempt before a new one as incomplete."""
        self._close("incomplete")
        for item in self._items:
            if item.status != "incomplete":
                item.status = "incomplete"
                self._emit_done(item)
        self._items = []

    def _add_text(self, kind: str, event: str, text: str, refusal: bool = False) -> None:
        if self._open is None or (self._open.kind, self._open.refusal) != (kind, refusal):
            self._close("completed")
            item = self._open = self._begin(kind)
            item.refusal = refusal
            self._emit_of(item, item.part_event("added"), **item.place(), part=item.part())
        item = self._open
        item.texts.append(text)
        more: Object = {"logprobs": []} if event == "response.output_text" else {}
        self._emit_of(item, f"{event}.delta", **item.place(), delta=text, **more)

    def _add_call(self, piece: Object) -> None:
        """Add a call or a piece of one; several calls may be open at once."""
        index, function = piece.get("index", 0), piece["function"]
        item = self._calls.get(index)
        if item is None:
            self._close("completed", calls=False)
            custom = piece.get("type") == "custom"
            item = self._begin("custom_tool_call" if custom else "function_call", piece)
            self._calls[index] = item
        item.call |= _own(piece)
        if function.get("name"):
            item.call["name"] = function["name"]
        arguments = str(function.get("arguments") or "")
        if arguments:
            item.texts.append(arguments)
            self._emit_of(item, f"{CALL_EVENTS[item.kind]}.delta", delta=arguments)

    def _begin(self, kind: str, call: Object | None = None) -> Item:
        item = Item(self._made, self._task_id, kind, self._reasoning)
        if call is not None:
            name = call["function"].get("name") or ""
            item.call = {"call_id": call.get("id") or item.id, "name": name} | _own(call)
        self._made += 1
        self._items.append(item)
        self._emit("response.output_item.added", output_index=item.index, item=item.shown())
        return item

    def _close(self, status: str, calls: bool = True) -> None:
        """Close the open items, whole or not."""
        item, self._open = self._open, None
        if item is not None:
            self._end_text(item)
            item.status = status
            self._emit_done(item)
        called, self._calls = (self._calls, {}) if calls else ({}, self._calls)
        for item in called.values():
            if status == "completed":
                # A client acts on this event: half a call must never get it.
                end = {"name": item.call["name"], CALLS[item.kind]: "".join(item.texts)}
                self._emit_of(item, f"{CALL_EVENTS[item.kind]}.done", **end)
            item.status = status
            self._emit_done(item)

    def _add_fields(self, fields: Object) -> None:
        """Add fields of the message that no item has: a reasoning item carries them, which a
        client returns as it is."""
        self._close("completed")
        item = self._begin("reasoning")
        item.opaque, item.status = sealed(fields), "completed"
        self._emit_done(item)

    def _end_text(self, item: Item) -> None:
        part, place = item.part(), item.place()
        if item.refusal:
            self._emit_of(item, "response.refusal.done", **place, refusal=part["refusal"])
            self._emit_of(item, item.part_event("done"), **place, part=part)
            return
        kind = self._reasoning.event if item.kind == "reasoning" else "response.output_text"
        more: Object = {"logprobs": []} if item.kind == "message" else {}
        self._emit_of(item, f"{kind}.done", **place, text=part["text"], **more)
        self._emit_of(item, item.part_event("done"), **place, part=part)

    def _emit_done(self, item: Item) -> None:
        self._emit("response.output_item.done", output_index=item.index, item=item.shown())

    def _emit_of(self, item: Item, kind: str, **data: Any) -> None:
        self._emit(kind, item_id=item.id, output_index=item.index, **data)

    def _emit(self, kind: str, **data: Any) -> None:
        self._events.append({"type": kind, "sequence_number": self._number, **data})
        self._number += 1


def _own(piece: Object) -> Object:
    """The fields of a call's item beside OpenAI's, and its late id."""
    own = {name: value for name, value in piece.items() if name not in _OF_CALL}
    if "namespace" in piece["function"]:
        own["namespace"] = piece["function"]["namespace"]
    return own | ({"call_id": piece[LATE_ID]} if LATE_ID in piece else {})


ERROR_CODES = {
    "rate_limited": "rate_limit_exceeded",
    "quota_exhausted": "rate_limit_exceeded",
    "context_too_long": "invalid_prompt",
    "content_filtered": "invalid_prompt",
    "upstream_rejected": "invalid_prompt",
}
"""OpenAI's code for a task's `error.code`; all others are `server_error`."""


def error_of(error: Object) -> schemas.ResponseError:
    """A task's error with a code of OpenAI's; the task's own code is the error's type."""
    code = str(error.get("code"))
    given = ERROR_CODES.get(code, "server_error")
    return {"code": given, "message": error.get("message") or code, "type": code, "param": None}


def usage_of(usage: Object | None) -> schemas.ResponseUsage | None:
    """The tokens of a chat call under the names of the Responses API."""
    if usage is None:
        return None
    prompt, answer = (
        _details(usage, f"{name}_tokens_details") for name in ("prompt", "completion")
    )
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "input_tokens_details": {
            "cached_tokens": prompt.get("cached_tokens") or 0,
            "cache_write_tokens": prompt.get("cache_write_tokens") or 0,
        },
        "output_tokens": usage.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": answer.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens", 0),
    }


def _details(usage: Object, name: str) -> Object:
    """The positive counts of a details object."""
    found = usage.get(name)
    held = found if isinstance(found, dict) else {}
    return {key: count for key, count in held.items() if type(count) is int and count > 0}
