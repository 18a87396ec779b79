"""Responses and their events, from the journal of their task alone.

The same journal always gives the same events under the same `sequence_number`s, from 0 without a
gap, for every reader and across restarts. A sent number never changes its meaning: a new attempt
marks the items of the one before as incomplete and opens new ones under new indexes and ids. The
`response.output` of the last event is the result.
"""

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Form:
    """The form of an item with a text: the types of the item, of its events and of its part. A
    call has no part."""

    kind: str
    prefix: str
    """The prefix of the item's id."""
    event: str
    field: str
    """The field with the text."""
    part: str = ""
    part_event: str = "response.content_part"
    index: str = "content_index"


TEXT = Form("message", "msg", "response.output_text", "text", "output_text")
REFUSAL = Form("message", "msg", "response.refusal", "refusal", "refusal")
REASONING = Form("reasoning", "rs", "response.reasoning_text", "text", "reasoning_text")
SUMMARY = Form(
    "reasoning",
    "rs",
    "response.reasoning_summary_text",
    "text",
    "summary_text",
    "response.reasoning_summary_part",
    "summary_index",
)
FUNCTION = Form("function_call", "fc", "response.function_call_arguments", "arguments")
CUSTOM = Form("custom_tool_call", "ctc", "response.custom_tool_call_input", "input")


class Item:
    """An item of the output. `index` counts the items of all attempts; `encrypts`: its thinking
    is repeated as `encrypted_content`."""

    def __init__(self, index: int, task_id: str, form: Form, encrypts: bool) -> None:
        self.index = index
        self.form = form
        self.id = f"{form.prefix}_{task_id}_{index}"
        self.status = "in_progress"
        self.texts: list[str] = []
        self.call: Object = {}
        self.opaque: str | None = None
        """A reasoning item's sealed fields, which the next turn needs."""
        self._encrypts = encrypts

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def part(self) -> Object:
        """The part of the content that the texts are."""
        more: Object = {"annotations": [], "logprobs": []} if self.form is TEXT else {}
        return {"type": self.form.part, self.form.field: self.text, **more}

    def shown(self) -> Object:
        """The item in OpenAI's shape."""
        item: Object = {"id": self.id, "type": self.form.kind, "status": self.status}
        if not self.form.part:
            return item | self.call | {self.form.field: self.text}
        content = [self.part()] if self.texts else []
        if self.form.kind == "message":
            return item | {"role": "assistant", "content": content}
        opaque = self.opaque
        if opaque is None and self._encrypts and self.texts:
            opaque = sealed({THINKING: self.text})
        more = {} if opaque is None else {"encrypted_content": opaque}
        if self.form is SUMMARY:
            return item | {"summary": content, **more}
        return item | {"summary": [], "content": content, **more}


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
        asked = request.get("reasoning") or {}
        summary = asked.get("summary") or asked.get("generate_summary")
        self._thinking = SUMMARY if summary else REASONING
        self._encrypts = ENCRYPTED in (request.get("include") or [])
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
                self._add_text(self._thinking, data["text"])
            case "chunk":
                self._add_text(REFUSAL if data.get("refusal") else TEXT, data["text"])
            case "tool_call" if "function" in data:
                self._add_call(data)
            case "message":
                self._add_fields(data)
        return self._events

    def response(self, begun: bool = True) -> Object:
        """The response so far; `begun`: with its output."""
        request = self._request
        given = {k: v if request.get(k) is None else request[k] for k, v in schemas.ECHOED.items()}
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

    def _add_text(self, form: Form, text: str) -> None:
        if self._open is None or self._open.form is not form:
            self._close("completed")
            self._open = self._begin(form)
            self._emit_part(self._open, "added")
        self._open.texts.append(text)
        self._emit_text(self._open, "delta", {"delta": text})

    def _add_call(self, piece: Object) -> None:
        """Add a call or a piece of one; several calls may be open at once."""
        index, function = piece.get("index", 0), piece["function"]
        item = self._calls.get(index)
        if item is None:
            self._close("completed", calls=False)
            custom = piece.get("type") == "custom"
            item = self._begin(CUSTOM if custom else FUNCTION, piece)
            self._calls[index] = item
        item.call |= _own(piece)
        if function.get("name"):
            item.call["name"] = function["name"]
        arguments = str(function.get("arguments") or "")
        if arguments:
            item.texts.append(arguments)
            self._emit_of(item, f"{item.form.event}.delta", delta=arguments)

    def _begin(self, form: Form, call: Object | None = None) -> Item:
        item = Item(self._made, self._task_id, form, self._encrypts)
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
            self._emit_text(item, "done", {item.form.field: item.text})
            self._emit_part(item, "done")
            item.status = status
            self._emit_done(item)
        called, self._calls = (self._calls, {}) if calls else ({}, self._calls)
        for item in called.values():
            if status == "completed":
                # A client acts on this event: half a call must never get it.
                end = {"name": item.call["name"], item.form.field: item.text}
                self._emit_of(item, f"{item.form.event}.done", **end)
            item.status = status
            self._emit_done(item)

    def _add_fields(self, fields: Object) -> None:
        """Add fields of the message that no item has: a reasoning item carries them, which a
        client returns as it is."""
        self._close("completed")
        item = self._begin(self._thinking)
        item.opaque, item.status = sealed(fields), "completed"
        self._emit_done(item)

    def _emit_text(self, item: Item, what: str, text: Object) -> None:
        more: Object = {"logprobs": []} if item.form is TEXT else {}
        self._emit_of(item, f"{item.form.event}.{what}", **{item.form.index: 0}, **text, **more)

    def _emit_part(self, item: Item, what: str) -> None:
        kind = f"{item.form.part_event}.{what}"
        self._emit_of(item, kind, **{item.form.index: 0}, part=item.part())

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
