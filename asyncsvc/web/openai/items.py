"""Items of the Responses API as chat messages.

A call is followed by its outputs, whatever stood between them. A kind of item without a chat
message is named in a note; a kind that OpenAI's API does not have is refused. A reasoning item's
`encrypted_content` carries thinking for a client that stores nothing here, since providers want it
back beside the calls that followed it: it is packed, not secret, and content of another service
is read as no thinking.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from asyncsvc.errors import InvalidRequest

Messages = list[dict[str, Any]]
Object = dict[str, Any]

SEALED = "asyncsvc1:"
"""How our `encrypted_content` begins."""
THINKING = "reasoning_content"
"""The field of a chat message with its thinking."""
OF_MESSAGE = frozenset({"role", "content", "tool_calls", THINKING})
ROLES = ("user", "assistant", "system", "developer")
OF_SERVICE = frozenset(
    {
        "web_search_call", "file_search_call", "image_generation_call", "code_interpreter_call",
        "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "compaction",
        "compaction_summary", "compaction_trigger", "context_compaction", "program",
        "program_output", "ghost_snapshot", "tool_search_call", "tool_search_output",
    }
)  # fmt: skip
"""Kinds of items about the work of OpenAI's service itself, which have no chat message."""
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
    """Chat messages from items, which are added one after the other. `left_out` are the kinds of
    items without a message."""

    def __init__(self) -> None:
        self.messages: Messages = []
        self.left_out: list[str] = []
        self.tools: list[Any] = []
        """Tools of `additional_tools` items."""
        self._thought = ""
        self._call_ids: dict[str, str] = {}
        """The ids of calls by the ids of their items, which some outputs name."""

    def add(self, item: Any, where: str) -> None:
        """Add an item; `where` is its place in the request. Raises InvalidRequest."""
        if not isinstance(item, dict):
            raise InvalidRequest(f"{where} must be an object", param=where)
        kind = item.get("type", "message")
        if not isinstance(kind, str):
            raise InvalidRequest(f"{where}.type must be a string", param=f"{where}.type")
        if kind == "reasoning":
            self._add_thinking(item)
            return
        self._adding(kind)(item, where)
        if kind.endswith(OUTPUT) or item.get("role", "assistant") != "assistant":
            self._thought = ""

    def _adding(self, kind: str) -> Callable[[Object, str], None]:
        """The method that adds an item of that type."""
        match kind:
            case "message":
                return self._add_message
            case "function_call" | "custom_tool_call":
                return self._add_call
            case "mcp_call":
                return self._add_mcp_call
            case "additional_tools":
                return self._add_tools
            case _ if kind in OF_SERVICE:
                return self._leave_out
            case _ if kind.endswith(OUTPUT):
                return self._add_output
        return self._add_builtin_call if kind.endswith(CALL) else self._refuse

    def _leave_out(self, item: Object, where: str) -> None:
        self.left_out.append(item["type"])

    def _refuse(self, item: Object, where: str) -> None:
        raise InvalidRequest(
            f"{where}: items of type {item['type'][:40]!r} are not known here",
            param=f"{where}.type",
        )

    def _add_tools(self, item: Object, where: str) -> None:
        if not isinstance(item.get("tools"), list):
            self._refuse(item, where)
        self.tools += item["tools"]

    def _add_thinking(self, item: Object) -> None:
        """Thinking goes with the calls that follow it, other fields with the message before."""
        last = self.messages[-1] if self.messages else {}
        fields = carried(item)
        if fields and last.get("role") == "assistant":
            self.messages[-1] = fields | last
        self._thought = thinking(item)

    def _add_message(self, item: Object, where: str) -> None:
        message = _message(item, where)
        last = self.messages[-1] if self.messages else {}
        if message["role"] == "assistant" and last.get("tool_calls") and not last["content"]:
            last["content"] = message["content"]  # one message with its calls
        else:
            self.messages.append(message)

    def _add_call(self, item: Object, where: str) -> None:
        self._append_call(_call(item, where))

    def _append_call(self, call: Object) -> None:
        """Calls that follow each other, or the text before them, are one message."""
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant":
            last = {"role": "assistant", "content": None}
            self.messages.append(last)
        if self._thought:
            last.setdefault(THINKING, self._thought)
            self._thought = ""
        last.setdefault("tool_calls", []).append(call)

    def _add_output(self, item: Object, where: str) -> None:
        self._insert_output(self._call_id(item, where), _output(item), where)

    def _insert_output(self, call_id: str, output: Any, where: str) -> None:
        """Insert an output behind its call: providers want no other message between them."""
        text, shown = output_content(output, f"{where}.output")
        answer: Object = {"role": "tool", "tool_call_id": call_id, "content": text}
        self.messages.insert(self._behind(call_id), answer)
        if shown:
            self.messages.insert(self._behind(call_id), {"role": "user", "content": shown})

    def _behind(self, call_id: str) -> int:
        """The index at which an output of that call goes."""
        for index in range(len(self.messages) - 1, -1, -1):
            calls = self.messages[index].get("tool_calls") or []
            if any(call["id"] == call_id for call in calls):
                index += 1
                while index < len(self.messages) and self.messages[index]["role"] == "tool":
                    index += 1
                return index
        return len(self.messages)

    def _call_id(self, item: Object, where: str) -> str:
        """The id of the call of an item, which is a call or an output."""
        call_id = item.get("call_id")
        if call_id is None and item["type"] != "function_call_output":
            call_id = self._call_ids.get(str(item.get("id")), item.get("id"))
        if not isinstance(call_id, str) or not call_id:
            raise InvalidRequest(f"{where}.call_id must be a string", param=f"{where}.call_id")
        return call_id

    def _add_mcp_call(self, item: Object, where: str) -> None:
        """Add a call that OpenAI's service has made, and its output from the same item."""
        call = item | {"call_id": item.get("call_id") or item.get("id")}
        self._add_call(call, where)
        output = item.get("output") or item.get("error") or ""
        text = output if isinstance(output, str) else orjson.dumps(output).decode()
        self._insert_output(call["call_id"], text, where)

    def _add_builtin_call(self, item: Object, where: str) -> None:
        """Add a call of a tool that OpenAI's API has by its kind, such as a shell."""
        call_id = self._call_id(item, where)
        self._call_ids[str(item.get("id"))] = call_id
        known = ("id", "type", "call_id", "status", "caller", "environment")
        given = {k: v for k, v in item.items() if k not in known and v is not None}
        action = next(iter(given.values())) if len(given) == 1 else given
        arguments = orjson.dumps(action if isinstance(action, dict) else given).decode()
        function = {"name": item["type"].removesuffix(CALL), "arguments": arguments}
        self._append_call({"id": call_id, "type": "function", "function": function})


