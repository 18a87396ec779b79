"""Reasoning items: a model's thinking on its way to a client and back.

Owns `encrypted_content`, in which a client that stores nothing here carries the thinking to the
next turn: providers want it back beside the calls that it led to. It is packed, not secret: the
client sees the same text. Promises that content of another service is read as no thinking.
"""

import zlib
from base64 import b64decode, b64encode
from typing import Any

MARK = "asyncsvc1."
MOST_CHARS = 4 << 20
"""Of thinking that is unpacked."""


def packed(text: str) -> str:
    """`encrypted_content` for that thinking."""
    return MARK + b64encode(zlib.compress(text.encode())).decode("ascii")


def text(item: dict[str, Any]) -> str:
    """The thinking of a reasoning item; empty where it has none that can be read."""
    for name in ("content", "summary"):
        given = item.get(name)
        parts = given if isinstance(given, list) else []
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        if found := "".join(text for text in texts if isinstance(text, str)):
            return found
    sealed = item.get("encrypted_content")
    return _unpacked(sealed) if isinstance(sealed, str) and sealed.startswith(MARK) else ""


def _unpacked(sealed: str) -> str:
    try:
        data = b64decode(sealed.removeprefix(MARK), validate=True)
        return zlib.decompressobj().decompress(data, MOST_CHARS).decode()
    except (ValueError, zlib.error):
        return ""
