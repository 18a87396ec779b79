"""Tools for a model that does not call them as OpenAI describes it: by text.

Owns how tools, calls and results are written as text (`described`), and the sink that turns the
model's text back into what a provider with tool calling sends (`TextualSink`). Promises that the
text which is passed on, joined, is the model's without its calls, wherever the provider cuts its
pieces, and that nothing is held back longer than it may still become a call. `written_calls` owns
what counts as a call.
"""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import orjson

from asyncsvc.agents.call_texts import CALL_WORD, WrittenCall
from asyncsvc.agents.written_calls import RESULT_OF, CallReader
from asyncsvc.providers.answers.delta import Delta, Sink, SinkBefore

Object = dict[str, Any]

CALLS = frozenset({"tool_calls", "function_call"})
"""The fields of a message that hold calls."""
INSTRUCTIONS = f"""\
You can use tools. To call one, write a block like this, with the tool's name and its arguments as \
one JSON object:

```{CALL_WORD}
{{"name": "NAME", "arguments": {{"KEY": "VALUE"}}}}
```

Calls that do not depend on each other may follow one another, each in a block of its own. Write \
nothing after the last block: the results come with the next message, each as "{RESULT_OF}NAME \
(ID):". Never write a result yourself. When you need no tool any more, answer without such a block.

The tools, each with the JSON Schema of its arguments:
"""


def described(messages: Sequence[Object], functions: Sequence[Object]) -> list[Object]:
    """The conversation as a model without tool calling takes it: the tools in the system message,
    calls and results as text. `functions`: the tools as OpenAI describes them."""
    names: dict[str, str] = {}
    found: list[Object] = []
    for message in messages:
        for call in _calls(message):
            names[str(call.get("id") or "")] = _named(call)[0]
        _append(found, _as_text(message, names))
    if not functions:
        return found
    text = INSTRUCTIONS + "\n".join(_line(_function(tool)) for tool in functions)
    if found and found[0].get("role") in ("system", "developer"):
        return [found[0] | {"content": _joined(found[0].get("content"), text)}, *found[1:]]
    return [{"role": "system", "content": text}, *found]


def block(name: str, arguments: str) -> str:
    """A call as the model is to write it. Arguments that are no JSON object stand as text."""
    try:
        given = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        given = arguments
    call = orjson.dumps({"name": name, "arguments": given}).decode()
    return f"```{CALL_WORD}\n{call}\n```"


def _function(tool: Object) -> Object:
    """A function, also out of a list of tools."""
    function: Object = tool.get("function") or tool
    return function


def _line(function: Object) -> str:
    schema = orjson.dumps(function.get("parameters") or {"type": "object"}).decode()
    about = " ".join(str(function.get("description") or "").split())
    return f"- {function['name']}: {about}\n  {schema}"


def _calls(message: Object) -> list[Object]:
    """The calls of a message, also in the way of before there were tools."""
    calls: list[Object] = message.get("tool_calls") or []
    older = message.get("function_call")
    return calls or ([{"function": older}] if older else [])


def _named(call: Object) -> tuple[str, str]:
    """Name and arguments of a call, whatever its kind."""
    given = call.get("function") or call.get("custom") or {}
    return str(given.get("name")), str(given.get("arguments") or given.get("input") or "")


def _as_text(message: Object, names: dict[str, str]) -> Object:
    """The message without calls and results other than in its text."""
    role, content = message.get("role"), message.get("content")
    if role in ("tool", "function"):
        id_ = str(message.get("tool_call_id") or "")
        head = f"{RESULT_OF}{names.get(id_) or message.get('name') or 'the tool'} ({id_}):"
        return {"role": "user", "content": _joined(head, content, "\n")}
    if calls := _calls(message):
        blocks = [block(*_named(call)) for call in calls]
        rest = {name: value for name, value in message.items() if name not in CALLS}
        return rest | {"content": _joined(content, "\n\n".join(blocks))}
    return message | {"content": ""} if content is None else message


def _append(found: list[Object], message: Object) -> None:
    """Add a message, to the last one where both are of one role and nothing but content: some
    providers want the roles in turn."""
    last = found[-1] if found else {}
    plain = {"role", "content"}
    if (
        message.get("role") in ("user", "assistant")
        and message.get("role") == last.get("role")
        and last.keys() | message.keys() <= plain
    ):
        found[-1] = last | {"content": _joined(last["content"], message["content"])}
    else:
        found.append(message)


def _joined(first: Any, second: Any, between: str = "\n\n") -> Any:
    """Two contents as one: text where both are, else a list of parts."""
    if not first or not second:
        return first or second or ""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}{between}{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": str(content)}]


class TextualSink(SinkBefore):
    """A sink for the answer of a model that writes its calls, in front of the call's own. `finish`
    when the answer is whole."""

    def __init__(self, sink: Sink, functions: Sequence[Object]) -> None:
        super().__init__(sink)
        self._reader = CallReader([_function(tool) for tool in functions])
        self._calls = 0
        self._indices: dict[int, int] = {}
        """Of calls that the provider sends as such all the same: their places among all."""

    def write(self, delta: Delta) -> None:
        if delta.call is not None:
            self._sink.write(delta._replace(call=delta.call | {"index": self._place(delta.call)}))
        elif delta.reasoning or delta.refusal or delta.event is not None:
            self._sink.write(delta)
        else:
            self._pass_on(self._reader.feed(delta.text))

    def finish(self) -> None:
        """The answer is whole: what was held back is written."""
        self._pass_on(self._reader.end())

    def _pass_on(self, found: list[str | WrittenCall]) -> None:
        for each in found:
            if isinstance(each, str):
                self._sink.write(Delta(each))
                continue
            head = {"index": self._calls, "id": f"call_{uuid4().hex[:12]}", "type": "function"}
            function = {"name": each.name, "arguments": each.arguments}
            self._sink.write(Delta("", call=head | {"function": function}))
            self._calls += 1

    def _place(self, call: Object) -> int:
        if call["index"] not in self._indices:
            self._indices[call["index"]] = self._calls
            self._calls += 1
        return self._indices[call["index"]]
