"""Signatures of what we send, as Standard Webhooks 1.0 defines them.

Owns the secrets of the webhooks and the three headers. Promises that a secret is never shown,
not even in an error. Never sends anything.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Self

from asyncsvc.errors import SettingsError

PREFIX = "whsec_"
LEAST, MOST = 24, 64
"""Bytes of a secret that the specification allows."""


class Signer:
    """Signs with each of its keys; false where it has none."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    @classmethod
    def of(cls, variable: str, environ: Mapping[str, str]) -> Self:
        """With the secrets in the variable, separated by spaces. Raises SettingsError."""
        held = environ.get(variable, "").split()
        return cls([_key(variable, number, text) for number, text in enumerate(held, 1)])

    def headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The headers of one attempt; `timestamp` in seconds since the epoch."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        found = [hmac.digest(key, signed, hashlib.sha256) for key in self._keys]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in found),
        }


def _key(variable: str, number: int, text: str) -> bytes:
    """Every library reads a secret as base64, so one that is not would verify nowhere."""
    bare = text.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not LEAST <= len(key) <= MOST:
        raise SettingsError(
            [
                f"{variable}: secret {number} must be {LEAST} to {MOST} bytes in base64, "
                f"with or without {PREFIX} before them; make one with: python -c "
                "'import base64, os; print(\"whsec_\" + base64.b64encode(os.urandom(32)).decode())'"
            ]
        )
    return key
