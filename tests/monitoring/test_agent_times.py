"""Where the time of an agent goes, from events with given times."""

from typing import Any

from asyncsvc.monitoring.agent_times import AgentTimes


def summary(now: int, *events: tuple[int, str, dict[str, Any]]) -> dict[str, Any]:
    times = AgentTimes()
    for at, kind, data in events:
        times.add(kind, at, data)
    return times.summary(now)


def moved(at: int, cause: str, **facts: Any) -> tuple[int, str, dict[str, Any]]:
    return at, "status", {"cause": cause, "status": "x", **facts}


def sums(found: dict[str, Any]) -> tuple[float, float, float]:
    return found["model_s"], found["tools_s"], found["person_s"]


CALL = {"name": "t", "arguments": {}, "step": 1}
BEGUN = [
    moved(0, "started"),
    (1000, "step", {"number": 1}),
    (3000, "message", {"step": 1, "usage": {"total_tokens": 5}}),
    (3000, "tool_call", {"id": "a", **CALL}),
    (3000, "tool_call", {"id": "b", **CALL}),
]


def test_model_and_tools_have_their_times() -> None:
    found = summary(
        9000,
        *BEGUN,
        (3000, "tool_started", {"id": "a"}),
        (4000, "tool_started", {"id": "b"}),
        (5000, "tool_result", {"id": "a", "ok": True}),
        (6000, "tool_result", {"id": "b", "ok": False}),
        (6000, "step", {"number": 2}),
    )
    assert sums(found) == (2.0 + 3.0, 3.0, 0.0)
    first, second = found["steps"]
    assert (first["model_s"], first["usage"]) == (2.0, {"total_tokens": 5})
    assert [(c["id"], c["took_s"], c["ok"]) for c in first["calls"]] == [
        ("a", 2.0, True),
        ("b", 2.0, False),
    ]
    assert (second["model_s"], second["calls"]) == (None, [])


def test_a_person_takes_time_and_the_tools_do_not() -> None:
    waits = {"code": "needs_approval", "message": "", "retryable": False}
    found = summary(
        20_000,
        *BEGUN,
        (3000, "approval", {"id": "a", "name": "t", "arguments": {}}),
        moved(3000, "paused", error=waits),
        (8000, "approval", {"id": "a", "decision": "approved"}),
        moved(8000, "resumed"),
        moved(9000, "started"),
        (9000, "tool_started", {"id": "a"}),
        moved(10_000, "paused"),
    )
    assert sums(found) == (2.0, 1.0, 5.0)
    assert found["steps"][0]["calls"][0]["waited_s"] == 5.0
    assert found["steps"][0]["calls"][0]["took_s"] is None


def test_one_that_still_waits_is_counted_until_now() -> None:
    waits = {"code": "needs_review", "message": "", "retryable": False}
    found = summary(7000, *BEGUN, moved(3000, "paused", error=waits))
    assert sums(found) == (2.0, 0.0, 4.0)


def test_a_cut_step_is_void_and_its_time_is_not() -> None:
    found = summary(
        9000,
        (1000, "step", {"number": 1}),
        moved(2000, "interrupted"),
        moved(4000, "started"),
        (5000, "step", {"number": 1}),
        (6000, "message", {"step": 1}),
    )
    assert sums(found) == (2.0, 0.0, 0.0)
    assert [step["model_s"] for step in found["steps"]] == [1.0]


def test_a_retry_by_hand_begins_anew() -> None:
    found = summary(9000, *BEGUN, moved(4000, "failed"), moved(5000, "rerun"))
    assert found == {"steps": [], "model_s": 0.0, "tools_s": 0.0, "person_s": 0.0}
