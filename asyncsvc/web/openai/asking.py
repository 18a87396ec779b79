"""From an OpenAI request to a task.

Owns what a chat completion, a legacy completion and an embedding request ask for. Promises that
what cannot be done is a 400 that names the field. Never submits.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

from starlette.datastructures import Headers

from asyncsvc.errors import InvalidRequest, ModelNotFound
from asyncsvc.tasks.submission import Noted, RouteAs, Submission
from asyncsvc.web.openai import fields, tools
from asyncsvc.web.tasks.submit import idempotency_key, parse_as

AUTO = "auto"
CHAT_CLASSES = tuple(name for name in get_args(RouteAs) if name != "embedding")
OF_EMBEDDING = fields.SERVICE | fields.CHAT
"""Fields without effect on an embedding."""
PROMPTS_MOST = 100
"""Prompts in one legacy completion."""


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
    given = fields.present(value)
    stream, usage = streaming(given)
    asked = named(given.pop("model", None)) | {"messages": given.pop("messages", [])}
    asked |= fields.queued(given, headers)
    params, notes = fields.parameters(given)
    params |= tools.checked(params)
    fields.check({name: params[name] for name in fields.TOOLS if name in params})
    made = submission(asked | {"params": params}, notes)
    return Call(made, idempotency_key(headers), stream, usage)


def embedding(value: dict[str, Any], headers: Headers) -> Call:
    """Embeddings. Raises InvalidRequest or ModelNotFound."""
    given = fields.present(value)
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
    asked = named(given.pop("model", None), chat=False) | {"type": "embedding", "input": texts}
    asked |= fields.queued(given, headers)
    params, notes = fields.parameters(given, OF_EMBEDDING)
    made = submission(asked | {"params": params}, notes)
    return Call(made, idempotency_key(headers), base64=form == "base64")


@dataclass(frozen=True, slots=True)
class Completions:
    """A legacy completion, understood: a task for each prompt."""

    prompts: list[str]
    submissions: list[Submission]
    key: str | None
    stream: bool
    include_usage: bool
    echo: bool


def completions(value: dict[str, Any], headers: Headers) -> Completions:
    """A legacy completion: each prompt is one user message. Raises InvalidRequest or
    ModelNotFound."""
    given = fields.present(value)
    stream, usage = streaming(given)
    prompts, echo = _prompts(given.pop("prompt", None)), given.pop("echo", False)
    if not isinstance(echo, bool):
        raise InvalidRequest("echo must be true or false", param="echo")
    for name, only in (("best_of", 1), ("suffix", "")):
        if given.pop(name, only) != only:
            raise InvalidRequest(f"{name} other than {only!r} is not supported", param=name)
    asked = named(given.pop("model", None)) | fields.queued(given, headers)
    params, notes = fields.parameters(given)
    made = [submission(asked | {"content": one, "params": params}, notes) for one in prompts]
    return Completions(prompts, made, idempotency_key(headers), stream, usage, echo)


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


def submission(asked: dict[str, Any], notes: Iterable[str] = ()) -> Submission:
    """The task, with notes on what of the request has no effect. Raises InvalidRequest."""
    made = parse_as(Noted, asked)
    made.note(notes)
    return made


def streaming(given: dict[str, Any]) -> tuple[bool, bool]:
    """(whether to stream, whether usage is wanted at its end), taken out of `given`."""
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
