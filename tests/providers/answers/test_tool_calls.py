"""Tool calls, put together from pieces in all the shapes that providers send."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.errors import UpstreamTooLarge
from asyncsvc.providers.answers.pieces import Room
from asyncsvc.providers.answers.tool_calls import CALLS_MOST, ToolCalls, put_together


def piece(
    name: str | None = None, arguments: Any = "", id: Any = None, **more: Any
) -> dict[str, Any]:
    function = {} if name is None else {"name": name}
    return {"id": id, "function": function | {"arguments": arguments}} | more


def given_out(*pieces: Any) -> list[dict[str, Any]]:
    """The pieces that are given out."""
    calls = ToolCalls()
    return [*(out for each in pieces for out in calls.take(each)), *calls.rest()]


def calls_of(*pieces: Any) -> list[dict[str, Any]]:
    """The calls as a client puts them together."""
    out = given_out(*pieces)
    numbers = [each["index"] for each in out]
    assert sorted(set(numbers)) == list(range(len(set(numbers))))
    whole = put_together(out)
    ids = [call["id"] for call in whole]
    assert all(isinstance(id_, str) and id_ for id_ in ids)
    assert len(set(ids)) == len(ids)
    return whole


def shapes(*pieces: Any) -> list[tuple[str, str]]:
    return [(c["function"]["name"], c["function"]["arguments"]) for c in calls_of(*pieces)]


ONE = [("f", '{"x":1}')]
TWO = [("f", '{"x":1}'), ("g", '{"y":2}')]


@pytest.mark.parametrize("index", [None, 0, "0", 0.0, 1, 7, -1, "1", [0], True, "x", {}])
@pytest.mark.parametrize("id_", ["a", None, "", 12345, 1.5])
def test_a_call_in_pieces_whatever_its_index_and_id(index: Any, id_: Any) -> None:
    begin = piece("f", "", id_, index=index)
    assert shapes(begin, piece(None, '{"x"', index=index), piece(None, ":1}", index=index)) == ONE
    assert shapes(begin, piece(None, '{"x"'), piece(None, ":1}")) == ONE


@pytest.mark.parametrize("id_", ["a", 5])
def test_an_id_in_each_piece_is_one_call(id_: Any) -> None:
    assert shapes(piece("f", '{"x"', id_), piece(None, ":1}", id_)) == ONE
    assert shapes(piece("f", '{"x"', id_, index=0), piece("f", ":1}", id_, index=0)) == ONE


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(((0, 0), ("a", "b")), ((None, None), ("a", "b")), ((0, 0), (None, None))),
        *(((1, 2), (None, "b")), ((None, None), (None, None)), (("0", "1"), ("a", "b"))),
        *(((0, 1), ("a", "a")), ((-1, 0), (3, 4))),
    ],
)
def test_two_whole_calls_stay_apart(first: tuple[Any, Any], second: tuple[Any, Any]) -> None:
    pieces = [
        piece(name, arguments, id_, index=index)
        for (name, arguments), index, id_ in zip(TWO, first, second, strict=True)
    ]
    assert shapes(*pieces) == TWO


def test_two_calls_grow_side_by_side_by_index() -> None:
    assert shapes(
        *(piece("f", "", "a", index=1), piece("g", "", "b", index=2)),
        *(piece(None, '{"x"', index=1), piece(None, '{"y"', index=2)),
        *(piece(None, ":1}", index=1), piece(None, ":2}", index=2)),
    ) == TWO  # fmt: skip


def test_two_calls_grow_side_by_side_by_id() -> None:
    assert shapes(
        *(piece("f", "", "a"), piece("g", "", "b")),
        *(piece(None, '{"x":1}', "a"), piece(None, '{"y":2}', "b")),
    ) == TWO  # fmt: skip


def test_the_same_function_twice_is_two_calls() -> None:
    for index in (0, None):
        pieces = [piece("f", f'{{"x":{n}}}', index=index) for n in (1, 2)]
        assert shapes(*pieces) == [("f", '{"x":1}'), ("f", '{"x":2}')]


def test_a_call_that_is_repeated_whole_is_one() -> None:
    assert shapes(*[piece("f", '{"x":1}', "a", index=0)] * 3) == ONE


def test_a_name_in_pieces_or_after_the_id() -> None:
    names = [piece("get_", "", "a", index=0), piece("weather", "", index=0)]
    assert shapes(*names, piece(None, "{}", index=0)) == [("get_weather", "{}")]
    assert shapes(piece(None, "", "a", index=0), piece("f", "{}", index=0)) == [("f", "{}")]
    grown = [piece("get_", "", "a", index=0), piece("get_weather", "", index=0)]
    assert shapes(*grown, piece(None, "{}")) == [("get_weather", "{}")]
    late = [piece(None, "", "a", index=0), piece(None, "", "b", index=1)]
    late += [piece("f", "{}", index=0), piece("g", "{}", index=1)]
    assert shapes(*late) == [("f", "{}"), ("g", "{}")]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"x": [1, "二"]}, '{"x":[1,"二"]}'), (None, ""), ({}, "{}"), ([1], "[1]"), ("", "")],
)
def test_arguments_of_any_kind(arguments: Any, text: str) -> None:
    assert shapes(piece("f", arguments, "a")) == [("f", text)]


def test_arguments_too_deep_for_json_are_none() -> None:
    deep: Any = {}
    for _ in range(400):
        deep = {"x": deep}
    assert shapes(piece("f", deep, "a")) == [("f", "")]


def test_an_id_that_comes_with_the_first_arguments_is_the_id() -> None:
    out = given_out(piece("f", "", index=0), piece(None, "{}", "real", index=0))
    assert [each["id"] for each in out] == ["real"]


def test_an_id_that_comes_later_is_the_stored_one_and_changes_no_stream() -> None:
    out = given_out(piece("f", '{"x"', index=0), piece(None, ":1}", "real", index=0))
    assert [each.get("id") for each in out].count(None) == len(out) - 1
    assert out[0]["id"] != "real"
    assert out[-1]["late_id"] == "real"
    assert [call["id"] for call in put_together(out)] == ["real"]


def test_further_fields_of_a_call_are_kept() -> None:
    extra = {"extra_content": {"google": {"thought_signature": "SIG=="}}}
    (call,) = calls_of(piece("f", "{}", "a", **extra))
    assert call["extra_content"] == extra["extra_content"]
    (call,) = calls_of(piece("f", "{}", "a"), piece(None, "", "a", **extra))
    assert call["extra_content"] == extra["extra_content"]
    (call,) = calls_of({"id": "a", "type": "retrieval", "retrieval": {"query": "q"}})
    assert (call["type"], call["retrieval"]) == ("retrieval", {"query": "q"})
    (call,) = calls_of({"id": "a", "type": "custom", "custom": {"name": "n", "input": "i"}})
    assert (call["type"], call["function"]) == ("custom", {"name": "n", "arguments": "i"})
    (call,) = calls_of({"id": "a", "function": {"name": "f", "arguments": "{}", "strict": True}})
    assert call["function"] == {"name": "f", "arguments": "{}", "strict": True}


def test_a_custom_call_has_its_input_as_arguments_and_its_type_in_each_piece() -> None:
    pieces: list[dict[str, Any]] = [
        {"id": "a", "index": 0, "type": "custom", "custom": {"name": "n", "input": "x"}},
        {"index": 0, "custom": {"input": "y"}},
    ]
    out = given_out(*pieces)
    assert [each["type"] for each in out] == ["custom", "custom"]
    (call,) = put_together(out)
    assert (call["type"], call["function"]) == ("custom", {"name": "n", "arguments": "xy"})


@pytest.mark.parametrize("odd", ["x", 3, None, [], {}, {"index": 0}, {"function": "x"}])
def test_what_is_no_piece_begins_no_call(odd: Any) -> None:
    assert given_out(odd) == []
    assert shapes(piece("f", '{"x"', "a"), odd, piece(None, ":1}")) == ONE


def test_a_whole_list_adds_only_what_is_new() -> None:
    calls = ToolCalls(Room())
    before = [*calls.take(piece("f", '{"x"', "a", index=0))]
    whole = [piece(name, text, id_) for (name, text), id_ in zip(TWO, "ab", strict=True)]
    after = [*calls.repeat(whole), *calls.repeat(whole), *calls.rest()]
    assert [each["function"] for each in after] == [
        {"arguments": ":1}"},
        {"name": "g", "arguments": '{"y":2}'},
    ]
    assert [c["id"] for c in put_together([*before, *after])] == ["a", "b"]


def test_equal_calls_of_a_whole_list_are_two() -> None:
    calls = ToolCalls()
    out = [*calls.repeat([piece("f", "{}")] * 2), *calls.repeat([piece("f", "{}")] * 2)]
    assert len(put_together([*out, *calls.rest()])) == 2


values = st.none() | st.integers(-2, 3) | st.sampled_from(["", "a", "b", "{}", '{"x":1}', "0"])


@given(
    st.lists(
        st.fixed_dictionaries(
            {"function": st.dictionaries(st.sampled_from(["name", "arguments"]), values)},
            optional={"index": values, "id": values, "type": values, "more": values},
        )
        | values,
        max_size=8,
    ),
    st.booleans(),
)
def test_any_pieces_make_calls_with_ids_of_their_own(pieces: list[Any], whole: bool) -> None:
    calls = ToolCalls()
    out = [p for each in pieces for p in calls.take(each)]
    out += [*calls.repeat(pieces)] if whole else []
    out += [*calls.rest()]
    together = put_together(out)
    ids = [call["id"] for call in together]
    assert len(together) == len(calls)
    assert all(ids)
    assert len(set(ids)) == len(ids)
    assert all(isinstance(call["function"]["arguments"], str) for call in together)


@pytest.mark.parametrize("named", [{}, {"name": "f"}])
def test_arguments_in_many_pieces_are_joined_once(named: dict[str, str]) -> None:
    """Joined with each piece, ten thousand of them took the event loop 40 s."""
    calls = ToolCalls()
    parts = [f"{number} " for number in range(1000)]
    shown = [
        new
        for part in parts
        for new in calls.take({"index": 0, "id": "c", "function": {"arguments": part, **named}})
    ]
    (call,) = calls._calls  # noqa: SLF001
    assert len(call.parts) > 1
    shown += calls.rest()
    assert "".join(new["function"]["arguments"] for new in shown) == "".join(parts)


@pytest.mark.parametrize("whole", [False, True])
def test_calls_without_end_are_too_many(whole: bool) -> None:
    calls = ToolCalls()
    pieces = [piece("f", "{}", f"call {number}") for number in range(CALLS_MOST + 1)]
    for each in pieces[:-1]:
        assert list(calls.repeat([each]) if whole else calls.take(each))
    assert list(calls.repeat(pieces[:-1])) == [], "those that came may be repeated"
    with pytest.raises(UpstreamTooLarge, match="more than 512 tool calls in one answer"):
        list(calls.repeat(pieces) if whole else calls.take(pieces[-1]))
