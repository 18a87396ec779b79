"""Answers held against the types of the `openai` package, every field of them.

All but the tools of a response, which are repeated as the test has given them.
"""

from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def response(value: dict[str, Any]) -> dict[str, Any]:
    Response.model_validate(value | {"tools": []})
    return value


def event(value: dict[str, Any]) -> dict[str, Any]:
    without_tools = {"response": value["response"] | {"tools": []}} if "response" in value else {}
    _EVENT.validate_python(value | without_tools)
    return value


def completion(value: dict[str, Any]) -> dict[str, Any]:
    ChatCompletion.model_validate(value)
    return value


def chunk(value: dict[str, Any]) -> dict[str, Any]:
    ChatCompletionChunk.model_validate(value)
    return value


def text(value: dict[str, Any]) -> dict[str, Any]:
    Completion.model_validate(value)
    return value
