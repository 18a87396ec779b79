"""Requests to `/v1/responses`, together with the stored responses and items that they name.

A field that cannot be passed on is refused by name or named in a note of the task. A response that
is not to be stored is not found, and an item that an earlier response of the conversation holds
is not repeated. Nothing is submitted or changed here.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers

from asyncsvc.access import Caller
from asyncsvc.errors import Conflict, InvalidRequest, TaskNotFound
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.state import State
from asyncsvc.web.http.state import Services
from asyncsvc.web.openai import requests
from asyncsvc.web.openai.items import Conversation, Messages, conversation, input_items, thinking
from asyncsvc.web.openai.requests import Call, Tool, ToolChoice
from asyncsvc.web.openai.response_stream import ENCRYPTED, PREFIX, ResponseEvents
from asyncsvc.web.openai.schemas import ECHOED, Text, with_parameters
from asyncsvc.web.tasks.routes import idempotency_key, parse_as

Object = dict[str, Any]
PASSED = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_output_tokens": "max_tokens",
    "parallel_tool_calls": "parallel_tool_calls",
}
"""Fields that are a parameter of the chat call as they are, with its name there."""
NAMES = {"reasoning_effort": "reasoning.effort", "response_format": "text.format"}
"""Chat parameters with their names in the Responses API."""


class CreateResponse(BaseModel):
    """A request for a response; further parameters are passed on to the provider."""

    model_config = ConfigDict(extra="ignore", strict=True, json_schema_extra=with_parameters)

    model: str = Field(min_length=1, description="a model's name, auto, or auto:reasoning")
    input: Text | Annotated[list[Object], Field(min_length=1)] = Field(
        description="a text, or a list of items"
    )
    instructions: str | list[Object] | None = Field(
        None, description="system messages for this answer only"
    )
    stream: bool | None = Field(None, description="answer with server-sent events")
    stream_options: Object | None = Field(None, description="accepted, without effect")
    background: bool | None = Field(None, description="answer at once; the task goes on by itself")
    store: bool | None = Field(None, description="false: the response cannot be read again")
    previous_response_id: str | None = Field(None, description="goes on from that response")
    metadata: Object | None = Field(None, description="given back as it was")
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: list[Tool] | None = Field(
        None, description="functions, custom tools and namespaces, called by the client"
    )
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: Object | None = Field(None, description="format: text, json_object or json_schema")
    reasoning: Object | None = Field(None, description="effort, passed on; summary")
    include: list[str] | None = Field(
        None, description="reasoning.encrypted_content; others are without effect"
    )

    def params(self) -> Object:
        """The parameters of the chat call, without tools. Raises InvalidRequest."""
        given = {name: getattr(self, field) for field, name in PASSED.items()}
        params = {name: value for name, value in given.items() if value is not None}
        if self.text is not None:
            params |= _text_params(self.text)
        if self.reasoning is not None and self.reasoning.get("effort") is not None:
            params["reasoning_effort"] = self.reasoning["effort"]
        return params

    def head(self) -> Messages:
        """The instructions as messages. Raises InvalidRequest."""
        if isinstance(self.instructions, list):
            return conversation(self.instructions).messages
        return [{"role": "system", "content": self.instructions}] if self.instructions else []

    def conversation(self) -> Conversation:
        """The input as messages. Raises InvalidRequest."""
        given = self.input
        if isinstance(given, str):
            given = [{"role": "user", "content": given}]
        found = conversation(given)
        if not found.messages:
            raise InvalidRequest("input must hold at least one message", param="input")
        return found


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A parsed body: its fields, the messages, parameters and notes of its task, and the
    `request` that is stored beside the task."""

    wanted: CreateResponse
    messages: Messages
    params: Object
    notes: list[str]
    request: Object


async def parsed(
    services: Services, author: Caller, given: Object, headers: Headers
) -> tuple[CreateResponse, Call, Object]:
    """(the fields of a body, its call, the request to store). Raises RequestError."""
    given = requests.present(given)
    queued = requests.queued(given, headers)
    if "metadata" in queued:
        given["metadata"] = queued["metadata"]
    found = await with_history(services, author, given)
    wanted = found.wanted
    if wanted.background and wanted.store is False:
        raise InvalidRequest("a background response needs store: true", param="store")
    task = requests.named(wanted.model) | {"messages": found.messages, "params": found.params}
    submission = requests.submission(task | queued, found.notes)
    return wanted, Call([submission], idempotency_key(headers)), found.request


async def with_history(services: Services, author: Caller, given: Object) -> ParsedResponse:
    """A body, parsed together with the responses and items that it names, as far as its author may
    see them. Raises RequestError."""
    earlier = await _earlier(services, author, previous := given.get("previous_response_id"))
    items = given.get("input")
    if isinstance(items, list) and any(_is_reference(one) or _is_bare(one) for one in items):
        known = await _conversation_of(services, author, previous)
        given = given | {"input": await _resolved(services, author, items, known)}
    return read(given, earlier)


