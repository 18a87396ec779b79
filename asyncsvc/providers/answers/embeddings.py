"""Embeddings as providers answer them.

Owns the reading of such an answer: OpenAI's `data`, the `embeddings` of Ollama and Cohere, the bare
list of a text-embeddings-inference server; rows in any order, numbers or base64. Promises one
finite vector for each text, in the order of the texts, all of one length, or UpstreamInvalid.
Never makes a call, never guesses an order.

How rows are ordered: docs/decisions/0034-what-is-sent-and-read-by-data.md.
"""

import math
import re
import struct
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from asyncsvc.errors import UpstreamInvalid

VECTOR_MOST = 65_536
"""Numbers of one vector; the longest of a known model has 16,384. Millions would stop the loop for
seconds while they are checked, stored and sent."""
_WHOLE = re.compile(r"\s*-?\d{1,18}\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors in the order of the texts, and what they cost."""

    vectors: list[list[float]]
    usage: dict[str, Any] | None


def refusal_in(value: Any) -> Any:
    """The error in an answer with status 200; None where there is none. SiliconFlow's have
    no `error` around them."""
    if not isinstance(value, dict):
        return None
    bare = _rows(value) is None and isinstance(value.get("message"), str)
    return value.get("error") or (value if bare else None)


def embeddings_in(value: Any, count: int) -> Embeddings:
    """Raises UpstreamInvalid unless there is one vector for each of `count` texts."""
    rows = _rows(value)
    if rows is None:
        raise UpstreamInvalid("the provider's answer holds no embeddings")
    vectors = [_vector(row, position) for position, row in enumerate(rows)]
    if len(rows) != count:
        raise UpstreamInvalid(f"{count} texts were sent, {len(rows)} embeddings came back")
    vectors = [vectors[position] for position in _order(rows)]
    same_length(vectors)
    usage = value.get("usage") if isinstance(value, dict) else None
    return Embeddings(vectors, usage if isinstance(usage, dict) else None)


def same_length(vectors: Sequence[list[float]]) -> None:
    """Raises UpstreamInvalid where vectors of one task differ in length."""
    lengths = {len(vector) for vector in vectors}
    if len(lengths) > 1:
        raise UpstreamInvalid(
            f"the embeddings have different lengths: {min(lengths)} to {max(lengths)} numbers"
        )


def _rows(value: Any) -> list[Any] | None:
    """The rows of an answer in any of the known shapes, as they came; None where there are none."""
    if isinstance(value, list):
        return value or None
    if not isinstance(value, dict):
        return None
    for name in ("data", "embeddings"):
        rows = value.get(name)
        if isinstance(rows, dict):  # Cohere: by the type of the numbers
            rows = rows.get("float")
        if isinstance(rows, list):
            return rows
    one = value.get("embedding")
    return [one] if isinstance(one, list) else None


def _order(rows: list[Any]) -> Sequence[int]:
    """The rows' positions in the order of the texts. Raises UpstreamInvalid where their indexes
    contradict each other, so that no order is sure."""
    given = [_index(row) for row in rows]
    named = [index for index in given if index is not None]
    first = min(named, default=0)
    if first in (0, 1) and sorted(named) == list(range(first, first + len(rows))):
        return sorted(range(len(rows)), key=named.__getitem__)
    useless = len(set(named)) <= 1 and (len(named) == len(rows) or not named)
    if useless or _follows(given):
        return range(len(rows))
    raise UpstreamInvalid(
        f"the embeddings' indexes do not tell which text each belongs to: {given[:20]}"
    )


def _follows(given: list[int | None]) -> bool:
    """Whether the indexes that are there grow with the position, as far as they reach: gaps
    between rows without a number must have room for those rows."""
    known = [(position, index) for position, index in enumerate(given) if index is not None]
    if any(index < 0 for _, index in known):
        return False
    if len(known) < len(given):
        return len({index - position for position, index in known}) <= 1
    return all(a < b for (_, a), (_, b) in pairwise(known))


def _index(row: Any) -> int | None:
    """The row's index: a whole number, or one written as text; None where it has none."""
    index = row.get("index") if isinstance(row, dict) else None
    if isinstance(index, str) and _WHOLE.fullmatch(index):
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return index if type(index) is int else None


def _vector(row: Any, position: int) -> list[float]:
    """Numbers, or base64 of little-endian float32 (`encoding_format`)."""
    given = row.get("embedding") if isinstance(row, dict) else row
    numbers = _unpacked(given) if isinstance(given, str) else given
    if isinstance(numbers, list) and len(numbers) > VECTOR_MOST:
        raise UpstreamInvalid(
            f"row {position} of the provider's answer has {len(numbers)} numbers; an embedding has "
            f"at most {VECTOR_MOST}"
        )
    if not isinstance(numbers, list) or not numbers or not all(map(_is_number, numbers)):
        raise UpstreamInvalid(
            f"the provider's answer holds no embeddings: row {position} is no list of numbers"
        )
    vector = list(map(float, numbers))
    if not all(map(math.isfinite, vector)):
        raise UpstreamInvalid(
            f"the provider's answer holds no embeddings: row {position} has a number without end"
        )
    return vector


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


def _unpacked(text: str) -> list[float] | None:
    try:
        packed = b64decode(text, validate=True)
    except ValueError:
        return None
    if not packed or len(packed) % 4:
        return None
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))
