"""The kinds of values that settings are made of.

Owns the types that several sections use. Promises that true and "8000" are no numbers in the
file, and that an unknown key is a fault. Never knows a section.
"""

from typing import Annotated
from urllib.parse import SplitResult

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from asyncsvc.config import secrets
from asyncsvc.net.web_addresses import parts_of

SECRET = "secret"
"""Type of the fault of a value that is a secret or may be one: it is never shown."""


class Variable(str):
    """A value from the environment, where all is text: the field's type converts it."""


def numeral(value: object) -> object:
    # In Python True is 1, so `rpm = true` would silently mean one call a minute.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    if isinstance(value, str) and not isinstance(value, Variable):
        raise ValueError("must be a number, not text")
    return value


def _truth(value: object) -> object:
    if not isinstance(value, bool | Variable):
        raise ValueError("must be true or false")
    return value


def web_address(value: str, example: str) -> SplitResult | None:
    """The parts of an address of HTTP; None for an empty one.

    Raises ValueError for others, with the example."""
    if not value:
        return None
    if (parts := parts_of(value)) is None:
        raise ValueError(f"must be an address such as {example}")
    return parts


Int = Annotated[int, BeforeValidator(numeral)]
Seconds = Annotated[float, BeforeValidator(numeral), Field(allow_inf_nan=False)]
Bool = Annotated[bool, BeforeValidator(_truth)]


class Table(BaseModel):
    """A table of the file; unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Section(Table):
    """A table of values, none of which may be a secret: variables hold those."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_secret(cls, value: object, info: ValidationInfo) -> object:
        if (wrong := secrets.fault(info.field_name or "", value)) is not None:
            raise PydanticCustomError(SECRET, "{wrong}", {"wrong": wrong})
        return value
