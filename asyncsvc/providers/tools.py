"""The tools of a request as a provider takes them, and its calls as calls of the client's tools.

Owns the conversion of a request's tools, tool choice and earlier tool calls: `custom` tools and
`namespace` groups become functions, kinds that the provider takes are passed on, all others are
left out. `ToolSink` converts back: a call of a function that stands for a custom tool becomes a
call of that tool, with its input as plain text while it streams; a function of a namespace gets its
own name again. Promises that a name is converted alike in each turn of a conversation, that what is
left out can be read in `left_out`, and that no character of an input is lost, also where a model
does not keep to the one parameter. Never touches text or thinking.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from asyncsvc.providers.answers.delta import Delta, Sink, SinkBefore

Object = dict[str, Any]
Taken = Mapping[str, Object | None]
"""Kinds of tools beside `function` that a provider takes. The value stands under the kind's name
where the client's tool has nothing there; None: the tool is sent as it is."""

FUNCTION, CUSTOM, NAMESPACE = "function", "custom", "namespace"
INPUT = "input"
"""The one parameter of a function that stands for a custom tool."""
NAME_CHARS = 64
"""The longest function name that OpenAI's API takes."""
CHOICES = frozenset({"tool_choice", "parallel_tool_calls"})
_VERSION = re.compile(r"(_preview)?(_\d{4}_\d{2}_\d{2})?$")
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class Origin:
    """The client's tool behind a function that the provider was given."""

    name: str
    namespace: str | None = None
    custom: bool = False


@dataclass(slots=True)
class Converted:
    """The tools for one provider. `origins` holds the functions that stand for another tool."""

    sent: list[Object] = field(default_factory=list)
    origins: dict[str, Origin] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def plain(params: Mapping[str, Any]) -> bool:
    """Whether the request's tools are functions only, which every provider takes as they are."""
    tools = params.get("tools")
    if isinstance(tools, list) and not all(_kind(tool) == FUNCTION for tool in tools):
        return False
    choice = params.get("tool_choice")
    return not isinstance(choice, dict) or choice.get("type") == FUNCTION


def converted(tools: Any, taken: Taken) -> Converted:
    """A request's tools for a provider that takes these kinds beside functions."""
    found = Converted()
    for tool in tools if isinstance(tools, list) else []:
        _add(found, tool, taken)
    return found


def fitted(params: Object, taken: Taken) -> Object:
    """The parameters with tools and tool choice as the provider takes them."""
    if plain(params):
        return params
    found = converted(params.get("tools"), taken)
    choice = params.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        found.sent, choice = _allowed(found, choice)
    rest = {name: value for name, value in params.items() if name not in CHOICES}
    if not found.sent:
        rest.pop("tools", None)
        return rest
    rest["tools"] = found.sent
    if "parallel_tool_calls" in params:
        rest["parallel_tool_calls"] = params["parallel_tool_calls"]
    chosen = _chosen(choice, found) if isinstance(choice, dict) else choice
    return rest if chosen is None else rest | {"tool_choice": chosen}


def fitted_messages(messages: list[Object], taken: Taken) -> list[Object]:
    """The messages, with earlier calls of other tools than functions as the provider takes them."""
    return [
        message | {"tool_calls": [_earlier(call, taken) for call in _calls(message)]}
        if any(_converts(call, taken) for call in _calls(message))
        else message
        for message in messages
    ]


def left_out(params: Mapping[str, Any], taken: Taken) -> list[str]:
    """In words: the tools that a provider is not sent, and a choice that fell with them."""
    if plain(params):
        return []
    found, names = converted(params.get("tools"), taken), []
    if found.left_out:
        names.append(f"tools of type {', '.join(dict.fromkeys(found.left_out))}")
    choice: Any = params.get("tool_choice")
    named = isinstance(choice, dict) and choice.get("type") != "allowed_tools"
    if named and _chosen(choice, found) is None:
        names.append(f"tool_choice {str(choice.get('type'))[:40]}")
    return names


