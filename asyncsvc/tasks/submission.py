"""What a client may submit: the fields of `POST /tasks`, their types and their limits.

Owns the validation of one task's body. Promises that an unknown field is a fault (a typo
must not pass in silence) and that what passed can be stored. Never looks at settings, models
or the queue: whether a task is taken is the intake's business.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from asyncsvc.clock import from_rfc3339
from asyncsvc.net.egress import LONGEST
from asyncsvc.tasks import parameters

METADATA_BYTES = 16 * 1024
PREVIEW_CHARS = 200
LEVELS_AROUND = 16
"""How deep a list or a request to a provider may bury what a client has sent."""
OURS = frozenset({"model", "messages", "input", "stream", "stream_options"})
"""Parameters that the service sets itself; a client's would break streaming or routing."""

THINKING = ("on", "off", "auto")
"""What `params.thinking` may be; an object is a provider's own and passed to where it is known."""

TOOLS_MOST, FILES_MOST, STEPS_MOST = 200, 1000, 1000
_INSTEAD = {
    "tools": "; tools that the client runs itself go into params.tools",
    "token_budget": "; the tokens of an answer are bounded by params.max_tokens",
}
OF_AGENTS = ("tools", "max_steps", "token_budget", "approve", "files")
"""The fields that only an agent has."""

Lane = Literal["priority", "short", "long"]
ToolName = Annotated[str, Field(min_length=1, max_length=200)]
RouteAs = Literal["simple", "realtime", "reasoning", "batch", "general", "embedding"]
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


# What the validators below ask for, as far as JSON Schema can say it.
MESSAGE: dict[str, Any] = {
    "required": ["role"],
    "properties": {
        "role": {"enum": sorted(ROLES)},
        "content": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "object", "additionalProperties": True}},
                {"type": "null"},
            ]
        },
    },
}
PARAMS: dict[str, Any] = {
    "propertyNames": {"not": {"enum": sorted(OURS)}},
    "properties": {
        **parameters.schema(),
        "thinking": {"anyOf": [{"enum": list(THINKING)}, {"not": {"type": "string"}}]},
    },
}


def _time(text: str) -> str:
    try:
        from_rfc3339(text)
    except (ValueError, OverflowError):
        raise ValueError("must be an RFC 3339 time such as 2026-11-20T09:00:00Z") from None
    return text


Moment = Annotated[str, AfterValidator(_time)]
"""A time of RFC 3339, as it was written."""


def _size(value: Any) -> int:
    """Bytes of it as JSON. ValueError where it could be read but not be written again."""
    buried = value
    for _ in range(LEVELS_AROUND):
        buried = [buried]
    try:
        return len(orjson.dumps(buried)) - 2 * LEVELS_AROUND
    except TypeError as error:
        raise ValueError(f"cannot be stored as JSON: {error}") from None


def _fault(param: str, message: str) -> PydanticCustomError:
    """A fault of a field that only the whole shows; the answer names the field all the same."""
    return PydanticCustomError("value_error", "{fault}", {"param": param, "fault": message})


def _needs(name: str, kind: dict[str, Any]) -> dict[str, Any]:
    """In JSON Schema: what is to be done stands in this field and in no other."""
    others = {other: {"type": "null"} for other in ("content", "messages", "input")}
    fields = others | {name: kind}
    return {"required": [name], "properties": fields, "additionalProperties": True}


_LIST = {"type": "array", "items": {}, "minItems": 1}
_TEXT = {"type": "string", "minLength": 1}
# As conditions, not as alternatives: programs that make types of a schema would make three types
# of one body, each with those fields alone.
_TO_DO: dict[str, Any] = {
    "if": {"required": ["type"], "properties": {"type": {"const": "embedding"}}},
    "then": _needs("input", {"anyOf": [_TEXT, _LIST]}),
    "else": {
        "if": {"required": ["content"], "properties": {"content": {"type": "string"}}},
        "then": _needs("content", _TEXT),
        "else": _needs("messages", _LIST),
    },
}


