"""Items of the Responses API, and the chat messages that they mean.

Owns the way from input items to messages, and the items of a stored request. Promises that a call
is followed by its outputs, whatever stood between them; that an item which no chat message can
stand for is named in a note or, where OpenAI's API does not know it, a fault. Never looks at
tasks or models.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from asyncsvc.errors import InvalidRequest
from asyncsvc.web.openai import thoughts

Messages = list[dict[str, Any]]
Object = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
OF_SERVICE = frozenset(
    {
        "web_search_call", "file_search_call", "image_generation_call", "code_interpreter_call",
        "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "compaction",
        "compaction_summary", "compaction_trigger", "context_compaction", "program",
        "program_output", "ghost_snapshot", "tool_search_call", "tool_search_output",
    }
)  # fmt: skip
"""Kinds of items about what OpenAI's service did by itself: no chat message stands for them."""
CALL, OUTPUT = "_call", "_call_output"
_OF_AN_ITEM = frozenset(
    {
        "id", "type", "status", "role", "content", "phase", "call_id", "name", "arguments",
        "input", "namespace", "caller", "async", "created_by", "agent", "metadata",
        "internal_chat_message_metadata_passthrough",
    }
)  # fmt: skip
"""Fields that have a meaning in the Responses API. Others are a provider's own: the next turn
may need them."""


class Conversation:
    """Messages made from items one after the other. `left_out` names kinds of items."""

    def __init__(self) -> None:
        self.messages: Messages = []
        self.left_out: list[str] = []
        self.tools: list[Any] = []
        """Tools that an item has brought along."""
        self._thought = ""
        self._call_ids: dict[str, str] = {}
        """By the id of a call's item, which some outputs name."""

    def add(self, item: Any, where: str) -> None:
        """Raises InvalidRequest."""
        if not isinstance(item, dict):
            raise InvalidRequest(f"{where} must be an object", param=where)
        kind = item.get("type", "message")
        if not isinstance(kind, str):
            raise InvalidRequest(f"{where}.type must be a string", param=f"{where}.type")
        if kind == "reasoning":
            self._think(item)
            return
        match kind:
            case "message":
                self._say(_message(item, where))
            case "function_call" | "custom_tool_call":
                self._call(_call(item, where))
            case "mcp_call":
                self._mcp(item, where)
            case "additional_tools" if isinstance(item.get("tools"), list):
                self.tools += item["tools"]
            case _ if kind in OF_SERVICE:
                self.left_out.append(kind)
            case _ if kind.endswith(OUTPUT):
                self._output(self._call_id(item, where), _output(item, kind), where)
            case _ if kind.endswith(CALL):
                self._builtin(item, kind, where)
            case _:
                raise InvalidRequest(
                    f"{where}: items of type {kind[:40]!r} are not known here",
                    param=f"{where}.type",
                )
        if kind.endswith(OUTPUT) or item.get("role", "assistant") != "assistant":
            self._thought = ""

    def _think(self, item: Object) -> None:
        """Thinking goes with the calls that follow it, other fields with the message before."""
        last = self.messages[-1] if self.messages else {}
        fields = thoughts.carried(item)
        if fields and last.get("role") == "assistant":
            self.messages[-1] = fields | last
        self._thought = thoughts.text(item)

    def _say(self, message: Object) -> None:
        last = self.messages[-1] if self.messages else {}
        if message["role"] == "assistant" and last.get("tool_calls") and not last["content"]:
            last["content"] = message["content"]  # said with its calls
        else:
            self.messages.append(message)

    def _call(self, call: Object) -> None:
        """Calls that follow each other, or what was said with them, are one message."""
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant":
            last = {"role": "assistant", "content": None}
            self.messages.append(last)
        if self._thought:
            last.setdefault("reasoning_content", self._thought)
            self._thought = ""
        last.setdefault("tool_calls", []).append(call)

    def _output(self, call_id: str, output: Any, where: str) -> None:
        """Providers want the output of a call right behind it."""
        text, shown = output_content(output, f"{where}.output")
        told: Messages = [{"role": "tool", "tool_call_id": call_id, "content": text}]
        place = self._behind(call_id)
        self.messages[place:place] = told
        if shown:
            place = self._behind(call_id)
            self.messages.insert(place, {"role": "user", "content": shown})

    def _behind(self, call_id: str) -> int:
        """Where an output of that call goes."""
        for index in range(len(self.messages) - 1, -1, -1):
            calls = self.messages[index].get("tool_calls") or []
            if any(call["id"] == call_id for call in calls):
                index += 1
                while index < len(self.messages) and self.messages[index]["role"] == "tool":
                    index += 1
                return index
        return len(self.messages)

    def _call_id(self, item: Object, where: str) -> str:
        """The id of the call that the item is, or is the output of."""
        call_id = item.get("call_id")
        if call_id is None and item["type"] != "function_call_output":
            call_id = self._call_ids.get(str(item.get("id")), item.get("id"))
        if not isinstance(call_id, str) or not call_id:
            raise InvalidRequest(f"{where}.call_id must be a string", param=f"{where}.call_id")
        return call_id

    def _mcp(self, item: Object, where: str) -> None:
        """A call that OpenAI's service has made, with its output in the same item."""
        call = item | {"call_id": item.get("call_id") or item.get("id")}
        self._call(_call(call, where))
        output = item.get("output") or item.get("error") or ""
        text = output if isinstance(output, str) else orjson.dumps(output).decode()
        self._output(call["call_id"], text, where)

    def _builtin(self, item: Object, kind: str, where: str) -> None:
        """A call of a tool that OpenAI's API has by its kind, such as a shell."""
        call_id = self._call_id(item, where)
        self._call_ids[str(item.get("id"))] = call_id
        known = ("id", "type", "call_id", "status", "caller", "environment")
        given = {k: v for k, v in item.items() if k not in known and v is not None}
        action = next(iter(given.values())) if len(given) == 1 else given
        arguments = orjson.dumps(action if isinstance(action, dict) else given).decode()
        name = kind.removesuffix(CALL)
        function = {"name": name, "arguments": arguments}
        self._call({"id": call_id, "type": "function", "function": function})


