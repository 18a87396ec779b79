"""Embeddings as providers answer them.

Owns the reading of such an answer: rows in any order, numbers or base64. Promises one finite
vector for each text, in the order of the texts, or UpstreamInvalid. Never makes a call.
"""

import math
import struct
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

from asyncsvc.errors import UpstreamInvalid


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors in the order of the texts, and what they cost."""

    vectors: list[list[float]]
    usage: dict[str, Any] | None


def refusal_in(value: Any) -> Any:
    """What of an answer with status 200 is an error; None where it is none. SiliconFlow's have
    no `error` around them."""
    if not isinstance(value, dict):
        return None
    bare = value.get("data") is None and isinstance(value.get("message"), str)
    return value.get("error") or (value if bare else None)


def embeddings_in(value: Any, count: int) -> Embeddings:
    """Raises UpstreamInvalid unless there is one vector for each of `count` texts."""
    try:
        rows = sorted(value["data"], key=lambda row: row["index"])
        vectors = [_vector(row["embedding"]) for row in rows]
    except (TypeError, KeyError, ValueError):
        raise UpstreamInvalid("the provider's answer holds no embeddings") from None
    if len(vectors) != count:
        raise UpstreamInvalid(f"{count} texts were sent, {len(vectors)} embeddings came back")
    usage = value.get("usage")
    return Embeddings(vectors, usage if isinstance(usage, dict) else None)


def _vector(given: Any) -> list[float]:
    """Numbers, or base64 of little-endian float32 (`encoding_format`). ValueError for others."""
    if not isinstance(given, str):
        return [float(x) for x in given]
    packed = b64decode(given, validate=True)
    if not packed or len(packed) % 4:
        raise ValueError("no float32")
    vector = list(struct.unpack(f"<{len(packed) // 4}f", packed))
    if not all(map(math.isfinite, vector)):
        raise ValueError("not a number")
    return vector
