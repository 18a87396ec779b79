"""From a task's journal to a response's events: what a retry does, and that numbers stay."""

from typing import Any

import pytest

from asyncsvc.tasks.state import Cause, Draft, EventType, State, apply, create, status
from asyncsvc.tasks.state import Request as TaskRequest
from asyncsvc.web.openai.items import conversation
from asyncsvc.web.openai.response_stream import ResponseEvents

USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
START = (
    status(Cause.STARTED, State.PENDING),
    Draft(EventType.ATTEMPT, {"number": 1, "model": "m", "name": "fast", "why": "", "route": {}}),
)
DONE = status(Cause.COMPLETED, State.RUNNING, usage=USAGE, error=None)
AGAIN = (status(Cause.RETRYING, State.RUNNING), status(Cause.DUE, State.SCHEDULED))
FAULT = {"code": "timeout", "message": "too late", "retryable": True}


def chunk(text: str) -> Draft:
    return Draft(EventType.CHUNK, {"text": text})


def thought(text: str) -> Draft:
    return Draft(EventType.REASONING, {"text": text})


def journal(*drafts: Draft) -> list[dict[str, Any]]:
    """The events as they are on the wire; the drafts must be legal one after the other."""
    task, first = create(TaskRequest("t"), 0)
    found = [first]
    for draft in drafts:
        task = apply(task, draft, 0)
        found.append(draft)
    return [
        {"seq": i, "type": str(one.type), "ts": f"2026-01-01T00:00:{i:02d}Z", "data": one.data}
        for i, one in enumerate(found, 1)
    ]


def replayed(*drafts: Draft) -> tuple[list[dict[str, Any]], ResponseEvents]:
    response = ResponseEvents("t", {"model": "auto", "input": "x"})
    return [one for event in journal(*drafts) for one in response.take(event)], response


def output_text(response: dict[str, Any]) -> str:
    parts = [part for item in response["output"] for part in item.get("content", [])]
    return "".join(part["text"] for part in parts if part["type"] == "output_text")


def test_numbers_are_dense_and_every_prefix_has_the_same_events() -> None:
    drafts = (*START, thought("h"), chunk("a"), *AGAIN, *START, chunk("b"), chunk("c"), DONE)
    whole, _ = replayed(*drafts)
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    for end in range(len(drafts)):
        part, _ = replayed(*drafts[:end])
        assert part == whole[: len(part)]


def test_an_attempt_that_is_void_leaves_incomplete_items_behind() -> None:
    events, final = replayed(*START, thought("h"), chunk("a"), *AGAIN, *START, chunk("b"), DONE)
    added = [e["item"]["id"] for e in events if e["type"] == "response.output_item.added"]
    assert len(set(added)) == 3
    indexes = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    assert indexes == [0, 1, 2]
    last = {e["item"]["id"]: e["item"] for e in events if e["type"] == "response.output_item.done"}
    assert [last[item]["status"] for item in added] == ["incomplete", "incomplete", "completed"]
    end = events[-1]["response"]
    assert [item["id"] for item in end["output"]] == added[2:]
    assert output_text(end) == "b"
    assert end == final.response()


@pytest.mark.parametrize(
    ("end", "kind", "state"),
    [
        (DONE, "completed", "completed"),
        (status(Cause.FAILED, State.RUNNING, error=FAULT), "failed", "failed"),
        (status(Cause.CANCELLED, State.RUNNING), "incomplete", "cancelled"),
    ],
)
def test_each_end_has_its_event_with_the_text_so_far(end: Draft, kind: str, state: str) -> None:
    events, _ = replayed(*START, chunk("a"), chunk("b"), end)
    assert events[-1]["type"] == f"response.{kind}"
    response = events[-1]["response"]
    assert response["status"] == state
    assert output_text(response) == "ab"
    whole = "completed" if kind == "completed" else "incomplete"
    assert response["output"][0]["status"] == whole
    assert (response["error"] is not None) == (kind == "failed")
    assert (response["completed_at"] is not None) == (kind == "completed")


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_that_was_cut_short_says_so(reason: str) -> None:
    end = Draft(EventType.STATUS, DONE.data | {"finish_reason": reason})
    events, _ = replayed(*START, chunk("a"), end)
    assert events[-1]["type"] == "response.incomplete"
    why = {"length": "max_output_tokens", "content_filter": "content_filter"}[reason]
    assert events[-1]["response"]["incomplete_details"] == {"reason": why}


def test_a_tool_call_is_an_item_with_its_arguments() -> None:
    events, final = replayed(*START, chunk("a"), Draft(EventType.TOOL_CALL, CALL), DONE)
    items = final.response()["output"]
    assert [item["type"] for item in items] == ["message", "function_call"]
    assert items[1]["call_id"] == "c1"
    assert (items[1]["name"], items[1]["arguments"]) == ("f", '{"a":1}')
    deltas = [e for e in events if e["type"] == "response.function_call_arguments.delta"]
    assert [e["delta"] for e in deltas] == ['{"a":1}']
    assert deltas[0]["item_id"] == items[1]["id"]


