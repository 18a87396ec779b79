"""The body of `POST /v1/responses`.

Owns its fields and the way from them to the parameters of a chat call. Promises that a field
which cannot be passed on is a fault that names it or a note of the task, never a silent loss.
Never looks at tasks or models.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asyncsvc.errors import InvalidRequest
from asyncsvc.web.http import errors
from asyncsvc.web.openai import fields, tools
from asyncsvc.web.openai.items import Conversation, Messages, conversation
from asyncsvc.web.openai.schemas import with_parameters
from asyncsvc.web.openai.thoughts import ENCRYPTED
from asyncsvc.web.openai.tools import Choice, Tool

Object = dict[str, Any]
PASSED = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_output_tokens": "max_tokens",
    "parallel_tool_calls": "parallel_tool_calls",
}
"""Fields that are a parameter of the chat call as they are, and its name there."""
NAMES = {"reasoning_effort": "reasoning.effort", "response_format": "text.format"}
"""What a chat parameter is called in the Responses API."""
ECHOED = ("truncation", "max_tool_calls", "service_tier", "user", "safety_identifier",
          "prompt_cache_key", "prompt_cache_retention")  # fmt: skip
"""Fields without effect here that a response repeats."""


def open_body(schema: Object) -> None:
    """The schema with further parameters, which are not read here."""
    with_parameters(schema)
    schema["additionalProperties"] = True


class CreateResponse(BaseModel):
    """A response to ask for; further request parameters are passed on to the provider."""

    model_config = ConfigDict(extra="ignore", strict=True, json_schema_extra=open_body)

    model: str = Field(min_length=1, description="a model's name, auto, or auto:reasoning")
    input: Annotated[str, Field(min_length=1)] | Annotated[list[Object], Field(min_length=1)] = (
        Field(description="a text, or a list of items")
    )
    instructions: str | list[Object] | None = Field(
        None, description="system messages for this answer only"
    )
    stream: bool | None = Field(None, description="answer with server-sent events")
    stream_options: Object | None = Field(None, description="accepted, without effect")
    background: bool | None = Field(None, description="answer at once; the task goes on by itself")
    store: bool | None = Field(None, description="false: the response cannot be read again")
    previous_response_id: str | None = Field(None, description="goes on from that response")
    metadata: Object | None = Field(None, description="given back as it was")
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: list[Tool] | None = Field(
        None, description="functions, custom tools and namespaces, called by the client"
    )
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    text: Object | None = Field(None, description="format: text, json_object or json_schema")
    reasoning: Object | None = Field(None, description="effort, passed on; summary")
    include: list[str] | None = Field(
        None, description="reasoning.encrypted_content; others are without effect"
    )

    def params(self) -> Object:
        """The parameters of the chat call, without tools. Raises InvalidRequest."""
        given = {name: getattr(self, field) for field, name in PASSED.items()}
        params = {name: value for name, value in given.items() if value is not None}
        if self.text is not None:
            params |= _text(self.text)
        if self.reasoning is not None and self.reasoning.get("effort") is not None:
            params["reasoning_effort"] = self.reasoning["effort"]
        return params

    def head(self) -> Messages:
        """The messages that the instructions are. Raises InvalidRequest."""
        if isinstance(self.instructions, list):
            return conversation(self.instructions).messages
        return [{"role": "system", "content": self.instructions}] if self.instructions else []

    def said(self) -> Conversation:
        """What the input is. Raises InvalidRequest."""
        given = self.input
        if isinstance(given, str):
            given = [{"role": "user", "content": given}]
        found = conversation(given)
        if not found.messages:
            raise InvalidRequest("input must hold at least one message", param="input")
        return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A body, read: its fields, what the call is given, and what is stored of the request."""

    wanted: CreateResponse
    messages: Messages
    params: Object
    notes: list[str]
    kept: Object


def read(given: Object, earlier: Messages) -> Asked:
    """A body behind the messages of earlier responses. Raises InvalidRequest."""
    wanted = parse(given)
    rest = {name: value for name, value in given.items() if name not in CreateResponse.model_fields}
    more, notes = fields.parameters(rest)
    said, head = wanted.said(), wanted.head()
    params = wanted.params()
    fields.check(params, NAMES)
    params |= more
    given_tools = [*(wanted.tools or []), *said.tools]
    chosen: Object = {} if wanted.tool_choice is None else {"tool_choice": wanted.tool_choice}
    params |= tools.checked(chosen | ({"tools": given_tools} if given_tools else {}))
    fields.check({name: params[name] for name in fields.TOOLS if name in params})
    if said.left_out:
        kinds = ", ".join(dict.fromkeys(said.left_out))
        notes.append(f"items of type {kinds} stand for no chat message; left out")
    unused = [name for name in wanted.include or [] if name != ENCRYPTED]
    notes += fields.without_effect([f"include {name[:60]}" for name in unused])
    kept = wanted.model_dump(exclude_none=True, exclude={"stream", "stream_options"})
    kept |= {name: given[name] for name in ECHOED if name in given}
    kept["head"] = len(head)
    return Asked(wanted, head + earlier + said.messages, params, notes, kept)


def parse(given: Object) -> CreateResponse:
    """Raises InvalidRequest."""
    try:
        return CreateResponse.model_validate(given)
    except ValidationError as error:
        fault = errors.invalid(error)
        raise InvalidRequest(str(fault), param=fault.param) from None


def _text(text: Object) -> Object:
    params: Object = {}
    if text.get("verbosity") is not None:
        params["verbosity"] = text["verbosity"]
    given = text.get("format") or {"type": "text"}
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "json_object":
        params["response_format"] = {"type": "json_object"}
    elif kind == "json_schema" and isinstance(given.get("schema"), dict):
        schema = {k: v for k, v in given.items() if k != "type" and v is not None}
        params["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif kind != "text":
        raise InvalidRequest(
            "text.format must be of type text, json_object, or json_schema with a schema",
            param="text.format",
        )
    return params
