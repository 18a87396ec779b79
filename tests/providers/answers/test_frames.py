"""From bytes to frames: the standard of event streams, and how providers depart from it."""

import tracemalloc
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncsvc.errors import UpstreamTooLarge
from asyncsvc.net import json_bounds
from asyncsvc.providers.answers.frames import WHOLE_BYTES, Frames, Mark, Odd

DONE, PULSE = Mark.DONE, Mark.PULSE
MB = 1024 * 1024
MOST_BYTES = 8_000_000


def frames(parts: Iterable[bytes], *, final: bool = False) -> list[Any]:
    body = Frames(final=final, most=MOST_BYTES)
    found = [frame for part in parts for frame in body.feed(part)]
    return found + body.end()


def read(body: bytes, **how: bool) -> list[Any]:
    return frames([body], **how)


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


A, B = {"a": 1}, {"b": [2, "x"]}

EVENTS: list[tuple[bytes, list[Any]]] = [
    (b'data: {"a":1}\n\ndata: {"b":[2,"x"]}\n\n', [A, B]),
    (b'data:{"a":1}\r\n\r\ndata:{"b":[2,"x"]}\r\n\r\n', [A, B]),
    (b'data: {"a":1}\r\rdata: {"b":[2,"x"]}\r\r', [A, B]),
    (b'data: {"a":1}\n\r\ndata: {"b":[2,"x"]}\r\n\n', [A, B]),
    (b'\xef\xbb\xbfdata: {"a":1}\n\n', [A]),
    (b'\n\r\n\rdata: {"a":1}\n\n', [A]),
    (b': comment\n\ndata: {"a":1}\n\n: a\n: b\n', [PULSE, A, PULSE]),
    (b'id: 1\nretry: 5\nevent: chunk\ndata: {"a":1}\n\n', [A]),
    (b'event: ping\n\nid: 7\n\nretry: 1\n\ndata: {"a":1}\n\n', [PULSE, PULSE, PULSE, A]),
    (b'data\n\ndata:\n\ndata: {"a":1}\n\n', [PULSE, PULSE, A]),
    (b'data: {\ndata:"a"\ndata: :1}\n\n', [A]),
    (b'data: {"a":1}\n\ndata: {"b":[2,"x"]}', [A, B]),
    (b'data: {"a":1}\n\ndata: {"b":[2,"x"]}\n', [A, B]),
    (b'data: {"a":1}\n\ndata: {"b":[2,', [A]),
    (b'data: {"a":1}\n\ndata: [DONE]\n\n', [A, DONE]),
    (b"data:  [DONE] \n\n", [DONE]),
    (b"data: [DONE]", [DONE]),
    (b'data: {"a":1}\ndata: {"b":[2,"x"]}\ndata: [DONE]\n\n', [A, B, DONE]),
    (b'data: data: {"a":1}\n\ndata: data:data: [DONE]\n\n', [A, Odd]),
    (b'data: data: {"a":1}\ndata: data: {"b":[2,"x"]}\ndata: data: [DONE]\n\n', [A, B, DONE]),
    (b'data: {"a":1}{"b":[2,"x"]}\n\n', [A, B]),
    (b'data: \xef\xbb\xbf{"a":1}\n\n', [A]),
    (b'data: {"a":1,}\n\ndata: {"b":[2,"x"]}\n\n', [Odd, B]),
    (b'data: busy\n\ndata: {"a":1}\n\n', [Odd, A]),
    (b"data: 7\n\n", [7]),
    (b'event: error\ndata: {"a":1}\n\n', [{"error": A}]),
    (b'event: error\ndata: {"error":{"a":1}}\n\n', [{"error": A}]),
    (b'event: error\n\ndata: {"a":1}\n\n', [PULSE, A]),
    (b'dataset: {"a":1}\n\ndata: {"b":[2,"x"]}\n\n', [B, Odd]),
    (b'data: {"a":1}\n\n{"b":[2,"x"]}\n\n', [A, B]),
    (b'data: {"a":1}\n\n{"choices":[{}]}\n\n', [A]),
    (b"upstream is busy\n", [Odd]),
    (b"event", []),
    (b"d", []),
    (b'data: {"a":1}\n\ndat', [A]),
    (b"", []),
    (b" \n", []),
    (b"\xef\xbb\xbf", []),
]


def shape(found: list[Any]) -> list[Any]:
    return [Odd if isinstance(frame, Odd) else frame for frame in found]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(("body", "wanted"), EVENTS, ids=[str(body) for body, _ in EVENTS])
def test_an_event_stream_wherever_it_is_cut(body: bytes, wanted: list[Any], size: int) -> None:
    # A comment counts once for each part of the network.
    found = [f for f in shape(frames(cut(body, size))) if f is not PULSE]
    assert found == [f for f in wanted if f is not PULSE]


@pytest.mark.parametrize(("body", "wanted"), EVENTS, ids=[str(body) for body, _ in EVENTS])
def test_signs_of_life_are_reported(body: bytes, wanted: list[Any]) -> None:
    found = shape(read(body))
    assert found == wanted


