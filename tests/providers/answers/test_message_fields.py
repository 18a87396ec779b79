"""Fields that are kept for the next turn: how their pieces are merged."""

from collections.abc import Callable
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.errors import UpstreamTooLarge
from asyncsvc.providers.answers.pieces import Fields, Room
from asyncsvc.providers.answers.tool_calls import ToolCalls


def merged(*pieces: Any, closing: Any = None) -> Any:
    fields = Fields(Room())
    for each in pieces:
        fields.add("field", each)
    if closing is not None:
        fields.add("field", closing, closing=True)
    return fields.held.get("field")


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        ([[1], [2]], [1, 2]),
        ([[{"url": "a"}], [{"url": "b"}], [{"url": "a"}]], [{"url": "a"}, {"url": "b"}]),
        ([[{"index": 0, "text": "a"}], [{"index": 0, "text": "b"}]], [{"index": 0, "text": "ab"}]),
        (
            [[{"index": 0, "text": "a"}], [{"index": 1, "text": "b"}], [{"index": 0, "id": "x"}]],
            [{"index": 0, "text": "a", "id": "x"}, {"index": 1, "text": "b"}],
        ),
        (
            [
                [{"index": 0, "type": "text", "text": "a"}],
                [{"index": 0, "type": "sig", "data": "b"}],
            ],
            [{"index": 0, "type": "text", "text": "a"}, {"index": 0, "type": "sig", "data": "b"}],
        ),
        ([{"id": "a", "data": "x"}, {"transcript": "t"}, {"data": "y"}],
         {"id": "a", "data": "xy", "transcript": "t"}),
        (["SIG", "SIG2"], "SIG2"),
        ([1, 2.5, None, "", [], {}], 2.5),
        ([{"a": {"b": 1}}, {"a": {"c": 2}}], {"a": {"b": 1, "c": 2}}),
    ],
)  # fmt: skip
def test_pieces_are_merged(pieces: list[Any], whole: Any) -> None:
    assert merged(*pieces) == whole


def test_a_whole_in_the_last_frame_counts_once() -> None:
    items = [{"index": 0, "text": "ab", "type": "t"}, {"index": 1, "text": "c"}]
    pieces = [[{"index": 0, "text": "a", "type": "t"}], [{"index": 0, "text": "b"}], [items[1]]]
    assert merged(*pieces, closing=items) == items
    assert merged([1], [2], closing=[1, 2, 3]) == [1, 2, 3]
    assert merged([1], [2], closing=[3]) == [1, 2, 3]


def test_a_whole_message_replaces() -> None:
    fields = Fields(Room())
    fields.add("a", [1])
    fields.put("a", [1, 2])
    fields.put("b", {"x": 1})
    assert (fields.held, fields.changed) == ({"a": [1, 2], "b": {"x": 1}}, True)


def test_what_no_json_can_hold_is_left_out() -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    assert merged(deep, "\ud800", {1, 2}) is None


def test_all_fields_share_one_room() -> None:
    room = Room(100)
    one, other = Fields(room), Fields(room)
    one.add("a", "x" * 60)
    one.put("a", "x" * 70)
    one.put("a", "x" * 70)
    with pytest.raises(UpstreamTooLarge):
        other.add("b", "x" * 60)


@pytest.mark.parametrize(
    "piece",
    [
        lambda number: (f"k{number}", "x"),
        lambda number: ("a", {f"k{number}": 1}),
        lambda number: ("a", {"b": [{"index": 0, f"k{number}": 1}]}),
        lambda number: ("a", [number]),
        lambda number: ("a", {"b": [[number]]}),
    ],
)
def test_values_without_end_are_too_many(piece: Callable[[int], tuple[str, object]]) -> None:
    fields, number = Fields(Room(1 << 30)), 0
    with pytest.raises(UpstreamTooLarge, match="values of one object or list"):
        for number in range(100_000):
            fields.add(*piece(number))
    assert number in (9_999, 10_000, 65_536, 65_537)


def test_a_field_that_grows_with_each_piece_costs_the_same_for_each() -> None:
    def seconds(count: int) -> float:
        fields, began = Fields(Room()), process_time()
        for number in range(count):
            fields.add("a", {f"k{number}": [number]})
            fields.add("b", [number])
        return process_time() - began

    few, many = (min(seconds(count) for _ in range(3)) for count in (1_000, 10_000))
    assert many < 40 * few


def test_fields_that_are_given_out_again_and_again_take_room() -> None:
    calls = ToolCalls(Room(10_000))
    with pytest.raises(UpstreamTooLarge):
        for number in range(1_000):
            function = {"name": "f", "arguments": "x", "more": {f"k{number}": "x" * 10}}
            list(calls.take({"index": 0, "id": "c", "function": function}))
    assert number < 100


def test_what_was_given_out_does_not_change() -> None:
    calls = ToolCalls()
    given = [
        list(
            calls.take({"index": 0, "id": "c", "function": {"name": "f", "arguments": "x", **more}})
        )
        for more in ({"a": {"text": "1"}}, {"a": {"text": "2"}})
    ]
    texts = [one["function"]["a"]["text"] for each in given for one in each]
    assert texts == ["1", "12"]


values = st.recursive(
    st.none() | st.integers(0, 2) | st.sampled_from(["", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["index", "type", "text", "id"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.lists(values, max_size=5), values)
def test_any_pieces_are_merged_without_a_fault(pieces: list[Any], closing: Any) -> None:
    before = [repr(each) for each in pieces]
    merged(*pieces, closing=closing)
    assert [repr(each) for each in pieces] == before
