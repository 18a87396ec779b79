"""The kinds of values that settings are made of.

Owns the types that several sections use. Promises that true is no number and that an unknown
key is a fault. Never knows a section.
"""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def not_bool(value: object) -> object:
    # In Python True is 1, so `rpm = true` would silently mean one call a minute.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Int = Annotated[int, BeforeValidator(not_bool)]
Seconds = Annotated[float, BeforeValidator(not_bool), Field(allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the file; unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)
