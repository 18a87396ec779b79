"""Tools and tool choice of a request, in chat's shape.

Owns what may be given as a tool: functions and custom tools in chat's shape or in that of the
Responses API, groups of them, and kinds that a provider runs itself. Promises that a tool without
a name or a type is a fault that names its place. Never knows what a provider takes.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from asyncsvc.errors import InvalidRequest

Object = dict[str, Any]
_TYPED = {"required": ["type"], "properties": {"type": {"type": "string", "minLength": 1}}}
Tool = Annotated[Object, Field(json_schema_extra=_TYPED)]
Word = Literal["none", "auto", "required"]
Choice = Word | Tool
NAMED = ("function", "custom")
KEPT = ("name", "description", "parameters", "strict", "format")
CHOICES = get_args(Word)


def checked(params: Object) -> Object:
    """`tools` and `tool_choice` of the parameters, in chat's shape. Raises InvalidRequest."""
    found: Object = {}
    tools = params.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise InvalidRequest("tools must be a list of objects with a type", param="tools")
    if tools is not None:
        found["tools"] = [tool(one, f"tools[{index}]") for index, one in enumerate(tools)]
    if (given := params.get("tool_choice")) is not None:
        found["tool_choice"] = choice(given)
    return found


def tool(given: Any, where: str) -> Object:
    """One tool, in chat's shape. Raises InvalidRequest."""
    kind = given.get("type") if isinstance(given, dict) else None
    if not isinstance(kind, str) or not kind:
        raise InvalidRequest(f"{where} must be an object with a type", param=where)
    if kind in NAMED:
        more = given if isinstance(given.get(kind), dict) else {}
        return {**more, "type": kind, kind: _named(given, kind, where)}
    if kind == "namespace":
        _check_group(given, where)
    return dict(given)


def choice(given: Any) -> Any:
    """The tool choice, in chat's shape. Raises InvalidRequest."""
    if isinstance(given, str) and given in CHOICES:
        return given
    kind = given.get("type") if isinstance(given, dict) else None
    if isinstance(kind, str) and kind:
        if kind not in NAMED:
            return dict(given)
        inner = given.get(kind)
        name = inner.get("name") if isinstance(inner, dict) else given.get("name")
        if isinstance(name, str) and name:
            space = given.get("namespace")
            more = {"namespace": space} if isinstance(space, str) else {}
            return {"type": kind, kind: {"name": name}, **more}
    raise InvalidRequest(
        "tool_choice must be none, auto, required or a tool by type and name", param="tool_choice"
    )


def _named(given: Object, kind: str, where: str) -> Object:
    """The fields of a function or of a custom tool."""
    inner = given.get(kind)
    if not isinstance(inner, dict):
        inner = {name: given[name] for name in KEPT if given.get(name) is not None}
        at = f"{where}.name"
    else:
        inner, at = dict(inner), f"{where}.{kind}.name"
    if not isinstance(inner.get("name"), str) or not inner["name"]:
        raise InvalidRequest(f"{at} must be a string", param=at)
    form = inner.get("format")
    if kind == "custom" and isinstance(form, dict) and isinstance(form.get("definition"), str):
        grammar = {name: form[name] for name in ("definition", "syntax") if name in form}
        inner["format"] = {"type": "grammar", "grammar": grammar}
    return inner


def _check_group(given: Object, where: str) -> None:
    if not isinstance(given.get("name"), str) or not given["name"]:
        raise InvalidRequest(f"{where}.name must be a string", param=f"{where}.name")
    if not isinstance(given.get("tools"), list):
        raise InvalidRequest(f"{where}.tools must be a list", param=f"{where}.tools")
    for index, one in enumerate(given["tools"]):
        tool(one, f"{where}.tools[{index}]")
