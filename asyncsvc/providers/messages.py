"""The messages of a chat call, in the form that the provider takes.

Owns the mapping of roles, the removal of fields that carry nothing (null, an empty list) and of
fields that a preset refuses, and the joining of text parts. Promises that a message as the client
sent it is left as it was, and that what a later turn needs (signatures, `reasoning_details`) is
passed on unchanged where the preset takes it. Never looks at a provider's name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from asyncsvc.providers.dialects import Preset

JOINT = "\n"
"""What stands between two text parts that become one string."""
CALL = frozenset({"id", "type", "function"})
"""What makes a tool call: no preset can refuse these."""

FUNCTION = "function"

Message = dict[str, Any]


def sendable(messages: Sequence[Message], preset: Preset) -> list[Message]:
    """The messages as that provider takes them."""
    if FUNCTION in preset.roles:
        messages = _with_tools(messages)
    return [_message(message, preset) for message in messages]


def led_by(line: str, messages: list[Message]) -> list[Message]:
    """The messages with that line before everything that the first system message says."""
    first: Message = messages[0] if messages else {}
    text = first.get("content")
    if first.get("role") == "system" and isinstance(text, str):
        return [first | {"content": f"{line}\n\n{text}"}, *messages[1:]]
    if first.get("role") == "system" and isinstance(text, list):
        parts = [{"type": "text", "text": f"{line}\n\n"}, *text]
        return [first | {"content": parts}, *messages[1:]]
    return [{"role": "system", "content": line}, *messages]


def _message(message: Message, preset: Preset) -> Message:
    sent = {
        name: value
        for name, value in message.items()
        if name == "content"
        or not (value is None or value == [] or name in preset.drop_in_messages)
    }
    role = message.get("role")
    if isinstance(role, str) and role != FUNCTION:
        sent["role"] = preset.roles.get(role, role)
    if isinstance(calls := sent.get("tool_calls"), list):
        sent["tool_calls"] = [_call(call, preset) for call in calls]
    if isinstance(call := sent.get("function_call"), dict):
        sent["function_call"] = _without_nulls(call)
    if "content" in sent:
        sent["content"] = _content(sent, preset)
    return sent


def _with_tools(messages: Sequence[Message]) -> list[Message]:
    """The messages with tool calls in place of `function_call`, and with their results: the older
    way has no ids, and each result answers the latest call of that name."""
    ids: dict[str, str] = {}
    found = []
    for number, message in enumerate(messages):
        call = message.get("function_call")
        name = call.get("name") if isinstance(call, dict) else message.get("name")
        if not isinstance(name, str):
            pass
        elif isinstance(call, dict) and not message.get("tool_calls"):
            made = ids[name] = f"call_{number}"
            message = {k: v for k, v in message.items() if k != "function_call"}
            message["tool_calls"] = [{"id": made, "type": FUNCTION, FUNCTION: call}]
        elif message.get("role") == FUNCTION and name in ids:
            kept = {k: v for k, v in message.items() if k != "name"}
            message = kept | {"role": "tool", "tool_call_id": ids[name]}
        found.append(message)
    return found


def _content(message: Message, preset: Preset) -> Any:
    content = message["content"]
    if content is None or content == []:
        # Null is lawful beside tool calls alone; elsewhere strict providers want a string.
        calls = "tool_calls" in message or "function_call" in message
        return None if calls and message.get("role") == "assistant" else ""
    if not isinstance(content, list):
        return content
    parts = [_part(part) for part in content]
    texts = [part["text"] for part in parts if _is_text(part)]
    if preset.join_text and len(texts) == len(parts):
        return JOINT.join(texts)
    return parts


def _is_text(part: Any) -> bool:
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _part(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in part.items()
        if value is not None
    }


def _call(call: Any, preset: Preset) -> Any:
    if not isinstance(call, dict):
        return call
    sent = {
        name: value
        for name, value in call.items()
        if name in CALL or not (value is None or name in preset.drop_in_messages)
    }
    if isinstance(function := sent.get("function"), dict):
        sent["function"] = _without_nulls(function)
    return sent


def _without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: inner for name, inner in value.items() if inner is not None}
