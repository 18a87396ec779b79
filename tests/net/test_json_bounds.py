import json
import time

import pytest

from asyncsvc.net.json_bounds import (
    DIGITS_MOST,
    PARTS_MOST,
    SMALL,
    VALUES_MOST,
    BeyondBounds,
    check,
)

PAD = b'"' + b"x" * SMALL + b'"'


@pytest.mark.parametrize(
    "text",
    [
        b'{"x":[' + b"[]," * PARTS_MOST + b"1]}",
        b'{"x":[' + b"{}," * PARTS_MOST + b"1]}",
        b"{" + b",".join(b'"%d":0' % i for i in range(PARTS_MOST + 1)) + b"}",
        b"{" + b",".join(b'"a":0' for _ in range(PARTS_MOST + 1)) + b"}",
        b'{"a":' * (PARTS_MOST + 1),
        b"[" * (PARTS_MOST + 1),
        b"[" + b"1," * VALUES_MOST + b"1]",
        b'["' + b'","' * VALUES_MOST + b'"]',
    ],
    ids=["lists", "objects", "keys", "one key", "deep objects", "deep lists", "numbers", "texts"],
)
def test_more_values_than_may_be_built_are_refused(text: bytes) -> None:
    with pytest.raises(BeyondBounds, match="values"):
        check(text)


@pytest.mark.parametrize("form", [b"%s", b"-%s", b"0.%s", b"1e%s", b"%s.5", b"%se5", b"1E-%s"])
def test_a_number_of_very_many_digits_is_refused(form: bytes) -> None:
    with pytest.raises(BeyondBounds, match="digits"):
        check(b"[" + PAD + b"," + form % (b"7" * 2 * DIGITS_MOST) + b"]")
    check(b"[" + PAD + b"," + form % (b"7" * 300) + b"]")


@pytest.mark.parametrize(
    "value",
    [
        "one, two, three: " * PARTS_MOST,
        "[]{}" * PARTS_MOST,
        "3.14159" + "2653" * DIGITS_MOST,
        '\\" "[{:,' * PARTS_MOST,
        [[0.123456789] * 4096 for _ in range(64)],
    ],
    ids=["prose", "brackets in a text", "digits in a text", "quotes in a text", "64 vectors"],
)
def test_what_stands_in_texts_does_not_count(value: object) -> None:
    check(json.dumps({"choices": [value]}).encode())


def test_a_short_text_is_not_looked_at() -> None:
    check(b"[" * SMALL)


def test_the_check_costs_no_more_than_reading() -> None:
    text = json.dumps({"text": "words, 12345 and 0.5: [more] " * 300_000}).encode()
    began = time.process_time()
    json.loads(text)
    reading, began = time.process_time() - began, time.process_time()
    check(text)
    assert time.process_time() - began < 20 * reading + 0.1
