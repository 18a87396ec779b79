"""Pieces of an answer, joined into the events of a task."""

from typing import Any

from asyncsvc.providers.answers.delta import Delta, drafts, joined
from asyncsvc.tasks.state import EventType


def piece(index: int, arguments: str, name: str | None = None, **more: Any) -> Delta:
    """A piece of a tool call; one with a name begins it."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    head = {} if name is None else {"id": f"id{index}", "type": "function"}
    return Delta("", call={"index": index} | head | {"function": function} | more)


def calls(*deltas: Delta) -> list[tuple[int, str]]:
    """(index, arguments) of each event of a tool call."""
    return [
        (draft.data["index"], draft.data["function"]["arguments"])
        for draft in drafts(deltas)
        if draft.type is EventType.TOOL_CALL
    ]


def test_neighbours_of_one_kind_become_one_event() -> None:
    deltas = [Delta("a"), Delta("b"), Delta("c", True), Delta("d", True), Delta("e")]
    assert [(d.type, d.data) for d in drafts(deltas)] == [
        (EventType.CHUNK, {"text": "ab"}),
        (EventType.REASONING, {"text": "cd"}),
        (EventType.CHUNK, {"text": "e"}),
    ]


def test_a_refusal_stays_apart_from_the_text() -> None:
    found = joined([Delta("a"), Delta("b", refusal=True), Delta("c", refusal=True)])
    assert [(delta.text, delta.refusal) for delta in found] == [("a", False), ("bc", True)]


def test_pieces_of_one_call_become_one_event_with_its_head() -> None:
    head = piece(0, "", "f")
    (found,) = joined([head, piece(0, '{"x"'), piece(0, ":1}")])
    assert found.call is not None
    assert found.call["id"] == "id0"
    assert found.call["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert head == piece(0, "", "f")  # the pieces themselves are left alone


def test_pieces_of_two_calls_are_never_joined() -> None:
    side_by_side = [piece(0, "", "f"), piece(1, "", "g"), piece(0, "a"), piece(1, "b")]
    assert calls(*side_by_side) == [(0, ""), (1, ""), (0, "a"), (1, "b")]
    assert calls(piece(0, "a"), piece(0, "b"), piece(1, "c"), piece(1, "d")) == [
        (0, "ab"),
        (1, "cd"),
    ]


def test_a_piece_that_has_more_than_arguments_is_an_event_of_its_own() -> None:
    for special in (piece(0, "b", "f"), piece(0, "b", late_id="x"), piece(0, "b", signature="s")):
        assert calls(piece(0, "a"), special) == [(0, "a"), (0, "b")]


def test_an_event_of_its_own_kind_ends_what_is_joined() -> None:
    note = Delta("", event=("reasoning", {"details": []}))
    assert joined([Delta("a"), note, note, Delta("b")]) == [Delta("a"), note, note, Delta("b")]
    text_between = [piece(0, "a"), Delta("x"), piece(0, "b")]
    assert calls(*text_between) == [(0, "a"), (0, "b")]