def function_name(name: str, namespace: str | None) -> str:
    """The function that stands for a tool of a namespace, by a name that providers take."""
    if namespace is None:
        return name
    whole = f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"
    clean = _NOT_IN_A_NAME.sub("_", whole)
    if clean == whole and len(whole) <= NAME_CHARS:
        return whole
    return f"{clean[: NAME_CHARS - 9]}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def custom_arguments(text: str) -> str:
    """The arguments of the function that stands for a custom tool with this input."""
    return orjson.dumps({INPUT: text}).decode()


def _kind(tool: Any) -> str | None:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return kind if isinstance(kind, str) else None


def _add(found: Converted, tool: Any, taken: Taken) -> None:
    kind = _kind(tool)
    if kind == FUNCTION:
        found.sent.append(tool)
    elif kind == CUSTOM and CUSTOM not in taken and isinstance(_name(tool), str):
        _add_function(found, _custom_function(tool), Origin(_name(tool), custom=True))
    elif kind == NAMESPACE and isinstance(tool.get("tools"), list):
        for one in tool["tools"]:
            _add_member(found, one, tool)
    elif kind is not None and (sent := _passed(tool, kind, taken)) is not None:
        found.sent.append(sent)
    else:
        found.left_out.append(str(kind)[:40])


def _add_member(found: Converted, tool: Any, group: Object) -> None:
    """One tool of a namespace, whose description goes before the tool's own."""
    kind = _kind(tool)
    if kind not in (FUNCTION, CUSTOM) or not isinstance(_name(tool), str):
        found.left_out.append(str(kind)[:40])
        return
    made = _custom_function(tool) if kind == CUSTOM else {**_inner(tool)}
    origin = Origin(made["name"], str(group.get("name") or ""), kind == CUSTOM)
    about = (group.get("description"), made.get("description"))
    words = "\n\n".join(text for text in about if isinstance(text, str) and text)
    if words:
        made["description"] = words
    made["name"] = function_name(origin.name, origin.namespace)
    _add_function(found, made, origin)


def _add_function(found: Converted, function: Object, origin: Origin) -> None:
    found.sent.append({"type": FUNCTION, "function": function})
    found.origins[function["name"]] = origin


def _inner(tool: Object) -> Object:
    """A tool's own fields, in chat's shape or in that of the Responses API."""
    held = tool.get(tool["type"])
    if isinstance(held, dict):
        return held
    kept = ("name", "description", "parameters", "strict", "format")
    return {name: tool[name] for name in kept if tool.get(name) is not None}


def _custom_function(tool: Object) -> Object:
    """A function with one text as its parameter. A grammar stands in the text's description."""
    given = _inner(tool)
    form = given.get("format") or {}
    grammar = form.get("grammar") or form if isinstance(form, dict) else {}
    about = "The whole input of the tool, as plain text."
    if isinstance(grammar.get("definition"), str):
        about += f" It follows this {grammar.get('syntax', '')} grammar:\n{grammar['definition']}"
    schema = {
        "type": "object",
        "properties": {INPUT: {"type": "string", "description": about}},
        "required": [INPUT],
        "additionalProperties": False,
    }
    words = given.get("description")
    about_it = {"description": words} if isinstance(words, str) else {}
    return {"name": given["name"], **about_it, "parameters": schema}


def _passed(tool: Object, kind: str, taken: Taken) -> Object | None:
    """A tool that the provider runs itself, in its shape; None: the provider does not take it."""
    known = kind if kind in taken else _VERSION.sub("", kind)
    if known not in taken:
        return None
    needed = taken[known]
    if needed is None or known in tool:
        return tool | {"type": known}
    return {"type": known, known: dict(needed)}


