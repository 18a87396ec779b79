"""What JSON will become, found out before anything is built of it.

Owns the limits on a large body's values, depth and whole numbers. Promises an answer by a few
passes over the bytes, at the speed of C: built first and looked at later, ten megabytes of
small objects took 357 MB and stood in the loop's way for a quarter of a second. Never says
that something is valid JSON: that is the parser's business.
"""

import re
from collections.abc import Iterator
from itertools import accumulate

from asyncsvc.errors import InvalidRequest, TaskTooLarge
from asyncsvc.net import json_bounds
from asyncsvc.net.json_bounds import count, digits_at

VALUES_MOST = 200_000
"""Values of a body, keys included: some 30 MB of Python objects at the worst."""
SHALLOW = 200
"""With fewer brackets than this nothing can be too deep."""
DEPTH_MOST = 238
"""orjson writes 254 levels; what is left is for our own answers around it."""
DEPTH_READ = 1024
"""What orjson reads; deeper is no JSON to it."""
INT64, UINT64 = -(1 << 63), (1 << 64) - 1
LONG = 19
"""Digits of the shortest whole number that may have more than 64 bits."""

_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = [1 if byte in b"[{" else -1 for byte in range(256)]
NUMBER_SIGNS = b"0123456789.eE+-"
_NUMBER = re.compile(rb"[\d.eE+\-]{19,}")


def check(data: bytes) -> None:
    """Raises TaskTooLarge or InvalidRequest for what must not be built.

    The counts of commas, colons and brackets bound the values from above; only where that is
    not enough, as prose has commas of its own, the strings are taken out and it is exact.
    """
    brackets = count(data, b"[{", SHALLOW)
    values = brackets + count(data, b",:", VALUES_MOST) + 1
    long = digits_at(data, LONG) >= 0
    if values <= VALUES_MOST and brackets <= SHALLOW and not long:
        return
    outside = outside_strings(data)
    brackets = count(outside, b"[{", VALUES_MOST)
    if brackets + count(outside, b",:", VALUES_MOST) + 1 > VALUES_MOST:
        raise _too_many()
    if brackets > SHALLOW:
        _check_depth(outside)
    if long:
        for number in _long_numbers(outside):
            _check_number(number)


def _long_numbers(outside: bytes) -> Iterator[bytes]:
    """The numbers of 19 signs and more; of one that is longer than any may be, its beginning."""
    longest = json_bounds.DIGITS_MOST + 1
    for at in range(0, len(outside), json_bounds.WINDOW):
        for found in _NUMBER.finditer(outside, at, at + json_bounds.WINDOW + longest):
            # What begins in another window is found there.
            before = outside[at - 1 : at] if found.start() == at else b""
            if found.start() < at + json_bounds.WINDOW and not (before and before in NUMBER_SIGNS):
                yield found.group()


def _check_number(number: bytes) -> None:
    """Raises InvalidRequest. Ten million digits take half a second to be read."""
    if len(number) > json_bounds.DIGITS_MOST:
        raise InvalidRequest(
            f"the body holds a number of more than {json_bounds.DIGITS_MOST} digits"
        )
    if number.removeprefix(b"-").isdigit():
        fitting(number.decode())


def fitting(digits: str) -> int:
    """The whole number. Raises InvalidRequest where orjson would make another one of it."""
    if len(digits) > 20 or not INT64 <= int(digits) <= UINT64:
        raise InvalidRequest(f"the number {digits[:40]} does not fit into 64 bits")
    return int(digits)


def too_deep() -> InvalidRequest:
    return InvalidRequest(f"the body is nested too deeply; {DEPTH_MOST} levels are allowed")


def outside_strings(data: bytes) -> bytes:
    """What stands outside of strings; too many strings are refused."""
    outside = json_bounds.outside_strings(data, 2 * VALUES_MOST)
    if outside is None:
        raise _too_many()
    return outside


def _check_depth(outside: bytes) -> None:
    depth = level = 0
    for at in range(0, len(outside), json_bounds.WINDOW):
        steps = map(
            _STEPS.__getitem__, outside[at : at + json_bounds.WINDOW].translate(None, _NO_BRACKETS)
        )
        *levels, level = accumulate(steps, initial=level)
        depth = max(depth, level, *levels)
    if DEPTH_MOST < depth <= DEPTH_READ:
        raise too_deep()


def _too_many() -> TaskTooLarge:
    return TaskTooLarge(
        f"the body holds more than {VALUES_MOST} JSON values; send fewer, or larger ones"
    )
