"""Error responses as OpenAI's clients expect them."""

from dataclasses import replace
from typing import Any

import pytest

from asyncsvc import errors as tree
from asyncsvc.errors import Conflict, InvalidRequest, ProviderError, QueueFull
from asyncsvc.tasks.state import Request, State, Task
from asyncsvc.web.openai.errors import FAILED, Failure, failure, of_task, refusal, statuses

TASK = Task(Request("t"), State.FAILED, error={"code": "rate_limited", "message": "slow"})


def kinds(base: type[ProviderError] = ProviderError) -> set[type[ProviderError]]:
    return {base}.union(*(kinds(each) for each in base.__subclasses__()))


def test_every_code_of_a_failed_task_has_a_status() -> None:
    found = {kind.code for kind in kinds() if kind.__module__ == tree.__name__}
    assert found <= FAILED.keys()


def test_statuses_hold_every_code() -> None:
    assert sum(map(len, statuses().values())) >= len({row[2] for row in FAILED.values()})
    assert "context_length_exceeded" in statuses()[400]


def test_retry_after_is_sent_where_another_call_can_succeed() -> None:
    answer = of_task(TASK, 7.2).response({"x-task-id": "t"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "8")
    assert answer.headers["x-task-id"] == "t"
    assert "x-should-retry" not in answer.headers


def test_nothing_else_is_to_be_tried_again() -> None:
    answer = failure("upstream_auth", "no", 7).response()
    assert (answer.status_code, answer.headers["x-should-retry"]) == (502, "false")
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (replace(TASK, state=State.CANCELLED), "cancelled"),
        (replace(TASK, error=None), "internal"),
        (replace(TASK, error={"code": "of tomorrow", "message": "x"}), "internal"),
    ],
)
def test_any_task_that_has_not_completed_is_a_failure(task: Task, code: str) -> None:
    assert of_task(task).code == code


@pytest.mark.parametrize(
    ("error", "status", "again"),
    [
        (InvalidRequest("no", param="n"), 400, True),
        (Conflict("idempotency_conflict", "no"), 409, False),
        (QueueFull("full", retry_after=5), 429, True),
    ],
)
def test_a_wrong_field_is_a_bad_request(error: Any, status: int, again: bool) -> None:
    answer: Failure = refusal(error)
    assert (answer.status, answer.should_retry) == (status, again)
    assert answer.body()["error"].keys() == {"message", "type", "code", "param"}