class Submission(BaseModel):
    """The body of `POST /tasks`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra=_TO_DO,
    )

    content: str | None = Field(None, min_length=1, description="one user message")
    messages: list[dict[str, Any]] | None = Field(
        None,
        description="an OpenAI message list",
        json_schema_extra={"items": MESSAGE},
    )
    input: str | list[str] | None = Field(None, description="texts to embed")
    type: Literal["chat", "agent", "embedding"] = Field(
        "chat", description="what kind of task; an agent is a chat with tools in a loop"
    )
    model: str | None = Field(None, min_length=1, description="a model's name; null: routed")
    route_as: RouteAs | None = Field(
        None, description="the class to route it by; null: by its fields and its text"
    )
    lane: Lane = Field("short", description="priority, short or long")
    priority: int = Field(5, ge=0, le=9, description="higher first within a lane")
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="OpenAI request parameters passed on",
        json_schema_extra=PARAMS,
    )
    session_id: str | None = Field(
        None, min_length=1, max_length=200, description="tasks of one session run in order"
    )
    run_at: Moment | None = Field(
        None,
        description="not before this time (RFC 3339)",
        json_schema_extra={"format": "date-time"},
    )
    delay_s: float | None = Field(
        None, ge=0, le=366 * 86_400, allow_inf_nan=False, description="not before this many seconds"
    )
    timeout_s: float | None = Field(
        None, gt=0, le=30 * 86_400, allow_inf_nan=False, description="whole task, from its start"
    )
    max_retries: int | None = Field(None, ge=0, le=100, description="tries after the first")
    max_wait_s: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="refuse if the start is expected later; one of which nothing is known is not",
    )
    cache: bool | None = Field(None, description="answer from or into the cache")
    metadata: dict[str, Any] | None = Field(None, description="given back as it was")
    callback_url: str | None = Field(
        None, min_length=1, max_length=LONGEST, description="is sent the finished task"
    )
    retry_unsafe: bool = Field(
        False, description="repeat calls on which an agent gateway may already have acted"
    )
    tools: list[ToolName] | None = Field(
        None, max_length=TOOLS_MOST, description="of an agent: its tools; null: all"
    )
    max_steps: int | None = Field(
        None, ge=1, le=STEPS_MOST, description="of an agent: calls of its model at most; null: 25"
    )
    token_budget: int | None = Field(
        None, ge=1, le=1 << 53, description="of an agent: tokens of all its steps at most"
    )
    approve: list[ToolName] | None = Field(
        None,
        max_length=TOOLS_MOST,
        description="of an agent: tools that wait for an approval, beside those of the settings",
    )
    files: dict[str, str] | None = Field(
        None,
        max_length=FILES_MOST,
        description="of an agent: files that its workspace begins with, as path and text",
    )

    @field_validator("messages")
    @classmethod
    def _messages(cls, value: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        for index, message in enumerate(value or []):
            role = message.get("role")
            if not isinstance(role, str) or role not in ROLES:
                raise ValueError(
                    f"messages[{index}].role must be one of {', '.join(sorted(ROLES))}"
                )
            content = message.get("content")
            if content is not None and not isinstance(content, str | list):
                raise ValueError(f"messages[{index}].content must be a string or a list of parts")
        _size(value)
        return value

    @field_validator("input")
    @classmethod
    def _input(cls, value: str | list[str] | None) -> str | list[str] | None:
        _size(value)
        return value

    @field_validator("params")
    @classmethod
    def _params(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            return value
        for name in sorted(OURS & value.keys()):
            if value[name] is not None:
                beside = name in ("model", "messages", "input")
                where = "; put it beside params" if beside else ""
                raise ValueError(f"{name} is set by the service, leave it out of params{where}")
        if value.get("n") is not None and (type(value["n"]) is not int or value["n"] != 1):
            raise ValueError("n must be 1: a task has one answer")
        if (fault := parameters.fault(value)) is not None:
            raise _fault(f"params.{fault[0]}", fault[1])
        thinking = value.get("thinking")
        if isinstance(thinking, str) and thinking not in THINKING:
            raise ValueError(f"thinking must be one of {', '.join(THINKING)}")
        _size(value)
        return value

    @field_validator("tools", mode="before")
    @classmethod
    def _tools(cls, value: object) -> object:
        if isinstance(value, list) and any(isinstance(tool, dict) for tool in value):
            raise ValueError(
                "must be names of an agent's tools; tools that the client runs itself go into "
                "params.tools"
            )
        return value

    @field_validator("files")
    @classmethod
    def _files(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        _size(value)
        return value

    @field_validator("metadata")
    @classmethod
    def _metadata(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and _size(value) > METADATA_BYTES:
            raise ValueError(f"must not be larger than {METADATA_BYTES} bytes")
        return value

    @model_validator(mode="after")
    def _what_to_do(self) -> Self:
        if self.content and self.type == "chat" and self.messages is None and self.input is None:
            return self._addressed()  # as nearly all are
        given = [n for n in ("content", "messages", "input") if getattr(self, n) is not None]
        wanted = ("input",) if self.type == "embedding" else ("content", "messages")
        if len(given) != 1 or given[0] not in wanted:
            found = " and ".join(given) or "none"
            wrong = next((n for n in given if n not in wanted), wanted[0])
            raise _fault(
                wrong, f"a task of type {self.type} needs one of {', '.join(wanted)}; {found} given"
            )
        if not getattr(self, given[0]):
            raise _fault(given[0], "must not be empty")
        return self._addressed()

    def _addressed(self) -> Self:
        """Check the fields that say by which model and when the task is done."""
        if self.type != "agent":
            for name in OF_AGENTS:
                if getattr(self, name) is not None:
                    raise _fault(
                        name, f"only a task of type agent has {name}{_INSTEAD.get(name, '')}"
                    )
        elif self.params.get("tools") or self.params.get("tool_choice"):
            raise _fault("params.tools", "an agent's tools are named in the field tools")
        if self.route_as is not None:
            if self.model is not None:
                raise _fault("route_as", "give model or route_as, not both")
            if (self.route_as == "embedding") != (self.type == "embedding"):
                raise _fault("route_as", f"a task of type {self.type} is not of that class")
        if self.run_at is not None and self.delay_s is not None:
            raise _fault("run_at", "give run_at or delay_s, not both")
        return self

    def body(self) -> dict[str, Any]:
        """What the provider is asked, as it is stored: the content and the parameters."""
        if self.content is not None and self.type == "chat":
            return {"content": self.content, "params": self.params}
        given = {"content": self.content, "messages": self.messages, "input": self.input}
        given |= {name: getattr(self, name) for name in OF_AGENTS}
        return {n: v for n, v in given.items() if v is not None} | {"params": self.params}

    @property
    def notes(self) -> list[str]:
        """What of the request that the task was made from has no effect, in words."""
        return []

    def asked(self) -> str:
        """What is asked: the last user message, or the first text to embed."""
        if self.content is not None:
            return self.content
        if self.messages is not None:
            return last_user_text(self.messages)
        return self.input if isinstance(self.input, str) else (self.input or [""])[0]

    def preview(self) -> str:
        """The first 200 characters of what is asked, for lists."""
        return self.asked()[:PREVIEW_CHARS]


class Noted(Submission):
    """A submission made from another API's request, with notes on it."""

    _notes: list[str] = PrivateAttr(default_factory=list)

    @property
    def notes(self) -> list[str]:
        return self._notes

    def note(self, sentences: Iterable[str]) -> None:
        self._notes += sentences


def last_user_text(messages: list[dict[str, Any]]) -> str:
    """The text of the last user message; empty where there is none."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return " ".join(_texts(message))
    return ""


def _texts(message: dict[str, Any]) -> list[str]:
    """The texts of one message, whose content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return [text for text in texts if isinstance(text, str)]
