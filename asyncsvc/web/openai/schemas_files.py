"""The shapes of `/v1/files` and `/v1/batches`, as types: for the document at `/openapi.json`.

Owns the fields that are told there. Promises to cost nothing at run time. Never validates.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from asyncsvc.web.tasks.schemas import MOST

Object = dict[str, Any]
Seconds = Annotated[int, Field(description="seconds since the epoch")]
Order = Literal["asc", "desc"]


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


class FileList(TypedDict):
    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FilesQuery(TypedDict, total=False):
    after: str
    limit: Annotated[int, Field(ge=1, le=10_000)]
    order: Order
    purpose: str


class Deleted(TypedDict):
    id: str
    object: str
    deleted: Literal[True]


class BatchBody(TypedDict):
    input_file_id: Annotated[str, Field(min_length=1)]
    endpoint: Literal["/v1/chat/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: Literal["24h"]
    metadata: NotRequired[dict[str, str] | None]


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


class BatchList(TypedDict):
    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


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
