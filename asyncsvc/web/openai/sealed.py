"""Fields of a message inside a reasoning item's `encrypted_content`.

Owns the form: a prefix and base64 of JSON. It is not encrypted, only opaque, for a client gives it
back as it is. Promises that what was made here is read again, and that another service's content
is left alone.
"""

import binascii
from base64 import b64decode, b64encode
from typing import Any

import orjson

PREFIX = "asyncsvc1:"


def sealed(fields: dict[str, Any]) -> str:
    """The fields as one opaque text."""
    return PREFIX + b64encode(orjson.dumps(fields)).decode()


def opened(text: Any) -> dict[str, Any]:
    """The fields of such a text; none where it is another one."""
    if not isinstance(text, str) or not text.startswith(PREFIX):
        return {}
    try:
        fields = orjson.loads(b64decode(text[len(PREFIX) :], validate=True))
    except (binascii.Error, orjson.JSONDecodeError):
        return {}
    return fields if isinstance(fields, dict) else {}
