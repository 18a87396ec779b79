"""The settings of one model.

Owns names, types, defaults, limits and the description of each value of `[models.NAME]`, as
`settings.py` does of all others. Never holds a key: it names the variables that do.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError, core_schema

from asyncsvc.config.value_types import SECRET, Bool, Int, Seconds, Section, numeral
from asyncsvc.net.egress import Refused, read


@dataclass(frozen=True)
class OrAuto:
    """A whole number within bounds, or the word "auto"."""

    ge: int
    le: int

    def __get_pydantic_core_schema__(self, _: object, __: object) -> core_schema.CoreSchema:
        number = core_schema.int_schema(ge=self.ge, le=self.le)
        return core_schema.no_info_wrap_validator_function(self._check, number)

    def _check(self, value: object, number: core_schema.ValidatorFunctionWrapHandler) -> object:
        return "auto" if value == "auto" else number(numeral(value))


ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/responses")
"""What is often copied along with an address."""
IntOrAuto = int | Literal["auto"]


ModelClass = Literal["simple", "realtime", "reasoning", "batch", "general"]


class Model(Section):
    enabled: Bool = Field(True, description="false takes the model out of service")
    type: Literal["chat", "embedding"] = Field("chat", description="what the model does")
    protocol: Literal["openai", "openclaw-ws"] = Field("openai", description="how it is spoken to")
    preset: str | None = Field(None, description="provider's dialect: base URL and parameters")
    base_url: str | None = Field(None, description="address up to and without /chat/completions")
    api_key_env: str | None = Field(None, description="variable that holds the key")
    api_key_envs: list[str] = Field([], description="several such variables, one gate each")
    model: str | list[str] = Field(description="the provider's model id, or several in order")
    usage: Literal["auto", "stream_options", "none"] = Field(
        "auto",
        description='how usage is asked for in a stream: "auto" is the preset\'s way, '
        '"stream_options" always asks, "none" never does',
    )
    tool_calling: Bool | None = Field(
        None,
        description="whether it calls an agent's tools by OpenAI's API; false: it calls them by "
        "its text; not set: the preset's way",
    )
    aliases: list[str] = Field([], description="other names under which the model can be asked for")
    concurrency: Annotated[IntOrAuto, OrAuto(1, 10_000)] = Field(
        5, description='calls at once, per key; "auto" learns it'
    )
    rpm: Annotated[IntOrAuto, OrAuto(0, 1_000_000)] = Field(
        0, description='calls in any window; 0 is unlimited, "auto" learns it'
    )
    rpm_window_s: Seconds = Field(60.0, gt=0, le=86_400, description="length of that window")
    tpm: Int = Field(
        0, ge=0, le=1_000_000_000, description="tokens in any such window; 0 is unlimited"
    )
    context: Int = Field(131_072, ge=1, description="tokens of context")
    good_at: list[ModelClass] = Field(["general"], description="classes of tasks it is meant for")
    weight: Seconds = Field(1.0, gt=0, description="preference among equals")
    extra_body: dict[str, Any] = Field({}, description="merged into each request")
    extra_headers: dict[str, str] = Field({}, description="headers sent with each request")

    @field_validator("base_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.lower().startswith(("http://", "https://", "ws://", "wss://")):
            raise ValueError("must start with http:// or https://")
        try:
            url = read(value, ("http", "https", "ws", "wss"))
        except Refused as error:
            raise ValueError(f"is no address that can be called: {error}") from None
        if url.raw_query_string or url.raw_fragment or "?" in value or "#" in value:
            # What follows ? would stand before /chat/completions, and is a key as a rule.
            raise PydanticCustomError(
                SECRET, "must have no ? or #: a key belongs into the variable of api_key_env"
            )
        value = value.rstrip("/")
        for ending in ENDPOINTS:
            if value.lower().endswith(ending):
                raise ValueError(
                    f"ends with {ending}, which each call adds by itself; write "
                    f"{value[: -len(ending)]}"
                )
        return value

    @field_validator("usage", mode="before")
    @classmethod
    def _usage(cls, value: object) -> object:
        """true and false read well in a file: ask, or do not."""
        words = {"true": "stream_options", "false": "none"}
        return words.get(str(value).lower(), value)

    @field_validator("model", mode="before")
    @classmethod
    def _some_model(cls, value: object) -> object:
        ids = [value] if isinstance(value, str) else value
        if not isinstance(ids, list) or not ids or not all(isinstance(i, str) and i for i in ids):
            raise ValueError("must be a model id, or a list of them")
        return value

    @model_validator(mode="after")
    def _scheme(self) -> "Model":
        if self.protocol == "openai" and (self.base_url or "").lower().startswith("ws"):
            raise ValueError("base_url must start with http:// or https:// unless by openclaw-ws")
        return self

    @model_validator(mode="after")
    def _one_way_to_keys(self) -> "Model":
        if self.api_key_env is not None and self.api_key_envs:
            raise ValueError("give api_key_env or api_key_envs, not both")
        return self

    @property
    def model_ids(self) -> list[str]:
        """The provider's ids, in the order in which they are tried."""
        return [self.model] if isinstance(self.model, str) else list(self.model)

    @property
    def counted(self) -> bool:
        """Whether calls count against something that outlives the process."""
        return bool(self.rpm or self.tpm)

    @property
    def key_variables(self) -> list[str]:
        """The variables that hold keys; empty where none is needed."""
        return [self.api_key_env] if self.api_key_env else list(self.api_key_envs)
