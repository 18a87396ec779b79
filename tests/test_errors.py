"""One tree; each class knows its own code."""

import inspect
from typing import TypeVar

import pytest

from asyncsvc import errors
from asyncsvc.errors import (
    AsyncsvcError,
    Conflict,
    Forbidden,
    IllegalTransition,
    ProviderError,
    QueueFull,
    RequestError,
    SettingsError,
    TaskNotFound,
    UpstreamInvalid,
)

Kind = TypeVar("Kind")
CLASSES = inspect.getmembers(errors, inspect.isclass)
ALL = [kind for _, kind in CLASSES if kind.__module__ == errors.__name__]
TOLD_TO_CLIENTS = {
    400: {"invalid_json", "invalid_http"},
    401: {"unauthorized"},
    404: {"task_not_found", "model_not_found", "not_found"},
    405: {"method_not_allowed"},
    408: {"request_timeout"},
    413: {"task_too_large"},
    415: {"unsupported_encoding"},
    422: {"invalid_request"},
    431: {"head_too_large"},
    429: {"queue_full", "rate_limited", "too_many_attempts"},
    503: {"no_model", "overloaded", "sandbox_unavailable", "shutting_down"},
}
OF_FAILED_TASKS = """
    timeout connect_timeout first_token_timeout idle_timeout expired rate_limited overloaded
    quota_exhausted upstream_auth upstream_rejected context_too_long content_filtered model_gone
    max_steps upstream_disconnected upstream_invalid upstream_too_large empty_answer
    interrupted_unknown internal
"""


def below(root: type[Kind]) -> list[type[Kind]]:
    return [kind for kind in ALL if issubclass(kind, root) and kind is not root]


@pytest.mark.parametrize("kind", ALL)
def test_there_is_one_tree_and_it_is_drawn(kind: type) -> None:
    assert issubclass(kind, AsyncsvcError)
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__


def test_each_status_has_its_codes() -> None:
    found: dict[int, set[str]] = {}
    for kind in below(RequestError):
        if kind not in (Forbidden, Conflict):
            found.setdefault(kind.status, set()).add(kind.code)
    assert found == TOLD_TO_CLIENTS


def test_each_failure_has_its_code() -> None:
    codes = {kind.code for kind in below(ProviderError)}
    assert sorted(codes) == sorted(OF_FAILED_TASKS.split())


def test_the_finer_kinds_look_the_same_to_clients() -> None:
    codes = (errors.ConcurrencyLimited.code, errors.GatewayUnavailable.code)
    assert codes == (errors.RateLimited.code, errors.UpstreamOverloaded.code)


@pytest.mark.parametrize("kind", below(ProviderError))
def test_what_retrying_cannot_help_is_not_tried_again(kind: type[ProviderError]) -> None:
    assert kind.retryable or not kind.again
    assert not (kind.slow_down and kind.trips)


def test_a_failed_task_s_error() -> None:
    error = errors.RateLimited("slow down", retry_after=2.5)
    assert error.as_dict() == {"code": "rate_limited", "message": "slow down", "retryable": True}
    assert error.retry_after == pytest.approx(2.5)


def test_a_bare_error_holds_no_frame_and_says_the_same() -> None:
    try:
        try:
            raise ValueError("what was being read")
        except ValueError as inner:
            raise UpstreamInvalid("broken", retry_after=2) from inner
    except UpstreamInvalid as error:
        kept = error.bare()
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)
    assert (str(kept), kept.retry_after) == ("broken", 2)


def test_an_answer_has_the_shape_of_openai_s() -> None:
    error = QueueFull("full", param="tasks", retry_after=5)
    assert error.retry_after == 5
    assert error.body() == {
        "error": {
            "message": "full",
            "type": "rate_limit_error",
            "code": "queue_full",
            "param": "tasks",
        }
    }


@pytest.mark.parametrize(("kind", "status"), [(Forbidden, 403), (Conflict, 409)])
def test_some_carry_their_code(kind: type[Forbidden] | type[Conflict], status: int) -> None:
    error = kind("some_code", "no")
    assert (error.status, error.body()["error"]["code"], str(error)) == (status, "some_code", "no")


def test_a_missing_task_is_named() -> None:
    error = TaskNotFound("t1")
    assert error.param == "task_id"
    assert "'t1'" in str(error)


def test_an_illegal_transition_says_both_ends() -> None:
    error = IllegalTransition("completed", "paused")
    assert str(error) == "a task that is completed cannot be paused"
    assert (error.state, error.cause) == ("completed", "paused")


def test_settings_faults_are_lines() -> None:
    error = SettingsError(["one", "two"])
    assert (error.lines, str(error)) == (["one", "two"], "one\ntwo")