def test_calls_that_grow_side_by_side_are_two_items() -> None:
    def piece(index: int, arguments: str, **first: str) -> Draft:
        function = {"arguments": arguments} | ({"name": first["id"]} if first else {})
        return Draft(EventType.TOOL_CALL, {"index": index, "function": function} | first)

    pieces = (piece(0, "", id="a"), piece(1, "{", id="b"), piece(0, "{}"), piece(1, "}"))
    events, final = replayed(*START, *pieces, DONE)
    items = final.response()["output"]
    assert [(one["call_id"], one["name"], one["arguments"]) for one in items] == [
        ("a", "a", "{}"),
        ("b", "b", "{}"),
    ]
    assert {one["status"] for one in items} == {"completed"}
    done = [e for e in events if e["type"] == "response.function_call_arguments.done"]
    assert [(e["output_index"], e["arguments"]) for e in done] == [(0, "{}"), (1, "{}")]
    events, _ = replayed(*START, *pieces[:2], *AGAIN, *START, chunk("b"), DONE)
    last = {e["item"]["id"]: e["item"]["status"] for e in events if "item" in e}
    assert list(last.values()) == ["incomplete", "incomplete", "completed"]
    assert not [e for e in events if e["type"] == "response.function_call_arguments.done"]


def test_text_before_a_pause_is_valid_until_the_next_attempt() -> None:
    paused = (*START, chunk("a"), status(Cause.PAUSED, State.RUNNING))
    events, final = replayed(*paused)
    assert final.status == "queued"
    assert output_text(final.response()) == "a"
    events, _ = replayed(*paused, status(Cause.CANCELLED, State.PAUSED))
    assert output_text(events[-1]["response"]) == "a"
    events, _ = replayed(*paused, status(Cause.RESUMED, State.PAUSED), *START, chunk("b"), DONE)
    assert output_text(events[-1]["response"]) == "b"


def test_a_retry_by_hand_goes_on_behind_the_end() -> None:
    once, _ = replayed(*START, chunk("a"), DONE)
    events, final = replayed(
        *START, chunk("a"), DONE, status(Cause.RERUN, State.COMPLETED), *START, chunk("b"), DONE
    )
    assert events[: len(once)] == once
    assert events[len(once)]["type"] == "response.output_item.done"
    assert output_text(final.response()) == "b"
    assert final.response()["usage"]["input_tokens"] == 2


def test_tokens_have_openais_names() -> None:
    usage = USAGE | {"completion_tokens_details": {"reasoning_tokens": 1}}
    end = Draft(EventType.STATUS, DONE.data | {"usage": usage})
    _, final = replayed(*START, chunk("a"), end)
    assert final.response()["usage"] == {
        "input_tokens": 2,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 5,
    }


def test_a_refusal_is_a_part_of_its_own() -> None:
    refused = Draft(EventType.CHUNK, {"text": "no", "refusal": True})
    events, final = replayed(*START, chunk("a"), refused, refused, DONE)
    kinds = [event["type"] for event in events]
    assert kinds.count("response.refusal.delta") == 2
    (end,) = [event for event in events if event["type"] == "response.refusal.done"]
    assert end["refusal"] == "nono"
    parts = [part for item in final.response()["output"] for part in item["content"]]
    assert parts[0]["text"] == "a"
    assert parts[1] == {"type": "refusal", "refusal": "nono"}


def test_further_fields_of_a_message_come_in_a_reasoning_item_that_can_be_given_back() -> None:
    fields = {"reasoning_details": [{"data": "OPAQUE"}]}
    _, final = replayed(*START, chunk("a"), Draft(EventType.MESSAGE, fields), DONE)
    message, item = final.response()["output"]
    assert (item["type"], item["status"], item["summary"]) == ("reasoning", "completed", [])
    assert conversation([message, item]).messages == [
        {"role": "assistant", "content": "a", **fields},
    ]
    other = item | {"encrypted_content": "gAAAA another service's"}
    assert conversation([message, other]).messages == [{"role": "assistant", "content": "a"}]


def test_a_later_piece_of_a_call_may_bring_its_id_and_further_fields() -> None:
    late = {"index": 0, "late_id": "real", "more": {"x": 1}, "function": {"arguments": ""}}
    begin = Draft(EventType.TOOL_CALL, {"index": 0, **CALL})
    events, final = replayed(*START, begin, Draft(EventType.TOOL_CALL, late), DONE)
    (item,) = final.response()["output"]
    assert (item["call_id"], item["more"]) == ("real", {"x": 1})
    done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert done == [item]
