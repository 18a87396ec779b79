"""Bounds on JSON from outside: counted in the text, before anything is built from it.

Owns the counting of a text's values, objects and digits. Promises an answer by a few passes over
the bytes at the speed of C: parsed first and looked at later, nine megabytes of small keys took
1.7 s of the event loop, and ten megabytes of empty lists 2.2 s and 600 MB. Never says that
something is valid JSON: that is the parser's business.
"""

import re
from typing import NamedTuple

SMALL = 64 * 1024
"""A shorter text needs no look: it can hold nothing that takes more than some milliseconds."""
VALUES_MOST = 2_000_000
"""Values of a provider's answer: some 500 vectors of 4096 numbers, 60 MB as Python objects."""
PARTS_MOST = 200_000
"""Of these, objects, lists and keys, which cost most: a quarter of a second, some 40 MB."""
DIGITS_MOST = 1000
"""Digits of a number. The largest that a float can hold has 309 before its point."""
DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
"""Translates each digit into 0 and all else into a blank."""

TOO_LONG = f"it holds a number of more than {DIGITS_MOST} digits"
TOO_MANY = f"it holds more than {VALUES_MOST} values, or {PARTS_MOST} objects, lists and keys"
_LONG_NUMBER = re.compile(rb"\d{%d}" % (DIGITS_MOST + 1))


class BeyondBounds(ValueError):
    """The text holds more than may be built from it; the message says what."""


def check(data: bytes | bytearray) -> None:
    """Raises BeyondBounds where parsing the text would cost far more than its size says.

    The counts are bounds from above; only where they are not enough, as prose has commas and
    digits of its own, the strings are taken out and the counts are exact.
    """
    if len(data) <= SMALL:
        return
    long_at = data.translate(DIGITS).find(b"0" * (DIGITS_MOST + 1))
    if long_at >= 0 and not _in_string(data[:long_at]):
        raise BeyondBounds(TOO_LONG)
    found = counted(data)
    if long_at < 0 and not found.too_many():
        return
    outside = outside_strings(data, 2 * VALUES_MOST)
    if outside is not None:
        if long_at >= 0 and _LONG_NUMBER.search(outside):
            raise BeyondBounds(TOO_LONG)
        # Where strings are few, they are counted a second time for nothing.
        if not found.too_many(len(data) - len(outside)) and not counted(outside).too_many():
            return
    raise BeyondBounds(TOO_MANY)


class Counts(NamedTuple):
    """At most so many values, and of these so many objects, lists and keys."""

    parts: int = 0
    values: int = 0

    def too_many(self, strings: int = 0) -> bool:
        """Whether they are too many, even if all of so many bytes in strings have been counted."""
        return self.parts - strings > PARTS_MOST or self.values - strings > VALUES_MOST


def counted(data: bytes | bytearray) -> Counts:
    """The counts of a text, or of a part of one; what stands in strings is counted as well."""
    parts = data.count(b"[") + data.count(b"{") + data.count(b":")
    return Counts(parts, parts + data.count(b",") + 1)


def _in_string(before: bytes | bytearray) -> bool:
    """Whether what follows on the beginning of a text stands in a string."""
    return _without_escapes(before).count(b'"') % 2 == 1


def _without_escapes(data: bytes | bytearray) -> bytes | bytearray:
    if b"\\" in data:
        # In this order: a backslash that is itself escaped escapes no quote.
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    return data


def outside_strings(data: bytes | bytearray, quotes_most: int) -> bytes | None:
    """What stands outside of strings; None where there are more quotes than that."""
    data = _without_escapes(data)
    if data.count(b'"') > quotes_most:
        return None
    return b"".join(data.split(b'"')[::2])
