"""What a client may submit, field by field; a fault names its field."""

from typing import Any

import pytest
from pydantic import ValidationError

from asyncsvc.tasks.submission import METADATA_BYTES, Submission, last_user_text

TIME = "2026-11-20T09:00:00Z"
CHAT: dict[str, Any] = {"content": "x"}


def fault(body: dict[str, Any]) -> tuple[str, str]:
    """The field that the first fault names, and what it says."""
    with pytest.raises(ValidationError) as caught:
        Submission.model_validate(body)
    first = caught.value.errors()[0]
    named = first.get("ctx", {}).get("param") or str(first["loc"][0])
    return named, first["msg"]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


ALLOWED: list[dict[str, Any]] = [
    {"content": "x"},
    {"messages": [user("x")]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
    {"messages": [user([{"type": "text", "text": "x"}])]},
    {"type": "embedding", "input": "x"},
    {"type": "embedding", "input": ["x", "y"]},
    *(CHAT | {"lane": lane} for lane in ("priority", "short", "long")),
    *(CHAT | {"priority": number} for number in (0, 9)),
    *(CHAT | {"run_at": time} for time in (TIME, "2026-11-20T10:00:00.5+01:00")),
    *(CHAT | {"delay_s": delay} for delay in (0, 0.5, 366 * 86_400)),
    *(CHAT | {"timeout_s": limit} for limit in (0.001, 30 * 86_400)),
    *(CHAT | {"max_retries": number} for number in (0, 100)),
    *(CHAT | {"max_wait_s": limit} for limit in (0, 1e9)),
    *(CHAT | {"session_id": name} for name in ("s", "s" * 200)),
    *(CHAT | {"cache": value} for value in (True, False, None)),
    CHAT | {"metadata": {}, "model": "m", "retry_unsafe": True},
    CHAT | {"params": {"temperature": 0, "n": 1}},
    CHAT | {"params": nested(200), "metadata": nested(200)},
]


@pytest.mark.parametrize("body", ALLOWED, ids=lambda body: str(body)[:60])
def test_what_is_allowed(body: dict[str, Any]) -> None:
    Submission.model_validate(body)


NO_PARAMS: list[Any] = [{"n": 2}, None, [], nested(300)]
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("prioritty", CHAT | {"prioritty": 3}),
    ("content", {}),
    ("content", {"content": ""}),
    ("content", {"content": 5}),
    ("content", {"content": "\ud800"}),
    ("messages", {"messages": []}),
    ("messages", {"messages": "x"}),
    ("messages", {"messages": ["x"]}),
    ("messages", {"messages": [{}]}),
    ("messages", {"messages": [{"role": "pirate", "content": "x"}]}),
    ("messages", {"messages": [{"role": ["user"], "content": "x"}]}),
    ("messages", {"messages": [user("x"), user(5)]}),
    ("messages", {"messages": [user([nested(300)])]}),
    ("input", {"type": "embedding", "input": ""}),
    ("input", {"type": "embedding", "input": []}),
    ("input", {"type": "embedding", "input": [5]}),
    ("input", {"type": "embedding", "input": ["\ud800"]}),
    ("input", {"type": "embedding"}),
    ("content", {"type": "embedding", "content": "x"}),
    ("input", {"content": "x", "input": "x"}),
    ("content", {"content": "x", "messages": [user("x")]}),
    ("type", CHAT | {"type": "poem"}),
    ("model", CHAT | {"model": ""}),
    ("lane", CHAT | {"lane": "fast"}),
    *(("priority", CHAT | {"priority": value}) for value in (-1, 10, 5.0, "5", True, None)),
    *(("session_id", CHAT | {"session_id": value}) for value in ("", "s" * 201, 5, "\ud800")),
    *(
        ("run_at", CHAT | {"run_at": value})
        for value in ("soon", "2026-11-20T09:00:00", 5, "9999-12-31T23:59:59-01:00", "\ud800")
    ),
    ("run_at", CHAT | {"run_at": TIME, "delay_s": 1}),
    *(("delay_s", CHAT | {"delay_s": v}) for v in (-1, 366 * 86_400 + 1, float("inf"), True)),
    *(("timeout_s", CHAT | {"timeout_s": v}) for v in (0, -1, 30 * 86_400 + 1, float("nan"))),
    *(("max_retries", CHAT | {"max_retries": value}) for value in (-1, 101, 1.5)),
    *(("max_wait_s", CHAT | {"max_wait_s": value}) for value in (-1, float("inf"), "1")),
    ("cache", CHAT | {"cache": 1}),
    ("retry_unsafe", CHAT | {"retry_unsafe": "yes"}),
    *(
        ("params", CHAT | {"params": {name: 1}})
        for name in ("model", "messages", "input", "stream")
    ),
    *(("params", CHAT | {"params": value}) for value in NO_PARAMS),
    *(("params", CHAT | {"params": {"thinking": mode}}) for mode in ("", "yes", "On", "enabled")),
    *(("metadata", CHAT | {"metadata": value}) for value in ("x", {"a": 2**70}, nested(300))),
]


