"""Request bodies of OpenAI's API as submissions.

A field is a parameter of the call, says where the task waits, has no effect here (a note of the
task names it), or is refused: only where it would change the answer and cannot be done. Messages
and items are not read here.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import Field
from starlette.datastructures import Headers

from asyncsvc.errors import InvalidRequest, ModelNotFound
from asyncsvc.tasks import parameters as known
from asyncsvc.tasks.submission import Noted, RouteAs, Submission
from asyncsvc.web.tasks.routes import idempotency_key, parse_as

Object = dict[str, Any]
AUTO = "auto"
CHAT_CLASSES = tuple(name for name in get_args(RouteAs) if name != "embedding")
PROMPTS_MOST = 100
"""Prompts in one legacy completion."""
NAME_CHARS = 80

CHAT = frozenset(
    {
        "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed",
        "frequency_penalty", "presence_penalty", "logit_bias", "response_format", "tools",
        "tool_choice", "parallel_tool_calls", "reasoning_effort", "verbosity", "prediction",
        "web_search_options",
    }
)  # fmt: skip
"""Parameters of a chat call that OpenAI's API has. An embedding call has no use for them."""
SERVICE = frozenset(
    {
        "user", "store", "service_tier", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "prompt_cache_options", "client_metadata", "max_tool_calls",
        "include", "truncation", "context_management", "moderation", "access_programs",
        "background_options", "personality", "image", "input", "messages", "stream_options",
    }
)  # fmt: skip
"""Fields that concern OpenAI's own service, or another endpoint: a provider may refuse them."""
_OF_A_SERVICE = re.compile(
    r"^(prompt_cache|client|safety|service|billing)_|_(metadata|identifier|retention|tier)$"
)
"""Names of fields of that kind which newer clients send."""
QUEUE = frozenset(
    {
        "lane", "priority", "session_id", "timeout_s", "max_retries", "max_wait_s", "cache",
        "retry_unsafe",
    }
)  # fmt: skip
"""Fields of `POST /tasks` that may stand in the body as well (the SDK's `extra_body`)."""
REFUSED = {
    "functions": "functions are not supported, use tools",
    "function_call": "function_call is not supported, use tool_choice",
    "audio": "audio is not supported: an answer is text",
    "conversation": "conversations are not kept here, use previous_response_id",
    "prompt": "prompt templates are not kept here, send input and instructions",
    "previous_response_id": "previous_response_id goes with /v1/responses only",
}
"""Fields that would change the answer and cannot be honoured."""
ONLY: Mapping[str, Any] = {"n": 1, "logprobs": False, "top_logprobs": 0}
"""Fields that are accepted only with the value that is the case anyway."""


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed request: a task for each of its prompts, and the form of the answer.

    `key` is the Idempotency-Key; `heads` are the texts that the answers of a legacy completion
    begin with.
    """

    submissions: list[Submission]
    key: str | None
    stream: bool = False
    include_usage: bool = False
    base64: bool = False
    heads: list[str] = field(default_factory=list)


def chat(body: Object, headers: Headers) -> Call:
    """The call of a chat completion. Raises InvalidRequest or ModelNotFound."""
    given = present(body)
    stream, usage = streaming(given)
    wanted = named(given.pop("model", None)) | {"messages": given.pop("messages", [])}
    wanted |= queued(given, headers)
    params, notes = parameters(given)
    params |= checked_tools(params)
    made = submission(wanted | {"params": params}, notes)
    return Call([made], idempotency_key(headers), stream, usage)


def embedding(body: Object, headers: Headers) -> Call:
    """The call of an embedding request. Raises InvalidRequest or ModelNotFound."""
    given = present(body)
    form = given.pop("encoding_format", "float")
    if form not in ("float", "base64"):
        raise InvalidRequest("encoding_format must be float or base64", param="encoding_format")
    texts = given.pop("input", None)
    if isinstance(texts, list) and texts and isinstance(texts[0], int | list):
        raise InvalidRequest(
            "input must be a string or a list of strings: tokens mean nothing to another model "
            "than the one they were made for (LangChain: check_embedding_ctx_length=False)",
            param="input",
        )
    wanted = named(given.pop("model", None), chat=False) | {"type": "embedding", "input": texts}
    wanted |= queued(given, headers)
    params, notes = parameters(given, ignored=SERVICE | CHAT)
    made = submission(wanted | {"params": params}, notes)
    return Call([made], idempotency_key(headers), base64=form == "base64")


def completions(body: Object, headers: Headers) -> Call:
    """The call of a legacy completion: each prompt is one user message of a task of its own.
    Raises InvalidRequest or ModelNotFound."""
    given = present(body)
    stream, usage = streaming(given)
    prompts, echo = _prompts(given.pop("prompt", None)), given.pop("echo", False)
    if not isinstance(echo, bool):
        raise InvalidRequest("echo must be true or false", param="echo")
    _check_only(given, {"best_of": 1, "suffix": ""})
    wanted = named(given.pop("model", None)) | queued(given, headers)
    params, notes = parameters(given)
    made = [submission(wanted | {"content": one, "params": params}, notes) for one in prompts]
    heads = prompts if echo else [""] * len(prompts)
    return Call(made, idempotency_key(headers), stream, usage, heads=heads)


def _prompts(prompt: Any) -> list[str]:
    found = [prompt] if isinstance(prompt, str) else prompt
    texts = isinstance(found, list) and all(isinstance(one, str) and one for one in found)
    if not texts or not 0 < len(found) <= PROMPTS_MOST:
        raise InvalidRequest(
            f"prompt must be a text or a list of 1 to {PROMPTS_MOST} texts; lists of tokens mean "
            "nothing to another model than the one they were made for",
            param="prompt",
        )
    return list(found)


def present(body: Object) -> Object:
    """The fields that have a value: null is the same as left out."""
    return {name: given for name, given in body.items() if given is not None}


def named(model: Any, chat: bool = True) -> Object:
    """`model` or `route_as` of a submission: a name of the settings, `auto` or `auto:CLASS`.
    Raises InvalidRequest or ModelNotFound."""
    if not isinstance(model, str) or not model:
        raise InvalidRequest("model must be a model's name, auto or auto:CLASS", param="model")
    head, _, wanted = model.partition(":")
    if head != AUTO:
        return {"model": model}
    if model == AUTO:
        return {}
    classes = CHAT_CLASSES if chat else ("embedding",)
    if wanted not in classes:
        raise ModelNotFound(
            f"there is no model {model[:80]!r}; after auto: goes one of {', '.join(classes)}",
            param="model",
        )
    return {"route_as": wanted}


def submission(fields: Object, notes: Iterable[str]) -> Submission:
    """The task, with notes on the fields of the request that have no effect. Raises
    InvalidRequest."""
    made = parse_as(Noted, fields)
    made.note(notes)
    return made


def streaming(given: Object) -> tuple[bool, bool]:
    """(whether to stream, whether the stream ends with the usage), removed from `given`. Raises
    InvalidRequest."""
    stream = given.pop("stream", False)
    if not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false", param="stream")
    options = given.pop("stream_options", None)
    if options is None:
        return stream, False
    if not stream:
        raise InvalidRequest("stream_options needs stream: true", param="stream_options")
    usage = options.get("include_usage") if isinstance(options, dict) else 0
    if not isinstance(usage, bool | None):
        raise InvalidRequest(
            'stream_options must be an object such as {"include_usage": true}',
            param="stream_options",
        )
    return stream, bool(usage)


def parameters(given: Object, ignored: frozenset[str] = SERVICE) -> tuple[Object, list[str]]:
    """(the parameters of the call, the notes of the task) from the fields that are left; tools
    are not checked.

    An object `params` is passed on unread, as that of `POST /tasks` is. Raises InvalidRequest.
    """
    _check_only(given, ONLY)
    if given.pop("modalities", ["text"]) != ["text"]:
        raise InvalidRequest("modalities must be ['text']", param="modalities")
    own = given.pop("params", {})
    if not isinstance(own, dict):
        raise InvalidRequest("params must be an object", param="params")
    params, unused = {}, []
    for name, value in given.items():
        if name in REFUSED:
            raise InvalidRequest(REFUSED[name], param=name)
        if name in ignored or _OF_A_SERVICE.search(name):
            unused.append(name[:NAME_CHARS])
        else:
            params[name] = value
    check({name: value for name, value in params.items() if name not in TOOLS})
    return params | own, without_effect(unused)


def _check_only(given: Object, only: Mapping[str, Any]) -> None:
    """Remove fields that have one allowed value each. Raises InvalidRequest for another value."""
    for name, value in only.items():
        if given.pop(name, value) != value:
            raise InvalidRequest(f"{name} other than {value!r} is not supported", param=name)


def without_effect(names: list[str]) -> list[str]:
    """The note on fields that are accepted and change nothing."""
    if not names:
        return []
    listed, more = ", ".join(sorted(names)[:20]), len(names) - 20
    return [f"without effect here: {listed}" + (f" and {more} more" if more > 0 else "")]


def queued(given: Object, headers: Headers) -> Object:
    """The fields that say where the task waits, removed from `given`; the headers `x-lane`,
    `x-priority` and `x-session-id` win. OpenAI's `metadata` is stored with the task. Raises
    InvalidRequest."""
    fields = {name: given.pop(name) for name in sorted(given.keys() & (QUEUE | {"metadata"}))}
    for name, header in (("lane", "x-lane"), ("session_id", "x-session-id")):
        if (value := headers.get(header)) is not None:
            fields[name] = value
    if (priority := headers.get("x-priority")) is not None:
        if len(priority) != 1 or priority not in "0123456789":
            raise InvalidRequest(
                "x-priority must be a whole number from 0 to 9", param="x-priority"
            )
        fields["priority"] = int(priority)
    return fields


def ascending(order: str | None) -> bool:
    """Whether the query asks for the oldest first; the newest come first without it. Raises
    InvalidRequest."""
    if order not in ("asc", "desc", None):
        raise InvalidRequest("order must be asc or desc", param="order")
    return order == "asc"


def check(params: Object, names: Mapping[str, str] | None = None) -> None:
    """Raises InvalidRequest for a parameter of a wrong type or range. `names` are the client's
    names of parameters where they differ."""
    if (fault := known.fault(params)) is not None:
        name, wanted = fault
        name = (names or {}).get(name, name)
        raise InvalidRequest(f"{name} {wanted}", param=name)


# Tools ----------------------------------------------------------------------------------------

_TYPED = {"required": ["type"], "properties": {"type": {"type": "string", "minLength": 1}}}
Tool = Annotated[Object, Field(json_schema_extra=_TYPED)]
Word = Literal["none", "auto", "required"]
ToolChoice = Word | Tool
TOOLS = ("tools", "tool_choice")
"""Parameters that are accepted in more than one shape."""
NAMED = ("function", "custom")
TOOL_FIELDS = ("name", "description", "parameters", "strict", "format")


def checked_tools(params: Object) -> Object:
    """`tools` and `tool_choice` of the parameters, in chat's shape. Raises InvalidRequest.

    A function or custom tool may have chat's shape or that of the Responses API; a group of tools
    and a kind that a provider runs itself are passed on as they are.
    """
    found: Object = {}
    tools = params.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise InvalidRequest("tools must be a list of objects with a type", param="tools")
    if tools is not None:
        found["tools"] = [_tool(one, f"tools[{index}]") for index, one in enumerate(tools)]
    if (given := params.get("tool_choice")) is not None:
        found["tool_choice"] = _tool_choice(given)
    check(found)
    return found


def _tool(given: Any, where: str) -> Object:
    kind = given.get("type") if isinstance(given, dict) else None
    if not isinstance(kind, str) or not kind:
        raise InvalidRequest(f"{where} must be an object with a type", param=where)
    if kind in NAMED:
        more = given if isinstance(given.get(kind), dict) else {}
        return {**more, "type": kind, kind: _named_tool(given, kind, where)}
    if kind == "namespace":
        _check_group(given, where)
    return dict(given)


def _tool_choice(given: Any) -> Any:
    if isinstance(given, str) and given in get_args(Word):
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


def _named_tool(given: Object, kind: str, where: str) -> Object:
    """The fields of a function or of a custom tool."""
    inner = given.get(kind)
    if not isinstance(inner, dict):
        inner = {name: given[name] for name in TOOL_FIELDS if given.get(name) is not None}
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
        _tool(one, f"{where}.tools[{index}]")
