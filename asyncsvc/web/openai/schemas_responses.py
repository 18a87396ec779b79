"""The shapes of the Responses API's answers, as types: for the document at `/openapi.json`.

Owns the fields that are told there. Promises to cost nothing at run time. Never validates.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Object = dict[str, Any]
Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class CachedTokens(TypedDict):
    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokens(TypedDict):
    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """Tokens, as the Responses API names them."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class ResponseError(TypedDict):
    """Why a response failed."""

    code: Annotated[str, Field(description="one of OpenAI's codes")]
    message: str
    type: Annotated[str, Field(description="the task's `error.code`")]
    param: None


class Incomplete(TypedDict):
    reason: Literal["max_output_tokens", "content_filter"]


class OutputItem(TypedDict):
    """A message, thinking, or a call; further fields by its type."""

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012

    id: str
    type: Literal["message", "reasoning", "function_call", "custom_tool_call"]
    status: Literal["in_progress", "completed", "incomplete"]


class ResponseObject(TypedDict):
    """A response."""

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    model: Annotated[str, Field(description="the model's name in the settings")]
    output: list[OutputItem]
    usage: ResponseUsage | None
    error: ResponseError | None
    incomplete_details: Incomplete | None
    instructions: str | list[Object] | None
    metadata: Object
    max_output_tokens: int | None
    temperature: float | None
    top_p: float | None
    tools: list[Object]
    tool_choice: str | Object
    parallel_tool_calls: bool
    previous_response_id: str | None
    background: bool
    store: bool
    text: Object
    reasoning: Object
    truncation: str
    service_tier: str
    user: str | None
    max_tool_calls: int | None


class DeletedResponse(TypedDict):
    """A response that was removed."""

    id: str
    object: Literal["response"]
    deleted: bool


class InputItem(TypedDict):
    """What a response was given; further fields by its type."""

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012

    id: str
    type: str


class InputItems(TypedDict):
    """A page of them."""

    object: Literal["list"]
    data: list[InputItem]
    first_id: str | None
    last_id: str | None
    has_more: bool


class CountTokens(TypedDict):
    """A request to `/v1/responses`, of which the tokens are to be counted."""

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012

    input: Annotated[str, Field(min_length=1)] | Annotated[list[Object], Field(min_length=1)]
    model: NotRequired[str | None]
    instructions: NotRequired[str | list[Object] | None]
    previous_response_id: NotRequired[str | None]
    tools: NotRequired[list[Object] | None]


class InputTokens(TypedDict):
    """About how many tokens a request has."""

    object: Literal["response.input_tokens"]
    input_tokens: Annotated[int, Field(ge=0, description="an estimate")]