def conversation(items: Iterable[Any]) -> Conversation:
    """What a list of items means. Raises InvalidRequest."""
    found = Conversation()
    for index, item in enumerate(items):
        found.add(item, f"input[{index}]")
    return found


def chat_messages(items: Iterable[Any]) -> Messages:
    """The chat messages that a list of items means. Raises InvalidRequest."""
    return conversation(items).messages


def input_items(request: Object, task_id: str) -> list[Object]:
    """The items of a stored request, each with an id."""
    given = request["input"]
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_shown(item, f"{task_id}_in{index}") for index, item in enumerate(given)]


def listed(found: list[Object], after: str | None, limit: int) -> Object:
    """A page of a list in OpenAI's shape. Raises InvalidRequest."""
    if after is not None:
        places = [index for index, one in enumerate(found) if one["id"] == after]
        if not places:
            raise InvalidRequest(
                f"after: {after[:80]!r} is not one of our cursors: this list has no such id",
                param="after",
            )
        found = found[places[0] + 1 :]
    page = found[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }


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
    if role not in ROLES:
        raise InvalidRequest(
            f"{where}.role must be user, assistant, system or developer", param=f"{where}.role"
        )
    content = item.get("content")
    message: Object = {"role": role}
    if role == "assistant":
        message |= _own(item)
        if content is None or content == []:
            return message | {"content": ""}
    if isinstance(content, str):
        return message | {"content": content}
    if not isinstance(content, list) or not content:
        raise InvalidRequest(
            f"{where}.content must be a string or a list of parts", param=f"{where}.content"
        )
    parts = parts_of(content, f"{where}.content")
    if role == "assistant" and all(part["type"] == "text" for part in parts):
        return message | {"content": "".join(part["text"] for part in parts)}
    if len(parts) == 1 and parts[0]["type"] == "text":
        return message | {"content": parts[0]["text"]}
    return message | {"content": parts}


def _output(item: Object, kind: str) -> Any:
    """The output, where a kind may have none its state."""
    if kind in ("function_call_output", "custom_tool_call_output"):
        return item.get("output")
    return item.get("output") or str(item.get("status") or "")


def _call(item: Object, where: str) -> Object:
    kind = "custom" if item.get("type") == "custom_tool_call" else "function"
    given = "input" if kind == "custom" else "arguments"
    inner: Object = {}
    for field in ("call_id", "name", given):
        if not isinstance(item.get(field), str):
            raise InvalidRequest(f"{where}.{field} must be a string", param=f"{where}.{field}")
        inner[field] = item[field]
    call_id = inner.pop("call_id")
    if isinstance(item.get("namespace"), str):
        inner["namespace"] = item["namespace"]
    return _own(item) | {"id": call_id, "type": kind, kind: inner}


def _own(item: Object) -> Object:
    """The fields that a provider has given to a message or to a call."""
    return {k: v for k, v in item.items() if k not in _OF_AN_ITEM and v is not None}


TEXTS = ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text")
IMAGES = ("input_image", "computer_screenshot", "image_url")
IMAGE_ABOVE = "(an image, in the next message)"
"""What the output of a call says where it is nothing but images: only a user may show one."""


def parts_of(content: list[Any], where: str) -> list[Object]:
    """The parts as chat has them. Raises InvalidRequest."""
    return [_part(part, f"{where}[{index}]") for index, part in enumerate(content)]


def output_content(output: Any, where: str) -> tuple[str, list[Object]]:
    """The text of a call's output, and the parts that are no text. Raises InvalidRequest."""
    if isinstance(output, str):
        return output, []
    if isinstance(output, dict):
        if output.get("type") not in IMAGES:
            return orjson.dumps(output).decode(), []
        output = [output]
    if not isinstance(output, list):
        raise InvalidRequest(f"{where} must be a string or parts", param=where)
    if output and all(_is_data(part) for part in output):
        return orjson.dumps(output).decode(), []
    parts = parts_of(output, where)
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    shown = [part for part in parts if part["type"] != "text"]
    return text or (IMAGE_ABOVE if shown else ""), shown


def _is_data(part: Any) -> bool:
    """Whether it is data of a tool, such as the outcome of a shell command, and no content."""
    return isinstance(part, dict) and "type" not in part


def _part(part: Any, where: str) -> Object:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in TEXTS:
        text = part.get("refusal" if kind == "refusal" else "text")
        if isinstance(text, str):
            return {"type": "text", "text": text}
    elif kind in IMAGES and (image := _image(part)) is not None:
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


def _image(part: Object) -> Object | None:
    given = part.get("image_url")
    if isinstance(given, dict) and isinstance(given.get("url"), str):
        return given
    if not isinstance(given, str):
        return None
    detail = {} if part.get("detail") is None else {"detail": part["detail"]}
    return {"url": given, **detail}
