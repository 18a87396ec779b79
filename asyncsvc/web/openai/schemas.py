"""The shapes of OpenAI's API: one declaration for the answers that routes build, whose fields the
type checker compares, and for the OpenAPI document.

A body that is a model is validated by it; `requests` validates those that are TypedDicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from asyncsvc.tasks import parameters
from asyncsvc.tasks.submission import MESSAGE, Lane
from asyncsvc.web.openai.requests import PROMPTS_MOST, Tool, ToolChoice
from asyncsvc.web.openai.requests import REFUSED as NOT_SUPPORTED
from asyncsvc.web.tasks.schemas import MOST, SubmitHeaders

Object = dict[str, Any]
BITS = 63
"""Bits of a whole number beside its sign: JSON is stored with no more."""
WITH_MORE = ConfigDict(extra="allow")
"""The config of types with further fields."""


REFUSED: Object = {name: {"type": "null"} for name in NOT_SUPPORTED} | {
    "logprobs": {"type": ["boolean", "null"], "not": {"const": True}},
    "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 0},
    "modalities": {
        "type": ["array", "null"],
        "items": {"type": "string", "enum": ["text"]},
        "minItems": 1,
        "maxItems": 1,
    },
}
"""Parameters that are accepted only with a value that asks for nothing."""


def with_parameters(schema: Object) -> None:
    """Add the well-known parameters to the fields of a body, which may have further ones."""
    known = {name: _bounded(field) for name, field in parameters.schema().items()}
    known |= REFUSED
    schema["properties"] = known | schema["properties"]
    schema["additionalProperties"] = True


def _bounded(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bounded(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _bounded(value) for name, value in schema.items()}
    if found.get("type") == "integer":
        return {"minimum": -(2**BITS), "maximum": 2**BITS - 1} | found
    return found


OPEN = ConfigDict(extra="allow", json_schema_extra=with_parameters)
"""The config of bodies with further parameters; the well-known ones are described."""
Text = Annotated[str, Field(min_length=1)]
Which = Annotated[str, Field(min_length=1, description="a model's name, `auto` or `auto:CLASS`")]
Message = Annotated[Object, Field(json_schema_extra=MESSAGE)]


class CallHeaders(SubmitHeaders, total=False):
    x_lane: Annotated[Lane, Field(alias="x-lane", description="priority, short or long")]
    x_priority: Annotated[int, Field(alias="x-priority", ge=0, le=9)]
    x_session_id: Annotated[
        str,
        Field(
            alias="x-session-id",
            min_length=1,
            max_length=200,
            description="tasks of one session run in order",
        ),
    ]


class StreamOptions(TypedDict, total=False):
    include_usage: bool


class ChatBody(TypedDict):
    """A chat completion; further request parameters are passed on to the provider."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    model: Which
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: NotRequired[bool | None]
    stream_options: NotRequired[StreamOptions | None]
    tools: NotRequired[list[Tool] | None]
    tool_choice: NotRequired[ToolChoice | None]
    metadata: NotRequired[Object | None]


class Choice(TypedDict):
    index: int
    message: Object
    logprobs: None
    finish_reason: str


class Completion(TypedDict):
    """An answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: Annotated[str, Field(description="the model's name in the settings")]
    choices: list[Choice]
    usage: Object | None


class CompletionsBody(TypedDict):
    """A legacy completion; further request parameters are passed on to the provider."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    model: Which
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=PROMPTS_MOST)]
    stream: NotRequired[bool | None]
    stream_options: NotRequired[StreamOptions | None]
    echo: NotRequired[Annotated[bool | None, Field(description="begin with the prompt")]]


class TextChoice(TypedDict):
    index: int
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length", "content_filter"]


class TextCompletion(TypedDict):
    """The texts that follow the prompts, in their order."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: Annotated[str, Field(description="the model's name in the settings")]
    choices: list[TextChoice]
    usage: Object | None


class EmbeddingsBody(TypedDict):
    """Texts to embed."""

    model: Which
    input: str | list[str]
    encoding_format: NotRequired[Literal["float", "base64"] | None]
    dimensions: NotRequired[int | None]


class Embedding(TypedDict):
    object: Literal["embedding"]
    index: int
    embedding: Annotated[
        list[float] | str, Field(description="numbers, or base64 of little-endian float32")
    ]


class Embeddings(TypedDict):
    """Vectors in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Object


class Model(TypedDict):
    """A name that is accepted as `model`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    type: Annotated[str | None, Field(description="chat, embedding or, of `auto`, null: both")]


class ModelList(TypedDict):
    """All models."""

    object: Literal["list"]
    data: list[Model]


Seconds = Annotated[int, Field(description="seconds since the epoch")]
Order = Literal["asc", "desc"]


class List(TypedDict):
    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


def listed(found: Sequence[Any], limit: int) -> Object:
    """A page of a list in OpenAI's shape: at most `limit` of the rows."""
    page = found[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }


