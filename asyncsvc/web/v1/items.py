"""Items of the Responses API, and the chat messages that they mean.

Owns the fields of `POST /v1/responses` and the way from them to a chat task: input items,
instructions, tools, format of the text, reasoning. Promises that what cannot be passed on is a
fault that names the field, never a silent loss. Never looks at tasks or models.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asyncsvc.errors import InvalidRequest
from asyncsvc.web import errors
from asyncsvc.web.v1.sealed import opened

Messages = list[dict[str, Any]]
Object = dict[str, Any]
PASSED = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_output_tokens": "max_tokens",
    "parallel_tool_calls": "parallel_tool_calls",
}
"""Fields that are a parameter of the chat call as they are, and its name there."""
_OF_CALL = frozenset({"type", "id", "call_id", "name", "arguments", "status"})
_OF_MESSAGE = frozenset({"role", "content", "tool_calls"})
_TEXT = ("input_text", "output_text", "text", "refusal")


class CreateResponse(BaseModel):
    """The body of `POST /v1/responses`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = Field(min_length=1, description="a model's name, auto, or auto:reasoning")
    input: Annotated[str, Field(min_length=1)] | list[Object] = Field(
        description="a text, or a list of items"
    )
    instructions: str | None = Field(None, description="a system message for this answer only")
    stream: bool | None = Field(None, description="answer with server-sent events")
    stream_options: Object | None = Field(None, description="accepted, without effect")
    background: bool | None = Field(None, description="answer at once; the task goes on by itself")
    store: bool | None = Field(None, description="false: the response cannot be read again")
    previous_response_id: str | None = Field(None, description="goes on from that response")
    metadata: dict[str, str] | None = Field(None, description="given back as it was")
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: list[Object] | None = Field(None, description="functions; they are called by the client")
    tool_choice: str | Object | None = None
    parallel_tool_calls: bool | None = None
    text: Object | None = Field(None, description="format: text, json_object or json_schema")
    reasoning: Object | None = Field(None, description="effort, passed on")
    include: list[str] | None = Field(None, description="accepted, without effect")
    truncation: Literal["disabled"] | None = None
    service_tier: str | None = Field(None, description="accepted, without effect")
    prompt_cache_key: str | None = Field(None, description="accepted, without effect")
    safety_identifier: str | None = Field(None, description="accepted, never passed on")
    user: str | None = Field(None, description="accepted, never passed on")

    def params(self) -> Object:
        """The parameters of the chat call. Raises InvalidRequest."""
        given = {name: getattr(self, field) for field, name in PASSED.items()}
        params = {name: value for name, value in given.items() if value is not None}
        if self.tools:
            params["tools"] = [_tool(tool, i) for i, tool in enumerate(self.tools)]
        if self.tool_choice is not None:
            params["tool_choice"] = _choice(self.tool_choice)
        if self.text is not None:
            params |= _text(self.text)
        if self.reasoning is not None and self.reasoning.get("effort") is not None:
            params["reasoning_effort"] = self.reasoning["effort"]
        return params

    def messages(self, earlier: Messages) -> Messages:
        """The conversation: what was said `earlier`, then this input. Raises InvalidRequest."""
        if isinstance(self.input, str):
            said: Messages = [{"role": "user", "content": self.input}]
        else:
            said = chat_messages(self.input)
        if not said:
            raise InvalidRequest("input must hold at least one message", param="input")
        head: Messages = []
        if self.instructions is not None:
            head = [{"role": "system", "content": self.instructions}]
        return head + earlier + said


def chat_messages(items: Iterable[Any]) -> Messages:
    """The chat messages that a list of items means. Raises InvalidRequest."""
    messages: Messages = []
    for index, item in enumerate(items):
        where = f"input[{index}]"
        if not isinstance(item, dict):
            raise InvalidRequest(f"{where} must be an object", param=where)
        match item.get("type", "message"):
            case "message":
                messages.append(_message(item, where))
            case "function_call":
                _called(messages, _call(item, where))
            case "function_call_output":
                messages.append(_output(item, where))
            case "reasoning":
                # Thinking is not sent back, only the fields that the model needs again.
                _carried(messages, opened(item.get("encrypted_content")))
            case other:
                raise InvalidRequest(
                    f"{where}: items of type {str(other)[:40]!r} are not known here",
                    param=f"{where}.type",
                )
    return messages


def input_items(request: Object, task_id: str) -> list[Object]:
    """The items of a stored request, each with an id."""
    given = request["input"]
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_shown(item, f"{task_id}_{index}") for index, item in enumerate(given)]