def _chosen(choice: Object, found: Converted) -> Any:
    """The choice for a provider; None: the tool is not there, the model chooses by itself."""
    kind, name = choice.get("type"), _name(choice)
    if kind in (FUNCTION, CUSTOM):
        sent = next((n for n, o in found.origins.items() if _fits(n, o, name, choice)), None)
        if sent is not None:
            return {"type": FUNCTION, "function": {"name": sent}}
        return choice if any(_name(tool) == name for tool in found.sent) else None
    return choice if any(tool["type"] == kind for tool in found.sent) else None


def _fits(sent: str, origin: Origin, name: Any, choice: Object) -> bool:
    if (space := choice.get("namespace")) is not None:
        return (origin.name, origin.namespace) == (name, space)
    return name in (sent, origin.name)


def _name(tool: Object) -> Any:
    """The name of a tool, or of the one that a choice names."""
    kind = tool.get("type")
    held = tool.get(kind) if isinstance(kind, str) else None
    return held.get("name") if isinstance(held, dict) else tool.get("name")


def _allowed(found: Converted, choice: Object) -> tuple[list[Object], Any]:
    """Only the tools that the choice allows, and whether one of them must be called."""
    held = choice.get("allowed_tools")
    given = held if isinstance(held, dict) else choice
    wanted = [one for one in given.get("tools") or [] if isinstance(one, dict)]
    sent = [tool for tool in found.sent if any(_allows(one, tool, found) for one in wanted)]
    mode = given.get("mode")
    return sent, mode if mode in ("auto", "required") else "auto"


def _allows(wanted: Object, tool: Object, found: Converted) -> bool:
    kind, name = wanted.get("type"), _name(wanted)
    if tool["type"] != FUNCTION:
        return bool(tool["type"] == kind and name in (None, _name(tool)))
    sent = tool["function"]["name"]
    origin = found.origins.get(sent)
    if origin is None:
        return bool(kind == FUNCTION and name == sent)
    if kind == NAMESPACE:
        return bool(origin.namespace == name)
    return _fits(sent, origin, name, wanted)


def _calls(message: Object) -> list[Any]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else []


def _converts(call: Any, taken: Taken) -> bool:
    if not isinstance(call, dict):
        return False
    if call.get("type") == CUSTOM:
        return CUSTOM not in taken or "namespace" in _inner(call)
    function = call.get(FUNCTION)
    return isinstance(function, dict) and "namespace" in function


def _earlier(call: Any, taken: Taken) -> Any:
    """A call that the model has made, under the name that the provider knows."""
    if not _converts(call, taken):
        return call
    kind = CUSTOM if call.get("type") == CUSTOM else FUNCTION
    given = dict(call[kind])
    space = given.pop("namespace", None)
    if kind == CUSTOM:
        given = {"name": given.get("name"), "arguments": custom_arguments(given.get(INPUT) or "")}
    given["name"] = function_name(str(given["name"]), space)
    rest = {name: value for name, value in call.items() if name != kind}
    return rest | {"type": FUNCTION, FUNCTION: given}


_HEAD = re.compile(r'\s*\{\s*"' + INPUT + r'"\s*:\s*"')
_BEGUN = re.compile(r'\s*(\{\s*("(i(n(p(u(t("\s*(:\s*)?)?)?)?)?)?)?)?)?$')
"""A text that may become `_HEAD`."""
LONGEST_HEAD = 200
"""Characters of a head, most of them blanks, that are looked through again at each piece."""
_WHOLE = re.compile(r'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*')
_HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}$")
"""The first half of a character, whose second half has not come."""


