"""The fields of OpenAI's request bodies, for all its endpoints by one list.

Owns which fields become parameters of the call, which say where the task waits, which have no
effect here and which are refused. Promises that a field without effect is named in a note of the
task, and that a request is refused only for what would change its answer and cannot be done.
Never reads messages or items.
"""

import re
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers

from asyncsvc.errors import InvalidRequest
from asyncsvc.tasks import parameters as known

Object = dict[str, Any]

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
ONLY: tuple[tuple[str, Any], ...] = (("n", 1), ("logprobs", False), ("top_logprobs", 0))
"""Fields that are taken with the one value that says what is so anyway."""
TOOLS = frozenset({"tools", "tool_choice"})
"""Checked by `tools.py`, which takes more shapes than one."""
NAME_CHARS = 80


def present(value: Mapping[str, Any]) -> Object:
    """The fields that have a value: null is the same as left out."""
    return {name: given for name, given in value.items() if given is not None}


def parameters(given: Object, ignored: frozenset[str] = SERVICE) -> tuple[Object, list[str]]:
    """The parameters of the call and the notes of the task, from the fields that are left.

    An object `params` is passed on unread, as that of `POST /tasks` is. Raises InvalidRequest.
    """
    for name, only in ONLY:
        if given.pop(name, only) != only:
            raise InvalidRequest(f"{name} other than {only!r} is not supported", param=name)
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


def without_effect(names: list[str]) -> list[str]:
    """The note on fields that were taken and change nothing."""
    if not names:
        return []
    listed, more = ", ".join(sorted(names)[:20]), len(names) - 20
    return [f"without effect here: {listed}" + (f" and {more} more" if more > 0 else "")]


def queued(given: Object, headers: Headers) -> Object:
    """Where the task waits, taken out of `given`; the headers `x-lane`, `x-priority` and
    `x-session-id` win. OpenAI's `metadata` is stored with the task."""
    fields = {name: given.pop(name) for name in sorted(given.keys() & (QUEUE | {"metadata"}))}
    if (lane := headers.get("x-lane")) is not None:
        fields["lane"] = lane
    if (session := headers.get("x-session-id")) is not None:
        fields["session_id"] = session
    if (priority := headers.get("x-priority")) is not None:
        if len(priority) != 1 or priority not in "0123456789":
            raise InvalidRequest(
                "x-priority must be a whole number from 0 to 9", param="x-priority"
            )
        fields["priority"] = int(priority)
    return fields


def check(params: Mapping[str, Any], names: Mapping[str, str] | None = None) -> None:
    """Raises InvalidRequest for a parameter of a wrong type or range. `names` are those that the
    client has used, where they are others."""
    if (fault := known.fault(params)) is not None:
        name, wanted = fault
        name = (names or {}).get(name, name)
        raise InvalidRequest(f"{name} {wanted}", param=name)