def test_a_frame_does_not_wait_for_the_line_after_it() -> None:
    body = Frames()
    assert body.feed(b'data: {"a":1}\n') == [A]
    assert body.feed(b'data: {"b":[2,"x"]}\r') == [B]
    assert body.feed(b"\n") == []


JSON: list[tuple[bytes, list[Any]]] = [
    (b'{"a":1}', [A]),
    (b'\xef\xbb\xbf\n {"a":1}\n', [A]),
    (b'\n\xef\xbb\xbf \r\n{"a":1}\n', [A]),
    (b'{"a":1}\n{"b":[2,"x"]}\n', [A, B]),
    (b'{"a":1} trailing words', [A]),
    (b'[{"a":1}]', [[A]]),
    (b'{"a":[NaN,-Infinity,Infinity,1e999,1.5]}', [{"a": [None, None, None, None, 1.5]}]),
    (b'{"a":"x\ty\nz\x00\x1f"}', [{"a": "x\ty\nz\x00\x1f"}]),
    (b'{"a":"\\ud83d\\ude00"}', [{"a": "😀"}]),
    (b'{"a":"\\ud83d","\\ude00":"x\\ude00"}', [{"a": "\ufffd", "\ufffd": "x\ufffd"}]),
    (b'{"a":', [Odd]),
    (b'{"a":"\xff"}', [Odd]),
    (b"[" * 5000, [Odd]),
    (b'{"a":' + b"9" * 5000 + b"}", [Odd]),
    (b"<html><title>Sorry</title>", [Odd]),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 10_000])
@pytest.mark.parametrize(("body", "wanted"), JSON, ids=[str(body[:40]) for body, _ in JSON])
def test_json_and_pages(body: bytes, wanted: list[Any], size: int) -> None:
    assert shape(frames(cut(body, size))) == wanted


def test_json_is_read_as_soon_as_it_is_whole() -> None:
    body = Frames()
    assert body.feed(b'{"a":') == []
    assert body.feed(b"1}\n") == [A]
    assert body.end() == []


@pytest.mark.parametrize("body", [b"null", b"7", b'"x"'])
def test_a_document_that_is_no_object(body: bytes) -> None:
    assert read(body, final=True) == [orjson.loads(body)]


@pytest.mark.parametrize("row", [b'{"a":[1]},', b"1,", b"[],", b'"x",'])
def test_a_document_beyond_the_bounds_is_not_read_to_its_end(row: bytes) -> None:
    body, fed = Frames(final=True, most=1 << 30), 0
    part = row * (100_000 // len(row))
    found = body.feed(b'{"data":[')
    while not found:
        found = body.feed(part)
        fed += len(part)
        assert fed < 20_000_000
    (odd,) = found
    assert (type(odd), odd.like_json) == (Odd, True)
    assert "holds more than 2000000 values" in odd.why
    assert body.feed(part) == body.end() == []


def test_brackets_in_a_long_text_do_not_matter() -> None:
    value = {"a": "}] [{" + "[{" * 300_000}
    body = orjson.dumps(value)
    assert len(body) > WHOLE_BYTES // 2
    for size in (70_000, len(body)):
        parts = cut(body, size)
        assert frames(parts, final=True) == [value]
    longer = {"a": "}" * (2 * WHOLE_BYTES)}
    reading = Frames(final=True, most=1 << 30)
    assert reading.feed(orjson.dumps(longer)) == [], "it may go on"
    assert reading.end() == [longer]


LONG_NUMBER = b"1" * 70_000


def test_a_number_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    check = json_bounds.check

    def counted(data: bytes) -> None:
        checked.append(len(data))
        check(data)

    monkeypatch.setattr(json_bounds, "check", counted)
    (odd, after) = read(b'data: {"a":' + LONG_NUMBER + b'}\n\ndata: {"a":1}\n\n')
    assert (type(odd), odd.why, after) == (
        Odd,
        "the provider sent JSON that is not read: it holds a number of more than 1000 digits",
        A,
    )
    assert len([size for size in checked if size > 1000]) == 1


def test_digits_in_a_text_of_several_lines_are_no_number() -> None:
    (found,) = read(b'data: {"a":"x\ndata: ' + LONG_NUMBER + b'\ndata: y"}\n\n')
    assert found == {"a": f"x\n{LONG_NUMBER.decode()}\ny"}


def test_what_could_not_be_read_says_why_without_its_contents() -> None:
    (broken,) = read(b'data: {"a":"secret", oops}\n\n')
    assert (broken.like_json, broken.carries) == (True, False)
    assert "broken JSON" in broken.why
    assert "secret" not in broken.why
    (piece,) = read(b'data: {"choices":[{"delta":{"content":"se\n\n')
    assert piece.carries
    (bad,) = read(b'data: {"choices":"\xff"}\n\n')
    assert "not UTF-8" in bad.why


# Bounds ---------------------------------------------------------------------------------------


def pour(begin: bytes, part: bytes, size: int = 2 * MOST_BYTES) -> None:
    body = Frames(most=MOST_BYTES)
    body.feed(begin)
    for _ in range(1 + size // len(part)):
        body.feed(part)


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b"data: ", b"x" * MB),
        (b"", b"x" * MB),
        (b"", b"data: " + b"x" * 1000 + b"\n"),
        (b": ", b"x" * 65_536),
        (b"{", b"x" * MB),
        (b"[", b" \n\n" * 100_000),
    ],
    ids=["line", "no field", "event", "comment", "object", "blank lines"],
)
def test_what_has_no_end_is_too_large(begin: bytes, part: bytes) -> None:
    with pytest.raises(UpstreamTooLarge, match=r"larger than 8 MB, which limits\.answer_mb allows"):
        pour(begin, part)


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b": ", b": comment\n" * 1000),
        (b"", b"\n" * 8192),
        (b"", b"unknown: x\n" * 1000),
        (b"", b"data: [1]\n\n" * 1000),
        (b"<html>", b"x" * 65_536),
    ],
    ids=["comments", "blank lines", "fields", "events", "page"],
)
def test_what_is_not_kept_costs_no_memory(begin: bytes, part: bytes) -> None:
    tracemalloc.start()
    try:
        pour(begin, part, MB // 2)
        assert tracemalloc.get_traced_memory()[1] < MB
    finally:
        tracemalloc.stop()


def test_an_event_within_the_limit_passes_and_a_longer_one_does_not() -> None:
    text = b"x" * (MOST_BYTES - 100)
    assert frames(cut(b'data: "' + text + b'"\n\n', 16_384)) == [text.decode()]
    with pytest.raises(UpstreamTooLarge):
        frames(cut(b'data: "' + b"x" * 100 + text + b'"\n\n', 16_384))


def test_many_short_lines_of_one_event_cost_no_more_memory_than_few() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UpstreamTooLarge):
            pour(b"", b"data: x\n" * 10_000)
        assert tracemalloc.get_traced_memory()[1] < 2 * MOST_BYTES
    finally:
        tracemalloc.stop()