class Text:
    """The input of a custom tool, out of the arguments of a function, piece by piece."""

    def __init__(self) -> None:
        self._held = ""
        self._inside = False
        self._closed = False
        self._odd: list[str] | None = None
        """The arguments, where they are not the one text that was asked for: they are read at their
        end. Each piece once, for joining them all at each piece takes a time that is quadratic."""

    def feed(self, piece: str) -> str:
        """The part of the input that this piece makes certain."""
        if self._closed:
            return ""
        if self._odd is not None:
            self._odd.append(piece)
            return ""
        self._held += piece
        if not self._inside:
            head = _HEAD.match(self._held)
            if head is None:
                if len(self._held) > LONGEST_HEAD or not _BEGUN.match(self._held):
                    self._odd = [self._held]
                return ""
            self._inside, self._held = True, self._held[head.end() :]
        return self._string()

    def end(self) -> str:
        """The rest of the input, when no piece follows."""
        if self._closed:
            return ""
        held, self._held, self._closed = "".join(self._odd or [self._held]), "", True
        return held if self._inside else _only_text(held)

    def _string(self) -> str:
        match = _WHOLE.match(self._held)
        whole = match[0] if match else ""
        rest = self._held[len(whole) :]
        self._closed = rest.startswith('"')
        if not self._closed and (half := _HALF.search(whole)):
            whole, rest = whole[: half.start()], whole[half.start() :] + rest
        self._held = rest
        return _decoded(whole)


class ToolSink(SinkBefore):
    """A sink for one call of a request with converted tools, in front of the call's own."""

    def __init__(self, sink: Sink, tools: Converted) -> None:
        super().__init__(sink)
        self._origins = tools.origins
        self._alone = _names_alone(tools)
        self._texts: dict[int, Text] = {}
        self._found: dict[int, Origin] = {}

    def write(self, delta: Delta) -> None:
        self._sink.write(delta if delta.call is None else self._call(delta, delta.call))

    def finish(self) -> None:
        """The answer is whole: what was held back of an input is written."""
        for index, text in self._texts.items():
            if rest := text.end():
                self._sink.write(_custom({"index": index}, {}, rest))

    def _call(self, delta: Delta, call: dict[str, Any]) -> Delta:
        index, function = call["index"], call["function"]
        if function.get("name") and (origin := self._origin(function["name"])) is not None:
            self._found[index] = origin
            function = _named(function, origin)
            if origin.custom:
                self._texts.setdefault(index, Text())
        text = self._texts.get(index)
        if text is None:
            return delta._replace(call=call | {"function": function})
        words = text.feed(function.get("arguments") or "")
        return _custom(call, function, words)

    def _origin(self, name: Any) -> Origin | None:
        found = self._origins.get(name)
        return self._alone.get(name) if found is None else found


def _custom(call: dict[str, Any], function: dict[str, Any], words: str) -> Delta:
    """A piece of a custom tool's call. Each piece says that it is one."""
    return Delta("", call=call | {"type": CUSTOM, "function": function | {"arguments": words}})


def _named(function: dict[str, Any], origin: Origin) -> dict[str, Any]:
    space = {} if origin.namespace is None else {"namespace": origin.namespace}
    return function | {"name": origin.name} | space


def _names_alone(tools: Converted) -> dict[str, Origin]:
    """Tools of namespaces by their own name, where it stands for one tool only: a model may
    leave the namespace out."""
    taken = {tool.get("function", {}).get("name") for tool in tools.sent}
    alone: dict[str, Origin | None] = {}
    for origin in tools.origins.values():
        if origin.namespace is not None and origin.name not in taken:
            alone[origin.name] = None if origin.name in alone else origin
    return {name: origin for name, origin in alone.items() if origin is not None}


def _decoded(text: str) -> str:
    """A JSON string's content; as it stands where it is none."""
    if "\\" not in text:
        return text
    try:
        found: str = json.loads(f'"{text}"', strict=False)
    except ValueError:
        return text
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _only_text(arguments: str) -> str:
    """The input that a model has put elsewhere: the only text of an object, or the whole."""
    try:
        found = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    if isinstance(found, str):
        return found
    if isinstance(found, dict):
        given = found.get(INPUT, next(iter(found.values()), None) if len(found) == 1 else None)
        if isinstance(given, str):
            return given
    return "" if found == {} else arguments
