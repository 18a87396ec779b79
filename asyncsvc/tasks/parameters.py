"""The well-known parameters of a request to a model: their types and their ranges.

Owns one table for all APIs: `POST /tasks`, batches of tasks, the WebSocket, schedules, imports,
OpenAI's API and the lines of its batches. Types are strict, as OpenAI's are; a range is checked
where a value outside of it means nothing to any provider. Null is the same as left out. A parameter
that is not in the table passes as it is. Never decides which provider takes what: that is for the
presets.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Text = Annotated[str, Field(min_length=1)]
Object = dict[str, Any]


class _Open(BaseModel):
    """An object of which only some fields are known."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Function(_Open):
    name: Text
    description: str | None = None
    parameters: Object | None = None
    strict: bool | None = None


class Tool(_Open):
    type: Text
    function: Function | None = None

    @model_validator(mode="after")
    def _described(self) -> Self:
        if self.type == "function" and self.function is None:
            raise ValueError("a tool of type function needs the object function")
        return self


class Typed(_Open):
    type: Text


class Format(Typed):
    json_schema: Object | None = None


COUNT = "a whole number of at least 1"
FLAG = "true or false"


class Parameters(_Open):
    """The table. A description completes the sentence "NAME must be"."""

    temperature: float | None = Field(None, ge=0, description="a number of at least 0")
    top_p: float | None = Field(None, ge=0, le=1, description="a number from 0 to 1")
    min_p: float | None = Field(None, ge=0, le=1, description="a number from 0 to 1")
    top_k: int | None = Field(None, description="a whole number")
    max_tokens: int | None = Field(None, ge=1, description=COUNT)
    max_completion_tokens: int | None = Field(None, ge=1, description=COUNT)
    min_tokens: int | None = Field(None, ge=0, description="a whole number of at least 0")
    stop: str | list[str] | None = Field(None, description="a string or a list of strings")
    seed: int | None = Field(None, description="a whole number")
    n: int | None = Field(None, ge=1, le=1, description="1: a task has one answer")
    frequency_penalty: float | None = Field(None, description="a number")
    presence_penalty: float | None = Field(None, description="a number")
    repetition_penalty: float | None = Field(None, ge=0, description="a number of at least 0")
    logit_bias: dict[str, float] | None = Field(
        None, description="an object that gives a number for each token"
    )
    logprobs: bool | None = Field(None, description=FLAG)
    top_logprobs: int | None = Field(None, ge=0, description="a whole number of at least 0")
    response_format: Format | None = Field(
        None, description='an object with a type, such as {"type": "json_object"}'
    )
    tools: list[Tool] | None = Field(
        None, description="a list of objects with a type; a function has a name"
    )
    tool_choice: Text | Typed | None = Field(None, description="a word or an object with a type")
    parallel_tool_calls: bool | None = Field(None, description=FLAG)
    functions: list[Function] | None = Field(None, description="a list of objects with a name")
    function_call: Text | Object | None = Field(None, description="a word or an object")
    reasoning_effort: Text | None = Field(None, description="a word, such as low")
    verbosity: Text | None = Field(None, description="a word, such as low")
    modalities: list[str] | None = Field(None, description="a list of words")
    audio: Object | None = Field(None, description="an object")
    prediction: Object | None = Field(None, description="an object")
    web_search_options: Object | None = Field(None, description="an object")
    chat_template_kwargs: Object | None = Field(None, description="an object")
    enable_thinking: bool | None = Field(None, description=FLAG)
    ignore_eos: bool | None = Field(None, description=FLAG)
    stop_token_ids: list[int] | None = Field(None, description="a list of whole numbers")
    user: str | None = Field(None, description="a string")
    store: bool | None = Field(None, description=FLAG)
    dimensions: int | None = Field(None, ge=1, description=COUNT)
    encoding_format: Text | None = Field(None, description="a word, such as float")
    input_type: Text | None = Field(None, description="a word, such as query")


def fault(params: Mapping[str, Any]) -> tuple[str, str] | None:
    """The name of the first parameter with a wrong type or range, and what it must be; None where
    all are in order."""
    try:
        Parameters.model_validate(params)
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        return name, f"must be {Parameters.model_fields[name].description}"
    return None


def schema() -> Object:
    """The same in JSON Schema, by name, without references."""
    whole = Parameters.model_json_schema()
    known: Object = whole.get("$defs", {})
    return {name: _resolved(field, known) for name, field in whole["properties"].items()}


def _resolved(value: Any, known: Object) -> Any:
    if isinstance(value, list):
        return [_resolved(one, known) for one in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _resolved(known[value["$ref"].rpartition("/")[2]], known)
    return {
        name: _resolved(inner, known)
        for name, inner in value.items()
        if not (name == "title" and isinstance(inner, str))
    }