def _shown(item: Object, suffix: str) -> Object:
    kind = item.get("type", "message")
    shown = {"id": f"{'msg' if kind == 'message' else 'item'}_{suffix}", "type": kind} | item
    if kind == "message":
        shown.setdefault("status", "completed")
        if isinstance(shown.get("content"), str):
            part = "output_text" if shown.get("role") == "assistant" else "input_text"
            extra: Object = {"annotations": []} if part == "output_text" else {}
            shown["content"] = [{"type": part, "text": shown["content"], **extra}]
    return shown


def _message(item: Object, where: str) -> Object:
    role = item.get("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise InvalidRequest(
            f"{where}.role must be user, assistant, system or developer", param=f"{where}.role"
        )
    content = item.get("content")
    if isinstance(content, str):
        return {"role": role, "content": content}
    if not isinstance(content, list) or not content:
        raise InvalidRequest(
            f"{where}.content must be a string or a list of parts", param=f"{where}.content"
        )
    parts = [_part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return {"role": role, "content": parts[0]["text"]}
    return {"role": role, "content": parts}


def _part(part: Any, where: str) -> Object:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _TEXT:
        text = part.get("refusal" if kind == "refusal" else "text")
        if isinstance(text, str):
            return {"type": "text", "text": text}
    elif kind == "input_image" and isinstance(part.get("image_url"), str):
        image = {"url": part["image_url"]}
        if part.get("detail") is not None:
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    elif kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    elif kind == "input_file" and isinstance(part.get("file_data"), str):
        kept = ("file_data", "filename")
        return {"type": "file", "file": {k: part[k] for k in kept if part.get(k) is not None}}
    raise InvalidRequest(
        f"{where} must be input_text with a text, input_image with an image_url, input_audio, or "
        "input_file with file_data",
        param=where,
    )


def _call(item: Object, where: str) -> Object:
    call_id, name, arguments = (item.get(k) for k in ("call_id", "name", "arguments"))
    for field, value in (("call_id", call_id), ("name", name), ("arguments", arguments)):
        if not isinstance(value, str):
            raise InvalidRequest(f"{where}.{field} must be a string", param=f"{where}.{field}")
    more = {name: value for name, value in item.items() if name not in _OF_CALL}
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return more | call


def _carried(messages: Messages, fields: Object) -> None:
    """Give the fields of a message back to the answer that they came with: the latest one."""
    answer = messages[-1] if messages else {}
    if answer.get("role") == "assistant":
        more = {name: value for name, value in fields.items() if name not in _OF_MESSAGE}
        messages[-1] = more | answer


def _called(messages: Messages, call: Object) -> None:
    """Calls that follow each other, or what was said with them, are one message."""
    last = messages[-1] if messages else {}
    if last.get("role") == "assistant":
        last.setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _output(item: Object, where: str) -> Object:
    call_id, output = item.get("call_id"), item.get("output")
    if not isinstance(call_id, str):
        raise InvalidRequest(f"{where}.call_id must be a string", param=f"{where}.call_id")
    if isinstance(output, list):
        output = [_part(part, f"{where}.output[{i}]") for i, part in enumerate(output)]
    elif not isinstance(output, str):
        raise InvalidRequest(f"{where}.output must be a string or parts", param=f"{where}.output")
    return {"role": "tool", "tool_call_id": call_id, "content": output}


def _tool(tool: Object, index: int) -> Object:
    where = f"tools[{index}]"
    if tool.get("type") != "function":
        raise InvalidRequest(
            f"{where}: only tools of type function are passed on, this one is of type "
            f"{str(tool.get('type'))[:40]!r}",
            param=where,
        )
    if not isinstance(tool.get("name"), str):
        raise InvalidRequest(f"{where}.name must be a string", param=f"{where}.name")
    kept = ("name", "description", "parameters", "strict")
    return {
        "type": "function",
        "function": {name: tool[name] for name in kept if tool.get(name) is not None},
    }


def _choice(choice: str | Object) -> str | Object:
    if isinstance(choice, str):
        if choice in ("none", "auto", "required"):
            return choice
    elif choice.get("type") == "function" and isinstance(choice.get("name"), str):
        return {"type": "function", "function": {"name": choice["name"]}}
    raise InvalidRequest(
        "tool_choice must be none, auto, required or a function by name", param="tool_choice"
    )


def _text(text: Object) -> Object:
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


def listed(found: list[Object], after: str | None, limit: int) -> Object:
    """A page of a list in OpenAI's shape. Raises InvalidRequest."""
    if after:
        places = [index for index, one in enumerate(found) if one["id"] == after]
        if not places:
            raise InvalidRequest(f"after names nothing in this list: {after[:80]!r}", param="after")
        found = found[places[0] + 1 :]
    page = found[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }


def parse(given: Object) -> CreateResponse:
    """Raises InvalidRequest."""
    try:
        return CreateResponse.model_validate(given)
    except ValidationError as error:
        fault = errors.invalid(error)
        raise InvalidRequest(
            str(fault).replace("a field of a task", "a field that is known here"), param=fault.param
        ) from None
