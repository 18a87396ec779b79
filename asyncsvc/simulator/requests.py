"""Requests of OpenAI's API, read from bytes as far as the simulated provider uses them.

A field that cannot be used raises BadRequest with its name.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from asyncsvc.simulator.answers import MOST_DIMENSIONS, estimate_tokens
from asyncsvc.simulator.conversation import Offer, message_text, offer_of
from asyncsvc.simulator.scripts import Acting, ScriptError, acting
from asyncsvc.simulator.steps import Step


class Refusal(Exception):
    """An error answer in place of the one that was asked for.

    ``code`` and ``param`` are those of OpenAI's error, ``reason`` is the name in the figures.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None,
        param: str | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.reason = reason


class BadRequest(Refusal):
    """A request that OpenAI would answer with 400."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(400, message, None, param, "invalid")


@dataclass(slots=True)
class ChatRequest:
    """``prompt`` is the last user message with its tags, for an agent that plays a script the one
    with the script; ``digest`` is of the whole body; ``tools`` are (name, schema) of the functions
    that may be called now; ``shape`` is the schema that the answer must have; ``step`` is what the
    script answers, written as text where ``textual``."""

    model: str
    prompt: str
    stream: bool
    include_usage: bool
    deterministic: bool
    most_tokens: int | None
    prompt_tokens: int
    digest: str
    stop: list[str]
    tools: list[tuple[str, Any]]
    shape: Any
    step: Step | None = None
    textual: bool = False


@dataclass(slots=True)
class EmbeddingRequest:
    model: str
    prompt: str
    inputs: list[str]
    dimensions: int | None
    base64: bool
    prompt_tokens: int


def read_chat(body: bytes) -> ChatRequest:
    data = _object(body)
    model = _model(data)
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list of at least one message", "messages")
    prompt, characters = "", 0
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest("each message needs a 'role'", f"messages[{index}].role")
        text = _text(message.get("content"), index)
        characters += estimate_tokens(text) if text else 0
        if message["role"] == "user":
            prompt = text
    options, tools = data.get("stream_options"), _tools(data)
    offer = offer_of(messages, (name for name, _ in tools))
    played = _played(messages, offer)
    return ChatRequest(
        model=model,
        prompt=played.prompt if played else prompt,
        stream=data.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        deterministic=data.get("temperature") == 0,
        most_tokens=_most_tokens(data),
        prompt_tokens=max(characters, 1),
        digest=blake2b(body, digest_size=8).hexdigest(),
        stop=_stop(data),
        tools=tools if messages[-1]["role"] != "tool" else [],
        shape=_shape(data),
        step=played.step if played else None,
        textual=offer is not None and offer.textual,
    )


def _played(messages: list[dict[str, Any]], offer: Offer | None) -> Acting | None:
    try:
        return acting(messages, offer)
    except ScriptError as error:
        raise BadRequest(str(error), "messages") from None


def read_embedding(body: bytes) -> EmbeddingRequest:
    data = _object(body)
    model = _model(data)
    given = data.get("input")
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not inputs or not all(isinstance(t, str) for t in inputs):
        raise BadRequest("'input' must be a string or a list of strings", "input")
    dimensions = data.get("dimensions")
    if dimensions is not None and (
        isinstance(dimensions, bool)
        or not isinstance(dimensions, int)
        or not 1 <= dimensions <= MOST_DIMENSIONS
    ):
        message = f"'dimensions' must be a whole number from 1 to {MOST_DIMENSIONS}"
        raise BadRequest(message, "dimensions")
    return EmbeddingRequest(
        model=model,
        prompt=inputs[-1],
        inputs=inputs,
        dimensions=dimensions,
        base64=data.get("encoding_format") == "base64",
        prompt_tokens=sum(estimate_tokens(text) for text in inputs),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRequest("the body must be a JSON object")
    return data


def _model(data: dict[str, Any]) -> str:
    model = data.get("model")
    if not isinstance(model, str) or not model or len(model) > 200:
        raise BadRequest("'model' must be a string of 1 to 200 characters", "model")
    return model


def _stop(data: dict[str, Any]) -> list[str]:
    given = data.get("stop") or []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(t, str) and t for t in texts):
        raise BadRequest("'stop' must be a string or a list of strings", "stop")
    return texts


def _tools(data: dict[str, Any]) -> list[tuple[str, Any]]:
    given, choice = data.get("tools") or [], data.get("tool_choice")
    try:
        found = [(t["function"]["name"], t["function"].get("parameters")) for t in given]
    except (TypeError, KeyError, AttributeError):
        raise BadRequest("each tool needs a function with a name", "tools") from None
    if isinstance(choice, dict):
        function = choice.get("function")
        wanted = function.get("name") if isinstance(function, dict) else None
        found = [tool for tool in found if tool[0] == wanted]
        if not found:
            raise BadRequest("'tool_choice' names no tool", "tool_choice")
    return [] if choice == "none" else found


def _shape(data: dict[str, Any]) -> Any:
    """The schema of ``response_format``; None where text is wanted."""
    given = data.get("response_format")
    kind = given.get("type") if isinstance(given, dict) else given
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return {"properties": {"answer": {"type": "string"}}}
    schema = given.get("json_schema") if isinstance(given, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        message = "'response_format' must be text, json_object or json_schema"
        raise BadRequest(message, "response_format")
    return schema.get("schema") or {}


def _most_tokens(data: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = data.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadRequest(f"'{name}' must be a whole number from 1", name)
        return value
    return None


def _text(content: object, index: int) -> str:
    """The text of a message's content: a string, a list of parts, or nothing."""
    listed = isinstance(content, list) and all(isinstance(part, dict) for part in content)
    if content is None or isinstance(content, str) or listed:
        return message_text(content)
    where = f"messages[{index}].content"
    raise BadRequest("'content' must be a string or a list of parts", where)