@pytest.mark.parametrize(("field", "body"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused_names_the_field(field: str, body: dict[str, Any]) -> None:
    assert fault(body)[0] == field


@pytest.mark.parametrize("mode", ["on", "off", "auto", {"type": "disabled"}])
def test_thinking_is_a_mode_or_a_provider_s_own_object(mode: Any) -> None:
    Submission.model_validate(CHAT | {"params": {"thinking": mode}})


def test_a_fault_says_which_modes_of_thinking_there_are() -> None:
    message = fault(CHAT | {"params": {"thinking": "high"}})[1]
    assert "thinking must be one of on, off, auto" in message


def test_a_fault_says_which_message_it_is() -> None:
    assert "messages[1].content" in fault({"messages": [user("x"), user(5)]})[1]


def test_a_fault_says_what_was_given_for_what_is_needed() -> None:
    _, message = fault({"content": "x", "messages": [user("x")]})
    assert (
        message == "a task of type chat needs one of content, messages; content and messages given"
    )


def test_metadata_may_be_as_large_as_the_limit_and_no_larger() -> None:
    room = METADATA_BYTES - len('{"a":""}')
    Submission.model_validate(CHAT | {"metadata": {"a": "x" * room}})
    field, message = fault(CHAT | {"metadata": {"a": "x" * (room + 1)}})
    assert (field, message) == ("metadata", "Value error, must not be larger than 16384 bytes")


def test_the_body_holds_what_was_given_and_the_parameters() -> None:
    submission = Submission.model_validate(CHAT | {"params": {"top_p": 1}, "metadata": {"a": 1}})
    assert submission.body() == {"content": "x", "params": {"top_p": 1}}


@pytest.mark.parametrize(
    ("body", "preview"),
    [
        ({"content": "好" * 300}, "好" * 200),
        ({"type": "embedding", "input": "a" * 300}, "a" * 200),
        ({"type": "embedding", "input": ["first", "second"]}, "first"),
        ({"messages": [user("early"), user("late"), {"role": "assistant"}]}, "late"),
    ],
)
def test_the_preview_is_the_beginning_of_what_is_asked(body: dict[str, Any], preview: str) -> None:
    assert Submission.model_validate(body).preview() == preview


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], ""),
        ([{"role": "system", "content": "x"}], ""),
        ([{"role": "user"}], ""),
        ([user([{"text": "a"}, {"image": 1}, "odd", {"text": 5}, {"text": "b"}])], "a b"),
    ],
)
def test_the_last_user_text(messages: list[dict[str, Any]], text: str) -> None:
    assert last_user_text(messages) == text


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "x", "model": "fast", "route_as": "simple"},
        {"content": "x", "route_as": "embedding"},
        {"input": "x", "type": "embedding", "route_as": "simple"},
        {"content": "x", "route_as": "quick"},
    ],
)
def test_a_class_stands_in_place_of_a_model_and_fits_the_type(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Submission.model_validate(fields)
    Submission.model_validate({"content": "x", "route_as": "batch"})
