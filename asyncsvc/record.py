"""Values that nobody changes, checked where it costs nothing.

Owns the decorator for the records that are made by the thousand. Promises what a frozen dataclass
does, to mypy, with slots, equality and a hash by value. Never checks at run time: there a frozen
dataclass sets each field through a call, which for a task and its request was a tenth of what a
submit costs the loop.
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """The class as a dataclass; assigning to a field of it is an error of types."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
