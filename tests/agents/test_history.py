"""What the events of an agent say about its steps, calls and workspace."""

from pathlib import Path
from typing import Any

import orjson

from asyncsvc.agents.history import CallState, History, arguments_of, history
from asyncsvc.journal.journal import Change
from asyncsvc.storage.entries import EventRow
from asyncsvc.tasks.state import Cause, Draft, EventType, State, status
from tests.builders import begun, journal_at, new_task


def read(*events: tuple[str, dict[str, Any]]) -> History:
    found = History()
    for seq, (kind, data) in enumerate(events, 1):
        found.take(EventRow(seq, 1, seq, kind, 1000 + seq, orjson.dumps(data).decode()))
    return found


def step(number: int, text: str = "") -> list[tuple[str, dict[str, Any]]]:
    chunks = [("chunk", {"text": text, "step": number})] if text else []
    return [("step", {"number": number}), *chunks]


def ended(number: int, **facts: Any) -> tuple[str, dict[str, Any]]:
    return "message", {"step": number, "usage": {"total_tokens": 10}, **facts}


def asked(call_id: str, name: str = "read_file", step: int = 1) -> tuple[str, dict[str, Any]]:
    return "tool_call", {"id": call_id, "name": name, "arguments": {"path": "a"}, "step": step}


def result(call_id: str, output: str = "done", **facts: Any) -> tuple[str, dict[str, Any]]:
    data = {"id": call_id, "ok": True, "output": output, "exit_code": 0} | facts
    return "tool_result", data


def test_a_step_that_was_cut_off_is_void() -> None:
    found = read(*step(1, "a"), ended(1), *step(2, "cut"), *step(2, "whole"), ended(2))
    assert [(one.number, one.text, one.ended) for one in found.steps] == [
        (1, "a", True),
        (2, "whole", True),
    ]
    assert found.usage == {"total_tokens": 20}


def test_a_call_goes_from_asked_to_finished() -> None:
    events = [*step(1), ended(1), asked("c1")]
    assert read(*events).calls[0].state is CallState.ASKED
    events.append(("tool_started", {"id": "c1", "checkpoint": "call-4"}))
    call = read(*events).calls[0]
    assert (call.state, call.checkpoint, call.started_at) == (CallState.STARTED, "call-4", 1004)
    assert not read(*events).steps[0].complete
    events.append(result("c1"))
    call = read(*events).calls[0]
    assert (call.state, call.ended_at) == (CallState.FINISHED, 1005)
    assert read(*events).steps[0].complete


def test_each_rollback_and_each_retry_begins_another_workspace() -> None:
    events = [*step(1), ended(1), asked("c1"), ("tool_started", {"id": "c1", "checkpoint": "x"})]
    assert read(*events).generation == 0
    events.append(("rollback", {"id": "c1", "checkpoint": "x"}))
    found = read(*events)
    assert (found.generation, found.calls[0].state) == (1, CallState.ROLLED_BACK)
    events.append(("status", {"cause": "rerun", "status": "pending"}))
    found = read(*events, *step(1), ended(1))
    assert (found.generation, len(found.steps), found.calls) == (1000, 1, [])


def test_decisions_of_a_person() -> None:
    begin = [*step(1), ended(1), asked("c1")]
    waits = ("approval", {"id": "c1", "name": "read_file", "arguments": {}})
    found = read(*begin, waits)
    assert found.waiting is not None
    assert found.waiting.state is CallState.NEEDS_APPROVAL
    approved = read(*begin, waits, ("approval", {"id": "c1", "decision": "approved"}))
    assert (approved.waiting, approved.calls[0].decision) == (None, "approved")
    decision = {"id": "c1", "decision": "denied", "reason": "no"}
    denied = read(*begin, waits, ("approval", decision), result("c1", ok=False))
    assert (denied.calls[0].state, denied.calls[0].reason) == (CallState.DENIED, "no")
    review = read(*begin, ("approval", {"id": "c1", "review": True}))
    assert review.waiting is not None
    assert review.waiting.state is CallState.NEEDS_REVIEW


def test_the_conversation_holds_what_the_provider_needs_back() -> None:
    signed = asked("c1")
    signed[1]["extra"] = {"extra_content": {"signature": "s"}}
    found = read(
        ("step", {"number": 1}),
        ("reasoning", {"text": "hm", "step": 1}),
        ("chunk", {"text": "look", "step": 1}),
        ended(1, reasoning_details=[{"signature": "x"}]),
        signed,
        asked("c2"),
        result("c1", "one"),
        result("c2", "two", ok=False, exit_code=2),
        *step(2, "the answer"),
        ended(2),
    )
    first, one, two, last = found.messages()
    assert first["content"] == "look"
    assert first["reasoning_content"] == "hm"
    assert first["reasoning_details"] == [{"signature": "x"}]
    assert first["tool_calls"][0]["extra_content"] == {"signature": "s"}
    assert first["tool_calls"][0]["function"] == {"name": "read_file", "arguments": '{"path":"a"}'}
    assert one == {"role": "tool", "tool_call_id": "c1", "content": "one"}
    assert two["content"] == "exit code 2\ntwo"
    assert last == {"role": "assistant", "content": "the answer"}
    assert found.messages(1) == [first, one, two]


def test_an_id_is_that_of_one_call_only() -> None:
    found = read(*step(1), ended(1), asked("call_0"))
    assert found.new_id("call_0", 2, 0) == "call_0_2_0"
    assert found.new_id("other", 2, 0) == "other"
    assert found.new_id(None, 2, 1) == "call_2_1"


def test_arguments_that_are_no_object_stay_text() -> None:
    assert arguments_of('{"a": 1}') == {"a": 1}
    assert arguments_of("") == {}
    for text in ("[1]", '{"a": ', "NaN", "null"):
        assert arguments_of(text) == text


async def test_it_is_read_from_the_disk_in_pages(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "x.db") as journal:
        await journal.append(new_task())
        await journal.append(begun())
        drafts = [Draft(EventType.STEP, {"number": 1})]
        drafts += [Draft(EventType.CHUNK, {"text": "x" * 50_000, "step": 1}) for _ in range(20)]
        drafts.append(Draft(EventType.MESSAGE, {"step": 1}))
        await journal.append(Change("t1", drafts, durable=True))
        await journal.append(Change("t1", [status(Cause.COMPLETED, State.RUNNING)]))
        found = await history(journal, await journal.task("t1"))
    assert len(found.steps[0].text) == 1_000_000
    assert found.steps[0].ended


def test_arguments_that_are_no_object_go_back_as_one() -> None:
    """Some providers refuse a whole conversation for one call that is not JSON."""
    broken = asked("c1")[1] | {"arguments": '{"path": "a' + "x" * 9000}
    call = read(*step(1), ended(1), ("tool_call", broken)).calls[0]
    found = orjson.loads(call.message()["function"]["arguments"])
    assert found == {"not_json": broken["arguments"][:2000]}
