"""What a large body would become, counted before it is built."""

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsvc.errors import InvalidJson, InvalidRequest, RequestError, TaskTooLarge
from asyncsvc.net import json_bounds
from asyncsvc.web.http import json_size as structure
from asyncsvc.web.http.body import as_object
from asyncsvc.web.http.body_memory import SMALL
from asyncsvc.web.http.json_size import DEPTH_MOST, VALUES_MOST, check

PADDING = "x" * SMALL
"""Makes a body large, so that it is looked at before it is built."""


def padded(value: str) -> bytes:
    return b'{"pad": "%s", "k": %s}' % (PADDING.encode(), value.encode())


MANY = {
    "empty objects": b'{"k": [' + b",".join([b"{}"] * VALUES_MOST) + b"]}",
    "small objects": b'{"k": [' + b",".join([b'{"a":1}'] * 1_250_000) + b"]}",
    "lists in a row": b'{"k": [' + b"[],[]," * (VALUES_MOST // 2) + b"0]}",
    "numbers": b'{"k": [' + b"1," * VALUES_MOST + b"1]}",
    "strings": b'{"k": [' + b'"",' * VALUES_MOST + b'""]}',
    "keys": b"{" + b",".join(b'"%d":0' % n for n in range(VALUES_MOST)) + b"}",
    "quotes alone": b'{"k' + b'",' * (5 * VALUES_MOST),
}


@pytest.mark.parametrize("data", MANY.values(), ids=MANY)
def test_too_many_values_are_never_built(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orjson, "loads", pytest.fail)
    with pytest.raises(TaskTooLarge, match=str(VALUES_MOST)):
        as_object(data)


PROSE = {
    "commas": "one, two, three: [a] {b}, " * 100_000,
    "quotes": 'he wrote "no, never", ' * 100_000,
    "backslashes": "C:\\a\\, \\\\, \\\"[x]\\' " * 100_000,
    "ends with a backslash": ", " * VALUES_MOST + "\\",
    "code": 'f({"a": [1, 2, {"b": "\\n"}]}),\n' * 50_000,
    "digits": f"{2**70}, " * 20_000,
    "Chinese": "你好，世界, [1]: " * 100_000,
}


@pytest.mark.parametrize("text", PROSE.values(), ids=PROSE)
def test_text_may_look_like_anything(text: str) -> None:
    for data in (json.dumps({"content": text}), orjson.dumps({"content": text}).decode()):
        assert as_object(data) == {"content": text}


def test_the_most_values_are_taken() -> None:
    data = b'{"k": [' + b"1," * (VALUES_MOST - 4) + b"1]}"
    assert len(as_object(data)["k"]) == VALUES_MOST - 3
    with pytest.raises(TaskTooLarge):
        as_object(data.replace(b"[", b"[1,1,", 1))


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def outcome(read: Callable[[], Any]) -> Any:
    try:
        read()
    except RequestError as error:
        return type(error)
    return None


@pytest.mark.parametrize("depth", [200, 236, 237, 238, 239, 500, 1022, 1023, 1024, 5000])
def test_a_large_body_may_be_as_deep_as_a_small_one(depth: int) -> None:
    small = outcome(lambda: as_object(b'{"k": %s}' % nested(depth).encode()))
    assert outcome(lambda: as_object(padded(nested(depth)))) is small
    assert small is (
        None if depth < DEPTH_MOST else InvalidRequest if depth < 1024 else InvalidJson
    )


def test_brackets_in_strings_are_no_depth() -> None:
    assert as_object(padded(json.dumps("[" * 10_000)))["k"] == "[" * 10_000


@pytest.mark.parametrize("number", [str(2**64), str(-(2**63) - 1), "9" * 30, "1" * 5000])
@pytest.mark.parametrize("form", ["%s", "[%s]", '{"x":%s}', " %s "])
def test_numbers_that_would_be_changed_are_refused(number: str, form: str) -> None:
    with pytest.raises(InvalidRequest, match=r"64 bits|1000 digits"):
        as_object(padded(form % number))


@pytest.mark.parametrize(
    "text",
    [str(2**64 - 1), str(-(2**63)), "1.12345678901234567890123", "1e0000000000000000000001",
     "1234567890123456789012.5", "12345678901234567890e-5", f'"{2**80}"'],
)  # fmt: skip
def test_numbers_that_keep_their_value_are_taken(text: str) -> None:
    assert as_object(padded(text))["k"] == json.loads(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(-1, 1),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def counted(value: Any) -> tuple[int, int]:
    """(values and keys, strings of both kinds)"""
    if isinstance(value, dict):
        inner = [counted(v) for v in value.values()]
        return 1 + len(value) + sum(v for v, _ in inner), 0
    if isinstance(value, list):
        return 1 + sum(counted(v)[0] for v in value), 0
    return 1, 0


@given(value=JSON)
@settings(max_examples=200, deadline=None)
def test_the_count_is_never_below_the_truth(value: Any) -> None:
    for data in (json.dumps(value).encode(), orjson.dumps(value)):
        outside = structure.outside_strings(data)
        held = sum(outside.count(sign) for sign in (b",", b":", b"[", b"{")) + 1
        assert held >= counted(value)[0]
        assert held <= 2 * counted(value)[0]
        check(data)


NUMBERS = ["1", "-9223372036854775808", "18446744073709551615", "18446744073709551616", "1.5e3"]
NUMBERS += ["123456789012345678.90123456789012345678", "-9223372036854775809", "1e-400", "0" * 25]


@given(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=8), st.integers(20, 90))
def test_long_numbers_are_found_wherever_a_window_ends(numbers: list[str], window: int) -> None:
    data = padded(f"[{','.join(numbers)}]")

    def seen() -> str:
        try:
            check(data)
        except RequestError as error:
            return str(error)
        return "fits"

    whole = seen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bounds, "WINDOW", window)
        assert seen() == whole


@pytest.mark.parametrize("window", [7, 100])
def test_depth_is_counted_over_windows(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_bounds, "WINDOW", window)
    lists = DEPTH_MOST - 2  # beside the object around them and the innermost one
    check(padded("[" * lists + "[],[]" + "]" * lists))
    with pytest.raises(InvalidRequest, match="deep"):
        check(padded("[" * lists + "[[]]" + "]" * lists))
