"""From an OpenAI request to a task.

Owns which fields of OpenAI's bodies are passed on, which are ours, which mean nothing here and
which cannot be honoured. Promises that nothing is dropped in silence that would change the
answer: such a field is a 400 that names it, and so is one that nobody knows. Never submits.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from starlette.datastructures import Headers

from asyncsvc.errors import InvalidRequest, ModelNotFound
from asyncsvc.tasks import parameters
from asyncsvc.tasks.submission import RouteAs, Submission
from asyncsvc.web.submit import idempotency_key, parse

AUTO = "auto"
CHAT_CLASSES = tuple(name for name in get_args(RouteAs) if name != "embedding")

PASSED = frozenset(
    {
        "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed",
        "frequency_penalty", "presence_penalty", "logit_bias", "response_format", "tools",
        "tool_choice", "parallel_tool_calls", "reasoning_effort", "verbosity", "prediction",
        "web_search_options",
        # What clients give as `extra_body`, known to some providers.
        "top_k", "top_a", "min_p", "typical_p", "repetition_penalty", "min_tokens",
        "stop_token_ids", "ignore_eos", "reasoning", "thinking", "thinking_budget",
        "reasoning_budget", "enable_thinking", "chat_template_kwargs", "guided_json",
        "guided_regex", "guided_choice", "structured_outputs", "enable_search", "provider",
        "transforms", "keep_alive", "options", "do_sample", "request_id",
    }
)  # fmt: skip
"""Request parameters: they go where the provider's dialect takes them."""
EMBEDDING_PASSED = frozenset({"dimensions", "input_type", "truncate"})
OURS = frozenset(
    {
        "lane", "priority", "session_id", "timeout_s", "max_retries", "max_wait_s", "cache",
        "retry_unsafe",
    }
)  # fmt: skip
"""Fields of `POST /tasks` that may stand in the body as well (the SDK's `extra_body`)."""
IGNORED = frozenset(
    {
        "user", "store", "service_tier", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "prompt_cache_options",
    }
)  # fmt: skip
"""Of meaning to OpenAI's own house only; a provider of another would refuse them."""
REFUSED = {
    "functions": "functions are not supported, use tools",
    "function_call": "function_call is not supported, use tool_choice",
    "audio": "audio is not supported: an answer is text",
}
"""What would change the answer and cannot be honoured, unless it says what is so anyway."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, understood. `key` is its Idempotency-Key."""

    submission: Submission
    key: str | None
    stream: bool = False
    include_usage: bool = False
    base64: bool = False


def chat(value: dict[str, Any], headers: Headers) -> Call:
    """A chat completion. Raises InvalidRequest or ModelNotFound."""
    given = present(value)
    stream, usage = _streaming(given)
    given.pop("stream", None)
    given.pop("stream_options", None)
    for name, only in (("n", 1), ("logprobs", False), ("top_logprobs", 0)):
        if given.pop(name, only) != only:
            raise InvalidRequest(f"{name} other than {only!r} is not supported", param=name)
    if given.pop("modalities", ["text"]) != ["text"]:
        raise InvalidRequest("modalities must be ['text']", param="modalities")
    tools = given.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else []):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise InvalidRequest(f"tools[{index}] must be of type function", param="tools")
    fields = named(given.pop("model", None)) | {"messages": given.pop("messages", [])}
    fields |= passed(given, PASSED) | queued(given, headers)
    return Call(submission(fields, given), idempotency_key(headers), stream, usage)


def embedding(value: dict[str, Any], headers: Headers) -> Call:
    """Embeddings. Raises InvalidRequest or ModelNotFound."""
    given = present(value)
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
    fields = named(given.pop("model", None), chat=False) | {"type": "embedding", "input": texts}
    fields |= passed(given, EMBEDDING_PASSED) | queued(given, headers)
    return Call(submission(fields, given), idempotency_key(headers), base64=form == "base64")


def present(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say something: null is the same as left out."""
    return {name: said for name, said in value.items() if said is not None}


def named(model: Any, chat: bool = True) -> dict[str, Any]:
    """`model` and `route_as` of a submission: a name of the settings, `auto` or `auto:CLASS`."""
    if not isinstance(model, str) or not model:
        raise InvalidRequest("model must be a model's name, auto or auto:CLASS", param="model")
    head, _, wanted = model.partition(":")
    if head != AUTO:
        return {"model": model}
    if model == AUTO:
        return {}
    known = CHAT_CLASSES if chat else ("embedding",)
    if wanted not in known:
        raise ModelNotFound(
            f"there is no model {model[:80]!r}; after auto: goes one of {', '.join(known)}",
            param="model",
        )
    return {"route_as": wanted}


def passed(given: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """`params` of a submission, taken out of `given`: the known ones, and whatever a client has
    put into an object `params`, which is passed on unseen as that of `POST /tasks` is."""
    params = {name: given.pop(name) for name in sorted(given.keys() & known)}
    check(params)
    own = given.pop("params", {})
    if not isinstance(own, dict):
        raise InvalidRequest("params must be an object", param="params")
    return {"params": params | own}


def check(params: Mapping[str, Any], names: Mapping[str, str] | None = None) -> None:
    """Raises InvalidRequest for a parameter of a wrong type or range. `names` are those that the
    client has used, where they are others."""
    if (fault := parameters.fault(params)) is not None:
        name, wanted = fault
        name = (names or {}).get(name, name)
        raise InvalidRequest(f"{name} {wanted}", param=name)


def queued(given: dict[str, Any], headers: Headers) -> dict[str, Any]:
    """Where it queues, taken out of `given`; the headers `x-lane`, `x-priority` and
    `x-session-id` win. OpenAI's `metadata` is kept with the task."""
    fields = {name: given.pop(name) for name in sorted(given.keys() & (OURS | {"metadata"}))}
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


def submission(fields: dict[str, Any], left: Iterable[str] = ()) -> Submission:
    """The task. `left` names the fields of the body that nobody has taken: all must be harmless."""
    for name in left:
        if name in REFUSED:
            raise InvalidRequest(REFUSED[name], param=name)
        if name not in IGNORED:
            raise InvalidRequest(
                f"unrecognized request argument supplied: {name[:80]}", param=name[:80]
            )
    return parse(fields)


def _streaming(given: Mapping[str, Any]) -> tuple[bool, bool]:
    """(whether to stream, whether usage is wanted at its end)."""
    stream = given.get("stream", False)
    if not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false", param="stream")
    options = given.get("stream_options")
    if options is None:
        return stream, False
    if not stream:
        raise InvalidRequest("stream_options needs stream: true", param="stream_options")
    usage = options.get("include_usage", False) if isinstance(options, dict) else None
    if not isinstance(usage, bool):
        raise InvalidRequest(
            'stream_options must be an object such as {"include_usage": true}',
            param="stream_options",
        )
    return stream, usage