# Any bytes ------------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    [
        *(b"data: ", b"data:", b"data", b"event: error", b"event:", b"id: 1", b"retry: 3", b": c"),
        *(b"\n", b"\r", b"\r\n", b"\n\n", b'{"a":1}', b'{"b":', b"[DONE]", b"[1]", b"\xef\xbb\xbf"),
        *(b'{"c":"\\ud83d"}', b'{"c":"\\ude00x"}', b"words", b" ", b"\xf0\x9f", b"\xff", b"NaN"),
        *(b"<p>", "\u2028".encode(), b"\x0b", b"\x85", b'{"choices":[{"delta":{"x":"y"}}]}'),
    ]
)


@given(st.lists(_PIECES, max_size=40), st.integers(1, 30))
@example([b"\xef\xbb\xbf", b"\n", b"\xef\xbb\xbf"], 2)
@settings(max_examples=200, deadline=None)
def test_where_any_bytes_are_cut_makes_no_difference(pieces: list[bytes], size: int) -> None:
    body = b"".join(pieces)
    whole = [f for f in read(body) if f is not PULSE]
    parts = [f for f in frames(cut(body, size)) if f is not PULSE]
    assert parts == whole
    for frame in whole:
        if not isinstance(frame, Mark | Odd):
            orjson.dumps(frame)  # valid Unicode throughout


def reference(text: str) -> list[str]:
    """The data of the events, by the letter of the standard."""
    found: list[str] = []
    data: list[str] = []
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in lines[:-1]:
        field, _, value = line.partition(":")
        if not line:
            if data:
                found.append("\n".join(data))
            data = []
        elif field == "data":
            data.append(value.removeprefix(" "))
    return [each for each in found if each]


_FIELDS = st.sampled_from(["data", "data:", "data: ", "id: 7", "event: x", ":", "a: b", "retry: 1"])
_TEXTS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)
_ENDS = st.sampled_from(["\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n"])


@given(st.lists(st.tuples(_FIELDS, _TEXTS, _ENDS), max_size=20), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_lawful_events_are_those_of_the_standard(
    lines: list[tuple[str, str, str]], size: int
) -> None:
    # Each line of data begins as an array does, so that no line is an object by itself.
    rows = [f + ("[7," if f.startswith("data:") else "") + t + e for f, t, e in lines]
    text = ":\n" + "".join(rows) + "\n\n"
    wanted = [data.strip(" \t\r\n") for data in reference(text)]
    found = frames(cut(text.encode(), size))
    texts = [f.data.decode() for f in found if isinstance(f, Odd) and f.like_json]
    assert [t for t in texts if t.startswith("[7,")] == [w for w in wanted if w.startswith("[7,")]


def test_a_frame_too_deep_after_half_a_character_is_unreadable_and_no_fault() -> None:
    half = b'data: {"choices":[{"index":0,"delta":{"content":"x\\ud83d"}}]}\n\n'
    deep = b'data: {"a":' + b"[" * 600 + b"]" * 600 + b"}\n\n"
    first, odd, rest = read(half + deep)
    assert isinstance(odd, Odd)
    assert odd.why == "the provider sent broken JSON: it is nested too deeply"
    texts = [frame["choices"][0]["delta"]["content"] for frame in (first, rest)]
    assert texts == ["x", "\ufffd"]
