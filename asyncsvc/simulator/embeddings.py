"""Simulated embeddings: unit vectors that depend on the text alone.

Promises that equal texts get equal vectors, on any machine and in any order, and that different
texts get nearly orthogonal ones. They carry no meaning.
"""

import math
import random
import struct
from base64 import b64encode
from functools import lru_cache
from hashlib import blake2b
from typing import Any

MOST_DIMENSIONS = 65536


@lru_cache(maxsize=4096)
def embed(text: str, dimensions: int) -> tuple[float, ...]:
    """The vector of a text: of length 1, ``dimensions`` numbers."""
    seed = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    chance = random.Random(seed)
    vector = [chance.uniform(-1.0, 1.0) for _ in range(dimensions)]
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return tuple(value / length for value in vector)


def payload(
    model: str, inputs: list[str], dimensions: int, prompt_tokens: int, *, base64: bool
) -> dict[str, Any]:
    """The body of an answer to an embeddings request, in the order of its inputs."""
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _shown(text, dimensions, base64)}
            for index, text in enumerate(inputs)
        ],
        "model": model,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }


def _shown(text: str, dimensions: int, base64: bool) -> str | tuple[float, ...]:
    """As OpenAI's ``encoding_format`` has it: numbers, or base64 of little-endian float32."""
    vector = embed(text, dimensions)
    if base64:
        return b64encode(struct.pack(f"<{dimensions}f", *vector)).decode("ascii")
    return vector
