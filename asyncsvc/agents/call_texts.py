"""The text of a call that a model has written, read into a name and arguments.

Owns the spellings of a call: JSON with the usual names of its fields, JSON that is nearly JSON,
and the two ways in which models write calls as tags. Promises that nothing is run which the model
has not written whole: brackets may be missing where the block is closed, the end of a string never.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from asyncsvc.providers.answers.lenient_json import LENIENT_BYTES, Halves, NotJson, documents

Object = dict[str, Any]

CALL_WORD = "tool_call"
"""The word behind the fence of a block that is a call; the name of a call that names no tool."""
NAMES = ("name", "tool", "tool_name", "function_name", "function", "action")
ARGUMENTS = (
    "arguments", "parameters", "args", "params", "input", "tool_input", "action_input", "kwargs",
)  # fmt: skip
BESIDE = frozenset({"id", "type", "index", "call_id", "tool_call_id"})
"""Further fields of a call, which say nothing about it."""
AROUND = ("tool_call", "function_call", "function")
"""Fields that hold the call."""
CALLS_MOST = 100
"""Calls of one block."""
TOKENS_MOST, DEEPEST = 20_000, 50
"""Tokens of what is nearly JSON, and brackets that are open at once."""
TAGS = re.compile(r"</?tool_calls?>|<\|/?tool_call\|>")
_NAME_FIRST = re.compile(r"\s*([A-Za-z_][\w.:/-]*)\s*(?=\{|<arg_key>)")
_NAMED = re.compile(
    r"""["']?\b(?:name|tool|tool_name)["']?\s{0,9}[:=]\s{0,9}["']?([\w.:/-]{1,99})"""
)
_TOKEN = re.compile(
    r"(?P<blank>\s+)"
    # (?>(?:…)*) and not (?:…)*+, which Python before 3.11.5 matches wrongly.
    r'|(?P<string>"""(?>(?:[^"\\]++|\\.|"(?!""))*)"""|"(?>(?:[^"\\]++|\\.)*)"'
    r"|'''(?>(?:[^'\\]++|\\.|'(?!''))*)'''|'(?>(?:[^'\\]++|\\.)*)')"
    r"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<sign>[,:])|(?P<word>[\w.+-]+)",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\", '"': '"',
    "'": "'", "\n": "\n",
}  # fmt: skip
_WORDS = {"True": "true", "False": "false", "None": "null"}
_BETWEEN = "]}),; \t\r\n"
_CLOSER = {"{": "}", "[": "]"}


class WrittenCall(NamedTuple):
    """A call. `arguments` is a JSON object, or the text as it was written where that is none."""

    name: str
    arguments: str


class Unreadable(ValueError):
    """The text is no call, or one that is not whole."""


def calls_in(text: str, functions: Mapping[str, Object], *, closed: bool) -> list[WrittenCall]:
    """The calls of one block. `functions` are the tools by name; `closed`: the block has an end,
    so that missing brackets are only forgotten. Raises Unreadable."""
    text = TAGS.sub("", text) if text.lstrip().startswith("<") else text
    if "<function=" in text[:200] or "<arg_key>" in text:
        return list(_tagged(text, functions, closed))
    head = _NAME_FIRST.match(text)
    values = _values(text[head.end() :] if head else text, closed)
    if head and (head[1] in functions or not all(map(_certain, values))):
        return [_call({"name": head[1], "arguments": value}, functions) for value in values]
    return [_call(value, functions) for value in values]


def certain_calls(text: str, functions: Mapping[str, Object]) -> list[WrittenCall]:
    """The calls of a text that is not marked as one: each is whole, is an object of a name and
    arguments and nothing else, and calls a tool that there is. Raises Unreadable."""
    values = _values(TAGS.sub("", text), closed=False)
    calls = [_call(value, functions) for value in values]
    if not all(map(_certain, values)) or not all(call.name in functions for call in calls):
        raise Unreadable("it may be something else")
    return calls


def broken_call(text: str) -> WrittenCall:
    """A call that cannot be read, with its text as arguments: an error for the model."""
    found = _NAMED.search(text[:1000]) or _NAME_FIRST.match(text[:200])
    name = found[1] if found else CALL_WORD
    if "<function=" in text[:200]:
        name = text.partition("<function=")[2].partition(">")[0].strip()[:99] or CALL_WORD
    return WrittenCall(name, text.strip())


def _values(text: str, closed: bool) -> list[Any]:
    """The JSON values of a text, lists of them taken apart. Raises Unreadable."""
    values = []
    for value in _json(text, closed):
        if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
            value = value["tool_calls"]
        values += value if isinstance(value, list) else [value]
    if not 0 < len(values) <= CALLS_MOST:
        raise Unreadable("it holds no call, or too many")
    return values


def _json(text: str, closed: bool) -> list[Any]:
    """The values of a text, with nothing but commas and brackets too many around them."""
    for attempt in (str, lambda given: strict_json(given, closed=closed)):
        values: list[Any] = []
        try:
            rest = attempt(text)
            while rest and len(values) < CALLS_MOST:
                found, rest = documents(rest.encode(errors="replace"), Halves(final=True))
                values, rest = values + found, rest.lstrip(_BETWEEN)
        except NotJson:
            continue
        if values and not rest:
            return values
    raise Unreadable("it is no JSON")


def strict_json(text: str, *, closed: bool) -> str:
    """Nearly JSON as JSON: other quotes, line feeds in strings, Python's words, bare keys, commas
    and brackets too many; brackets that are missing where it is closed. Raises NotJson."""
    out: list[str] = []
    missing: list[str] = []
    at = 0
    while at < len(text):
        if len(text) > LENIENT_BYTES or len(out) > TOKENS_MOST or len(missing) > DEEPEST:
            raise NotJson("it is too large to be mended")
        token = _TOKEN.match(text, at)
        if token is None:
            raise NotJson(f"odd at character {at}")
        at, found = token.end(), token[0]
        if token["open"]:
            missing.append(_CLOSER[found])
        if token["close"]:
            _close(out, missing, found)
        elif not token["blank"]:
            key = token["word"] and text[at : at + 99].lstrip().startswith(":")
            out.append(json.dumps(found) if key else _strict(token))
    if missing and not closed:
        raise NotJson("it is not whole")
    while missing:
        _close(out, missing, missing[-1])
    return " ".join(out)


def _strict(token: re.Match[str]) -> str:
    """A token as JSON writes it."""
    return json.dumps(_unescaped(token[0])) if token["string"] else _WORDS.get(token[0], token[0])


def _close(out: list[str], missing: list[str], closer: str) -> None:
    """Add a closing bracket, and before it those that it leaves out; none that closes nothing."""
    if closer not in missing:
        return
    while True:
        if out[-1] == ",":
            out.pop()
        last = missing.pop()
        out.append(last)
        if last == closer:
            return


def _unescaped(quoted: str) -> str:
    """The content of a string in any quotes."""
    size = 3 if quoted[:3] in ('"""', "'''") and len(quoted) > 5 else 1
    return _ESCAPE.sub(_character, quoted[size:-size])


def _character(escape: re.Match[str]) -> str:
    """An escape as its character; one that there is not stays as it is, as in a pattern."""
    found = escape[1]
    if len(found) > 1:
        return chr(int(found[1:], 16))
    return _ESCAPED.get(found, escape[0])


def _call(value: Any, functions: Mapping[str, Object]) -> WrittenCall:
    """The call that an object describes. Raises Unreadable."""
    if not isinstance(value, dict):
        raise Unreadable("it is no object")
    value = _inner(value)
    key = next((key for key in NAMES if isinstance(value.get(key), str)), None)
    if key is None:
        if len(value) == 1 and (only := next(iter(value))) in functions:
            return WrittenCall(only, _arguments(value[only]))
        raise Unreadable("it names no tool")
    name = value[key]
    if name not in functions:
        name = name.removeprefix("functions.")
    for holder in ARGUMENTS:
        if holder in value and (holder == "arguments" or _is_object(value[holder])):
            return WrittenCall(name, _arguments(value[holder]))
    flat = {name: one for name, one in value.items() if name != key and name not in BESIDE}
    return WrittenCall(name, _arguments(flat))


def _inner(value: Object) -> Object:
    for key in AROUND:
        if isinstance(inner := value.get(key), dict):
            return _inner(inner)
    return value


def _certain(value: Any) -> bool:
    """Whether an object has a call's name and arguments and nothing else, so that it is no
    description of a tool and no other data."""
    value = _inner(value)
    keys = value.keys() - BESIDE
    held = [value[key] for key in ARGUMENTS if key in keys]
    if len(held) != 1 or len(keys) != 2 or not _is_object(held[0]):
        return False
    return not (isinstance(held[0], dict) and held[0].keys() >= {"type", "properties"})


def _is_object(value: Any) -> bool:
    """Whether it is an object, or its text."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return isinstance(orjson.loads(value), dict)
        except orjson.JSONDecodeError:
            return False
    return isinstance(value, dict)


def _arguments(value: Any) -> str:
    """The arguments as JSON text. Raises Unreadable."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps({} if value is None else value).decode()
    except TypeError:  # numbers beyond 64 bits, or too deep
        raise Unreadable("it is beyond JSON") from None


def _tagged(text: str, functions: Mapping[str, Object], closed: bool) -> Iterator[WrittenCall]:
    """Calls in tags: `<function=NAME><parameter=KEY>…`, and `NAME <arg_key>KEY</arg_key>
    <arg_value>…`. Raises Unreadable."""
    if "<arg_key>" in text:
        if not closed:
            raise Unreadable("it is not whole")
        name, *pairs = text.split("<arg_key>")
        found = [_pair(pair, "</arg_key>", "<arg_value>", "</arg_value>") for pair in pairs]
        yield _from_tags(name.strip(), found, functions)
        return
    for part in text.split("<function=")[1:]:
        name, _, rest = part.partition(">")
        body, end, _ = rest.partition("</function>")
        if body.lstrip().startswith("{"):
            (value, *more) = _values(body, closed or bool(end))
            if more:
                raise Unreadable("it holds more than one object")
            yield WrittenCall(name.strip(), _arguments(value))
            continue
        if not (end or closed):
            raise Unreadable("it is not whole")
        pairs = body.split("<parameter=")[1:]
        found = [_pair(pair, ">", "", "</parameter>") for pair in pairs]
        yield _from_tags(name.strip(), found, functions)


def _pair(text: str, key_end: str, opening: str, closing: str) -> tuple[str, str]:
    """A parameter's name and text, without the line feeds that the tags stand on. Raises
    Unreadable."""
    key, _, rest = text.partition(key_end)
    if opening:
        rest = rest.partition(opening)[2]
    value, end, _ = rest.rpartition(closing)
    if not end:
        raise Unreadable("a parameter is not whole")
    return key.strip(), value.removeprefix("\n").removesuffix("\n")


def _from_tags(
    name: str, pairs: list[tuple[str, str]], functions: Mapping[str, Object]
) -> WrittenCall:
    """The call with such parameters: what may be text is text, all else is read as JSON."""
    schema = (functions.get(name) or {}).get("parameters") or {}
    known = schema.get("properties") or {}
    found: Object = {}
    for key, text in pairs:
        found[key] = text
        if not _may_be_text(known.get(key)):
            try:
                (found[key],) = _json(text, closed=True)
            except ValueError:
                continue
    return WrittenCall(name, _arguments(found))


def _may_be_text(schema: Any) -> bool:
    kinds = [schema, *(schema.get("anyOf") or [])] if isinstance(schema, dict) else []
    return any(isinstance(kind, dict) and kind.get("type") == "string" for kind in kinds)