def read(given: Object, earlier: Messages) -> ParsedResponse:
    """A body, parsed as the continuation of earlier messages. Raises InvalidRequest."""
    wanted = parse_as(CreateResponse, given)
    rest = {name: value for name, value in given.items() if name not in CreateResponse.model_fields}
    more, notes = requests.parameters(rest)
    new, head = wanted.conversation(), wanted.head()
    params = wanted.params()
    requests.check(params, NAMES)
    params |= more
    if tools := [*(wanted.tools or []), *new.tools]:
        params["tools"] = tools
    if wanted.tool_choice is not None:
        params["tool_choice"] = wanted.tool_choice
    params |= requests.checked_tools(params)
    if new.left_out:
        kinds = ", ".join(dict.fromkeys(new.left_out))
        notes.append(f"items of type {kinds} stand for no chat message; left out")
    unused = [name for name in wanted.include or [] if name != ENCRYPTED]
    notes += requests.without_effect([f"include {name[:60]}" for name in unused])
    request = {name: given[name] for name in ECHOED if name in given}
    request |= wanted.model_dump(exclude_none=True, exclude={"stream", "stream_options"})
    request["head"] = len(head)
    return ParsedResponse(wanted, head + earlier + new.messages, params, notes, request)


def _text_params(text: Object) -> Object:
    params: Object = {}
    if text.get("verbosity") is not None:
        params["verbosity"] = text["verbosity"]
    given = text.get("format") or {"type": "text"}
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "json_object":
        params["response_format"] = {"type": "json_object"}
    elif kind == "json_schema" and isinstance(given.get("schema"), dict):
        schema = {k: v for k, v in given.items() if k != "type" and v is not None}
        params["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif kind != "text":
        raise InvalidRequest(
            "text.format must be of type text, json_object, or json_schema with a schema",
            param="text.format",
        )
    return params


# Stored responses -----------------------------------------------------------------------------


async def find(services: Services, caller: Caller, wanted: str) -> tuple[str, Object] | None:
    """(the task's id, the stored request) of a response id; None: no response that the caller may
    see is stored."""
    if not wanted.startswith(PREFIX):
        return None
    task_id = wanted.removeprefix(PREFIX)
    request = await services.journal.store.response_request(task_id)
    try:
        await services.task(caller, task_id)
    except TaskNotFound:
        return None
    return None if request is None or request.get("store") is False else (task_id, request)


async def replayed(services: Services, task_id: str, request: Object) -> ResponseEvents:
    """The response up to the last event of its task."""
    task, events = await services.journal.task(task_id), ResponseEvents(task_id, request)
    seq, store = 0, services.journal.store
    while rows := await store.events(task.n, seq):
        for row in rows:
            events.take(orjson.loads(row.event(task_id).wire))
        seq = rows[-1].seq
    return events


async def _output(services: Services, task_id: str, request: Object) -> list[Object]:
    output: list[Object] = (await replayed(services, task_id, request)).response()["output"]
    return output


async def _conversation_of(services: Services, author: Caller, previous: Any) -> frozenset[str]:
    """The ids of the tasks of a response and of all responses before it."""
    known = set()
    while (
        isinstance(previous, str) and (found := await find(services, author, previous)) is not None
    ):
        task_id, request = found
        known.add(task_id)
        previous = request.get("previous_response_id")
    return frozenset(known)


async def _earlier(services: Services, author: Caller, previous: Any) -> Messages:
    """The messages up to the end of a response, without its instructions. Raises InvalidRequest
    or Conflict."""
    if not isinstance(previous, str):
        return []
    found = await find(services, author, previous)
    if found is None:
        raise InvalidRequest(
            f"there is no response {previous[:80]!r}", param="previous_response_id"
        )
    task_id, request = found
    task = await services.journal.task(task_id)
    if task.state is not State.COMPLETED:
        raise Conflict(
            "illegal_transition", f"{previous} is {task.state.value}: only a completed one goes on"
        )
    messages: Messages = loads(await services.journal.store.body(task.n))["messages"]
    head = request.get("head", 0 if request.get("instructions") is None else 1)
    output = await _output(services, task_id, request)
    return messages[head:] + conversation(output).messages


_ID = re.compile(r"(?:msg|rs|fc|ctc|item)_(.+)_((?:in)?\d+)\Z", re.ASCII)


async def _resolved(
    services: Services, author: Caller, items: list[Any], known: frozenset[str]
) -> list[Any]:
    """The input with stored items in place of the ids that name them. An item of the tasks `known`
    is left out: it is in the conversation already. Raises InvalidRequest."""
    read: dict[str, dict[str, Object]] = {}

    async def stored_item(item_id: Any) -> Object | None:
        match = _ID.match(str(item_id))
        if match is None:
            return None
        if match[1] not in read:
            read[match[1]] = await _items(services, author, match[1])
        return read[match[1]].get(match[0])

    resolved = []
    for index, item in enumerate(items):
        if _is_bare(item):
            resolved.append(await stored_item(item["id"]) or item)
        elif not _is_reference(item):
            resolved.append(item)
        elif not ((match := _ID.match(str(item.get("id")))) and match[1] in known):
            if (found := await stored_item(item.get("id"))) is None:
                where, name = f"input[{index}].id", str(item.get("id"))
                raise InvalidRequest(f"item with id {name[:80]!r} not found", param=where)
            resolved.append(found)
    return resolved


async def _items(services: Services, author: Caller, task_id: str) -> dict[str, Object]:
    """The items of a response by their ids: its input, and its output so far."""
    found = await find(services, author, PREFIX + task_id)
    if found is None:
        return {}
    items = [*input_items(found[1], task_id), *await _output(services, *found)]
    return {item["id"]: item for item in items}


def _is_reference(item: Any) -> bool:
    """Whether an item is a reference, whose type may be left out."""
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)


def _is_bare(item: Any) -> bool:
    """Whether an item is a reasoning item without text, which the client has not received or not
    stored."""
    if not isinstance(item, dict) or item.get("type") != "reasoning":
        return False
    return isinstance(item.get("id"), str) and not thinking(item)