def conversation(items: Iterable[Any]) -> Conversation:
    """The conversation that a list of items is. Raises InvalidRequest."""
    found = Conversation()
    for index, item in enumerate(items):
        found.add(item, f"input[{index}]")
    return found


def input_items(request: Object, task_id: str) -> list[Object]:
    """The items of a stored request, each with an id."""
    given = request["input"]
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_shown(item, f"{task_id}_in{index}") for index, item in enumerate(given)]


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
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) == len(parts) and (role == "assistant" or len(parts) == 1):
        return message | {"content": "".join(texts)}
    return message | {"content": parts}


def _output(item: Object) -> Any:
    """The output of an item, or its status where a kind may have no output."""
    if item["type"] in ("function_call_output", "custom_tool_call_output"):
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
    """The provider's own fields of a message or a call."""
    return {k: v for k, v in item.items() if k not in _OF_AN_ITEM and v is not None}


TEXTS = ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text")
IMAGES = ("input_image", "computer_screenshot", "image_url")
IMAGE_ABOVE = "(an image, in the next message)"
"""The text of an output that is nothing but images: only a user's message may hold one."""


def parts_of(content: list[Any], where: str) -> list[Object]:
    """Parts of a content in chat's shape. Raises InvalidRequest."""
    return [_part(part, f"{where}[{index}]") for index, part in enumerate(content)]


def output_content(output: Any, where: str) -> tuple[str, list[Object]]:
    """(the text of a call's output, the parts that are no text). Raises InvalidRequest."""
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
    """Whether a part is data of a tool, such as the result of a shell command, and no content."""
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


# Thinking -------------------------------------------------------------------------------------


def sealed(fields: Object) -> str:
    """Fields of a message as one opaque text."""
    return SEALED + b64encode(orjson.dumps(fields)).decode()


def _opened(text: Any) -> Object:
    """The fields of a sealed text; none where the text is not ours."""
    if not isinstance(text, str) or not text.startswith(SEALED):
        return {}
    try:
        fields = orjson.loads(b64decode(text[len(SEALED) :], validate=True))
    except (binascii.Error, orjson.JSONDecodeError):
        return {}
    return fields if isinstance(fields, dict) else {}


def thinking(item: Object) -> str:
    """The thinking of a reasoning item; empty where none can be read."""
    for name in ("content", "summary"):
        given = item.get(name)
        parts = given if isinstance(given, list) else []
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        if found := "".join(text for text in texts if isinstance(text, str)):
            return found
    carried = _opened(item.get("encrypted_content")).get(THINKING)
    return carried if isinstance(carried, str) else ""


def carried(item: Object) -> Object:
    """The fields of a message that a reasoning item carries beside thinking."""
    fields = _opened(item.get("encrypted_content"))
    return {name: value for name, value in fields.items() if name not in OF_MESSAGE}
