import json
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.net import json_bounds
from asyncsvc.net.json_bounds import (
    DIGITS_MOST,
    PARTS_MOST,
    SMALL,
    VALUES_MOST,
    BeyondBounds,
    Counts,
    check,
    counted,
    digits_at,
    outside_strings,
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


def test_a_long_number_is_found_behind_digits_in_a_text() -> None:
    digits = b"7" * 2 * DIGITS_MOST
    text = b'{"a":"say \\"' + digits + b'\\\\","b":' + PAD
    check(text + b"}")
    with pytest.raises(BeyondBounds, match="digits"):
        check(text + b',"c":' + digits + b"}")
    with pytest.raises(BeyondBounds, match="digits"):
        check(b'{"a":"x\\\\","b":' + digits + b',"c":' + PAD + b"}")


def test_counts_of_strings_may_be_taken_off() -> None:
    found = counted(b'{"a":"[[[","b":1}')
    assert found == Counts(parts=6, values=8)
    assert not found.too_many()
    assert Counts(PARTS_MOST + 3, 0).too_many(strings=2)
    assert not Counts(PARTS_MOST + 3, 0).too_many(strings=3)
    assert Counts(0, VALUES_MOST + 3).too_many(strings=2)


SIGNS = st.sampled_from([b"\\", b'"', b"a", b"[", b"0", b"12", b","])


@given(st.lists(SIGNS, max_size=60).map(b"".join), st.integers(2, 9))
def test_windows_see_what_one_look_sees(text: bytes, window: int) -> None:
    def seen() -> tuple[object, ...]:
        return outside_strings(text, 5), counted(text), digits_at(text, 3)

    whole = seen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bounds, "WINDOW", window)
        assert seen() == whole


def test_no_pass_over_a_large_text_takes_long() -> None:
    """Each call into C keeps the event loop waiting, as it holds the interpreter's lock."""
    text, longest, before = b'["' + b"x, \\\\ 1" * 1_000_000 + b'"]', 0.0, time.thread_time()

    def noted(frame: object, event: str, argument: object) -> None:
        nonlocal longest, before
        now = time.thread_time()
        longest, before = max(longest, now - before), time.thread_time()

    sys.setprofile(noted)
    try:
        check(text)
    finally:
        sys.setprofile(None)
    assert longest < 0.01
