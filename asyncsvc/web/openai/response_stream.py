"""A response told as OpenAI's events, made from its task's journal and from nothing else.

Owns the translation. Promises that the same journal always gives the same events under the same
`sequence_number`s, from 0 without a gap, whoever asks and however often the service was started
in between; and that a number which was given away never changes its meaning: a new attempt
takes nothing back, it marks the items of the one before as incomplete and opens new ones under
new indexes and ids. The last event's `response.output` is what holds. Never waits, never reads
a clock.
"""

from typing import Any

from asyncsvc.clock import from_rfc3339
from asyncsvc.providers.answers.tool_calls import LATE_ID
from asyncsvc.web.openai.thoughts import Thinking, sealed

Object = dict[str, Any]
_OF_CALL = frozenset({"index", "id", "type", "function", "status", "by", LATE_ID})
PREFIX = "resp_"
CUT_SHORT = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of an answer that is not whole, and OpenAI's word for why."""
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Kinds of items that are calls, and the field with what the tool is given."""
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
"""Fields of the request that a response repeats, and what they are where nothing was given."""


def response_id(task_id: str) -> str:
    """OpenAI's name for a task's response."""
    return PREFIX + task_id


PREFIXES = {
    "message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"
}  # fmt: skip
"""Of the ids of items, by their kind."""


class Item:
    """One item of the output. `index` counts all items there ever were."""

    def __init__(self, index: int, task_id: str, kind: str, thinking: Thinking) -> None:
        self.index = index
        self.kind = kind
        self.id = f"{PREFIXES[kind]}_{task_id}_{index}"
        self.status = "in_progress"
        self.texts: list[str] = []
        self.call: Object = {}
        self.thinking = thinking
        self.refusal = False
        self.opaque: str | None = None
        """For a reasoning item: what the next turn needs, for the service alone."""

    def part(self) -> Object:
        text = "".join(self.texts)
        if self.refusal:
            return {"type": "refusal", "refusal": text}
        if self.kind == "reasoning":
            return {"type": self.thinking.part, "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def place(self) -> Object:
        """Where its part is, as events say it."""
        return self.thinking.place if self.kind == "reasoning" else {"content_index": 0}

    def part_event(self, what: str) -> str:
        """The event of its part that is `added` or `done`."""
        kind = self.thinking.part_event if self.kind == "reasoning" else "response.content_part"
        return f"{kind}.{what}"

    def shown(self) -> Object:
        item: Object = {"id": self.id, "type": self.kind, "status": self.status}
        if self.kind in CALLS:
            return item | self.call | {CALLS[self.kind]: "".join(self.texts)}
        content = [self.part()] if self.texts else []
        if self.kind == "reasoning":
            return item | self.thinking.shown("".join(self.texts), content, self.opaque)
        return item | {"role": "assistant", "content": content}


class Telling:
    """`take` the journal's events one after the other; each gives the events that follow."""

    def __init__(self, task_id: str, request: Object) -> None:
        self._task_id = task_id
        self._request = request
        self._number = 0
        self._made = 0
        self._items: list[Item] = []
        """Those that hold: of the latest attempt."""
        self._open: Item | None = None
        self._calls: dict[int, Item] = {}
        """The calls that may still grow, by the provider's index."""
        self._told: list[Object] = []
        self._thinking = Thinking.of(request)
        self._model = str(request["model"])
        self._created_at = 0
        self._completed_at: int | None = None
        self._usage: Object | None = None
        self._error: Object | None = None
        self._incomplete: Object | None = None
        self.status = "queued"

    @property
    def last(self) -> int:
        """The last `sequence_number` that was given away; -1: none."""
        return self._number - 1

    def take(self, event: Object) -> list[Object]:
        """What one event of the journal adds; its `seq` must follow on the last one's."""
        self._told = []
        data = event["data"]
        match event["type"]:
            case "status":
                self._moved(data, from_rfc3339(event["ts"]) // 1000)
            case "attempt":
                self._void()
                self._model, self.status = data["name"], "in_progress"
                self._tell("response.in_progress", response=self.response(begun=False))
            case "reasoning":
                self._said("reasoning", self._thinking.event, data["text"])
            case "chunk" if data.get("refusal"):
                self._said("message", "response.refusal", data["text"], refusal=True)
            case "chunk":
                self._said("message", "response.output_text", data["text"])
            case "tool_call" if "function" in data:
                self._called(data)
            case "message":
                self._keep(data)
        return self._told

    def response(self, begun: bool = True) -> Object:
        """The Response as it stands; `begun`: with its output."""
        request = self._request
        given = {k: v if request.get(k) is None else request[k] for k, v in _ECHOED.items()}
        return given | {
            "id": response_id(self._task_id),
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

    # What happens to the task -----------------------------------------------------------------

    def _moved(self, data: Object, at: int) -> None:
        cause, state = data["cause"], data["status"]
        if cause in ("submitted", "delayed"):
            self._created_at = at
            self._tell("response.created", response=self.response(begun=False))
            self._tell("response.queued", response=self.response(begun=False))
        elif cause == "rerun":
            self._void()
            self.status, self._completed_at = "queued", None
            self._usage = self._error = self._incomplete = None
            self._tell("response.queued", response=self.response(begun=False))
        elif state == "completed":
            self._completed_at, self._usage = at, usage_of(data.get("usage"))
            why = CUT_SHORT.get(str(data.get("finish_reason")))
            self._incomplete = {"reason": why} if why else None
            self._ended("incomplete" if why else "completed", "incomplete" if why else "completed")
        elif state == "failed":
            error = data.get("error") or {}
            self._error = error_of(error)
            self._ended("failed", "failed")
        elif state == "cancelled":
            self._ended("cancelled", "incomplete")
        elif state != "running":
            self.status = "queued"  # it waits again; what it has said holds until the next attempt

    def _ended(self, status: str, event: str) -> None:
        self._close("completed" if status == "completed" else "incomplete")
        self.status = status
        self._tell(f"response.{event}", response=self.response())

    def _void(self) -> None:
        """A new attempt: what was said before does not hold."""
        self._close("incomplete")
        for item in self._items:
            if item.status != "incomplete":
                item.status = "incomplete"
                self._tell_done(item)
        self._items = []

    # What it says -----------------------------------------------------------------------------

    def _said(self, kind: str, event: str, text: str, refusal: bool = False) -> None:
        if self._open is None or (self._open.kind, self._open.refusal) != (kind, refusal):
            self._close("completed")
            item = self._open = self._begin(kind)
            item.refusal = refusal
            self._tell_of(item, item.part_event("added"), **item.place(), part=item.part())
        item = self._open
        item.texts.append(text)
        more: Object = {"logprobs": []} if event == "response.output_text" else {}
        self._tell_of(item, f"{event}.delta", **item.place(), delta=text, **more)

    def _called(self, piece: Object) -> None:
        """A call, or a piece of one; several may grow side by side."""
        index, function = piece.get("index", 0), piece["function"]
        item = self._calls.get(index)
        if item is None:
            self._close("completed", calls=False)
            custom = piece.get("type") == "custom"
            item = self._begin("custom_tool_call" if custom else "function_call", piece)
            self._calls[index] = item
        item.call |= _kept(piece)
        if function.get("name"):
            item.call["name"] = function["name"]
        arguments = str(function.get("arguments") or "")
        if arguments:
            item.texts.append(arguments)
            self._tell_of(item, f"{CALL_EVENTS[item.kind]}.delta", delta=arguments)

    def _begin(self, kind: str, call: Object | None = None) -> Item:
        item = Item(self._made, self._task_id, kind, self._thinking)
        if call is not None:
            name = call["function"].get("name") or ""
            item.call = {"call_id": call.get("id") or item.id, "name": name} | _kept(call)
        self._made += 1
        self._items.append(item)
        self._tell("response.output_item.added", output_index=item.index, item=item.shown())
        return item

    def _close(self, status: str, calls: bool = True) -> None:
        """End the items that are open: their texts are whole, or are all that there will be."""
        item, self._open = self._open, None
        if item is not None:
            self._end_text(item)
            item.status = status
            self._tell_done(item)
        called, self._calls = (self._calls, {}) if calls else ({}, self._calls)
        for item in called.values():
            if status == "completed":
                # A client may act on it: half a call must never come as a whole one.
                end = {"name": item.call["name"], CALLS[item.kind]: "".join(item.texts)}
                self._tell_of(item, f"{CALL_EVENTS[item.kind]}.done", **end)
            item.status = status
            self._tell_done(item)

    def _keep(self, fields: Object) -> None:
        """Fields of the message that have no place in an item: a reasoning item carries them, and
        a client gives it back as it is."""
        self._close("completed")
        item = self._begin("reasoning")
        item.opaque, item.status = sealed(fields), "completed"
        self._tell_done(item)

    def _end_text(self, item: Item) -> None:
        part, place = item.part(), item.place()
        if item.refusal:
            self._tell_of(item, "response.refusal.done", **place, refusal=part["refusal"])
            self._tell_of(item, item.part_event("done"), **place, part=part)
            return
        kind = self._thinking.event if item.kind == "reasoning" else "response.output_text"
        more: Object = {"logprobs": []} if item.kind == "message" else {}
        self._tell_of(item, f"{kind}.done", **place, text=part["text"], **more)
        self._tell_of(item, item.part_event("done"), **place, part=part)

    def _tell_done(self, item: Item) -> None:
        self._tell("response.output_item.done", output_index=item.index, item=item.shown())

    def _tell_of(self, item: Item, kind: str, **data: Any) -> None:
        self._tell(kind, item_id=item.id, output_index=item.index, **data)

    def _tell(self, kind: str, **data: Any) -> None:
        self._told.append({"type": kind, "sequence_number": self._number, **data})
        self._number += 1


def _kept(piece: Object) -> Object:
    """What a call's item holds beside OpenAI's fields; the id as it is by now."""
    kept = {name: value for name, value in piece.items() if name not in _OF_CALL}
    if "namespace" in piece["function"]:
        kept["namespace"] = piece["function"]["namespace"]
    return kept | ({"call_id": piece[LATE_ID]} if LATE_ID in piece else {})


ERROR_CODES = {
    "rate_limited": "rate_limit_exceeded",
    "quota_exhausted": "rate_limit_exceeded",
    "context_too_long": "invalid_prompt",
    "content_filtered": "invalid_prompt",
    "upstream_rejected": "invalid_prompt",
}
"""OpenAI's code for a task's `error.code`; it has none but `server_error` for all others."""


def error_of(error: Object) -> Object:
    """Why the task failed, with a code of OpenAI's; the task's own code is the error's type."""
    code = str(error.get("code"))
    given = ERROR_CODES.get(code, "server_error")
    return {"code": given, "message": error.get("message") or code, "type": code, "param": None}


def usage_of(usage: Object | None) -> Object | None:
    """OpenAI's names for the tokens of a chat call."""
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
    """Counts within a count; those that are no counts are left out."""
    found = usage.get(name)
    held = found if isinstance(found, dict) else {}
    return {key: count for key, count in held.items() if type(count) is int and count > 0}