class FileForm(TypedDict):
    """The parts of the form."""

    file: Annotated[str, Field(json_schema_extra={"format": "binary"})]
    purpose: Literal["batch"]


class FileObject(TypedDict):
    id: str
    object: Literal["file"]
    bytes: int
    created_at: Seconds
    expires_at: Seconds | None
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]


class FileList(List):
    data: list[FileObject]


class FilesQuery(TypedDict, total=False):
    after: str
    limit: Annotated[int, Field(ge=1, le=10_000)]
    order: Order
    purpose: str


class Deleted(TypedDict):
    id: str
    object: str
    deleted: Literal[True]


Name = Annotated[str, Field(max_length=64)]
Value = Annotated[str, Field(max_length=512)]


class BatchBody(BaseModel):
    """A batch to run; the limits of `metadata` are OpenAI's."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input_file_id: Text
    endpoint: Literal["/v1/chat/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[Name, Value], Field(max_length=16)] | None = None


class RequestCounts(TypedDict):
    total: int
    completed: int
    failed: int


class BatchObject(TypedDict):
    id: str
    object: Literal["batch"]
    endpoint: str
    errors: Object | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: Literal[
        "validating",
        "failed",
        "in_progress",
        "finalizing",
        "completed",
        "expired",
        "cancelling",
        "cancelled",
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: Seconds
    in_progress_at: Seconds | None
    expires_at: Seconds | None
    finalizing_at: Seconds | None
    completed_at: Seconds | None
    failed_at: Seconds | None
    expired_at: Seconds | None
    cancelling_at: Seconds | None
    cancelled_at: Seconds | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class BatchList(List):
    data: list[BatchObject]


class PageQuery(TypedDict, total=False):
    after: str
    limit: Annotated[int, Field(ge=1, le=100)]


class ItemsQuery(PageQuery, total=False):
    order: Order
    include: str


class ResponseQuery(TypedDict, total=False):
    stream: bool
    starting_after: Annotated[int, Field(ge=-1, le=MOST)]
    include: str


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

    __pydantic_config__ = WITH_MORE  # type: ignore[misc]

    id: str
    type: Literal["message", "reasoning", "function_call", "custom_tool_call"]
    status: Literal["in_progress", "completed", "incomplete"]


@dataclass(frozen=True)
class Echoed:
    """The mark of a field that a response repeats from its request."""

    default: Any


class ResponseObject(TypedDict):
    """A response."""

    __pydantic_config__ = WITH_MORE  # type: ignore[misc]

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
    instructions: Annotated[str | list[Object] | None, Echoed(None)]
    metadata: Annotated[Object, Echoed({})]
    max_output_tokens: Annotated[int | None, Echoed(None)]
    temperature: Annotated[float | None, Echoed(None)]
    top_p: Annotated[float | None, Echoed(None)]
    tools: Annotated[list[Object], Echoed([])]
    tool_choice: Annotated[str | Object, Echoed("auto")]
    parallel_tool_calls: Annotated[bool, Echoed(True)]
    previous_response_id: Annotated[str | None, Echoed(None)]
    background: Annotated[bool, Echoed(False)]
    store: Annotated[bool, Echoed(True)]
    text: Annotated[Object, Echoed({"format": {"type": "text"}})]
    reasoning: Annotated[Object, Echoed({"effort": None, "summary": None})]
    truncation: Annotated[str, Echoed("disabled")]
    service_tier: Annotated[str, Echoed("default")]
    user: Annotated[str | None, Echoed(None)]
    max_tool_calls: Annotated[int | None, Echoed(None)]
    prompt_cache_key: Annotated[str | None, Echoed(None)]
    safety_identifier: Annotated[str | None, Echoed(None)]
    top_logprobs: Annotated[int, Echoed(0)]


ECHOED: Object = {
    name: mark.default
    for name, kind in ResponseObject.__annotations__.items()
    for mark in getattr(kind, "__metadata__", ())
    if isinstance(mark, Echoed)
}
"""The fields of a request that its response repeats, with their defaults."""


class DeletedResponse(TypedDict):
    """A response that was removed."""

    id: str
    object: Literal["response"]
    deleted: bool


class InputItem(TypedDict):
    """What a response was given; further fields by its type."""

    __pydantic_config__ = WITH_MORE  # type: ignore[misc]

    id: str
    type: str


class InputItems(List):
    """A page of items."""

    data: list[InputItem]


class CountTokens(TypedDict):
    """A request to `/v1/responses` of which the tokens are counted."""

    __pydantic_config__ = WITH_MORE  # type: ignore[misc]

    input: Text | Annotated[list[Object], Field(min_length=1)]
    model: NotRequired[str | None]
    instructions: NotRequired[str | list[Object] | None]
    previous_response_id: NotRequired[str | None]
    tools: NotRequired[list[Object] | None]


class InputTokens(TypedDict):
    """About how many tokens a request has."""

    object: Literal["response.input_tokens"]
    input_tokens: Annotated[int, Field(ge=0, description="an estimate")]
