"""Bounds on JSON from outside: counted in the text, before anything is built from it.

Owns the counting of a text's values, objects and digits. Promises an answer by a few passes over
the bytes at the speed of C, each in windows, so that no other thread waits for more than one of
them: parsed first and looked at later, nine megabytes of small keys took 1.7 s of the event loop,
and ten megabytes of empty lists 2.2 s and 600 MB. Never says that something is valid JSON: that is
the parser's business.
"""

import re
from collections.abc import Iterator
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

WINDOW = 64 * 1024
"""Bytes that one pass looks at, in a tenth of a millisecond. Where a pass took ten megabytes at
once, the event loop waited for each pass."""

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
    long_at = digits_at(data, DIGITS_MOST + 1)
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
    """The counts of a text, or of a part of one; what stands in strings is counted as well. It ends
    where they are too many already."""
    parts, commas = count(data, b"[{:", PARTS_MOST), count(data, b",", VALUES_MOST)
    return Counts(parts, parts + commas + 1)


def count(data: bytes | bytearray, signs: bytes, most: int) -> int:
    """How often one of the signs is there; it ends where that is more than `most`."""
    found = 0
    for at in range(0, len(data), WINDOW):
        for sign in signs:
            found += data.count(sign, at, at + WINDOW)
        if found > most:
            break
    return found


def digits_at(data: bytes | bytearray, count: int) -> int:
    """Where so many digits in a row begin; -1: nowhere."""
    row = b"0" * count
    for at in range(0, len(data), WINDOW):
        found = data[at : at + WINDOW + count - 1].translate(DIGITS).find(row)
        if found >= 0:
            return at + found
    return -1


def _in_string(before: bytes | bytearray) -> bool:
    """Whether what follows on the beginning of a text stands in a string."""
    return sum(part.count(b'"') for part in _without_escapes(before)) % 2 == 1


def _without_escapes(data: bytes | bytearray) -> Iterator[bytes | bytearray]:
    """The windows of a text, without escaped quotes and backslashes."""
    begin = 0
    while begin < len(data):
        part = data[begin : begin + WINDOW]
        if b"\\" in part:
            if (len(part) - len(part.rstrip(b"\\"))) % 2 and begin + len(part) < len(data):
                part = part[:-1]  # it escapes what follows
            begin += len(part)
            # In this order: a backslash that is itself escaped escapes no quote.
            yield part.replace(b"\\\\", b"").replace(b'\\"', b"")
        else:
            begin += len(part)
            yield part


def outside_strings(data: bytes | bytearray, quotes_most: int) -> bytes | None:
    """What stands outside of strings; None where there are more quotes than that."""
    outside, quotes = list[bytes | bytearray](), 0
    for part in _without_escapes(data):
        pieces = part.split(b'"')
        outside += pieces[quotes % 2 :: 2]
        quotes += len(pieces) - 1
        if quotes > quotes_most:
            return None
    return b"".join(outside)
