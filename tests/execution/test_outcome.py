from typing import Any

import pytest

from asyncsvc.config.settings import Retry, Settings
from asyncsvc.errors import (
    AuthUnexplained,
    ConcurrencyLimited,
    ContextTooLong,
    EmptyAnswer,
    GatewayUnavailable,
    InternalError,
    InterruptedUnknown,
    KeptConnectionLost,
    ModelGone,
    ModelUnexplained,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooCostly,
    TaskTimeout,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamUnsupported,
)
from asyncsvc.execution.outcome import Deferred, Failed, Retried, after_fault
from asyncsvc.providers.registry import Catalogue
from asyncsvc.providers.upstream import Upstream
from asyncsvc.tasks.state import Request, Task
from tests.engine_services import model

RETRY = Retry(max_retries=3, base_s=1.0, max_s=8.0)


def _upstream(**fields: Any) -> Upstream:
    settings = Settings.model_validate({"models": {"a": model(**fields)}})
    return Catalogue(settings, {}).upstreams[0]


def _after(
    error: ProviderError,
    task: Task | None = None,
    upstream: Upstream | None = None,
    begun: bool = False,
    left_s: float = 1e6,
    model_id: str = "id",
    elsewhere: bool = False,
) -> object:
    return after_fault(
        error,
        task or Task(Request("t")),
        upstream or _upstream(),
        model_id,
        begun=begun,
        left_s=left_s,
        retry=RETRY,
        elsewhere=lambda: elsewhere,
    )


@pytest.mark.parametrize(
    "kind", [UpstreamRejected, UpstreamAuth, QuotaExhausted, ContextTooLong, TaskTimeout, ModelGone]
)
def test_what_cannot_get_better_is_not_tried_again(kind: type[ProviderError]) -> None:
    assert isinstance(_after(kind("x")), Failed)


@pytest.mark.parametrize(
    ("kind", "moves"),
    [
        (UpstreamAuth, True),
        (QuotaExhausted, True),
        (ContextTooLong, True),
        (ModelGone, True),
        (UpstreamUnsupported, True),
        (RequestTooCostly, True),
        (UpstreamRejected, False),
        (TaskTimeout, False),
    ],
)
def test_what_another_account_may_serve_moves_on_for_free(
    kind: type[ProviderError], moves: bool
) -> None:
    after = _after(kind("x"), elsewhere=True)
    assert isinstance(after, Deferred if moves else Failed)


@pytest.mark.parametrize(
    "kind",
    [
        *(UpstreamDisconnected, UpstreamOverloaded, InternalError),
        *(AuthUnexplained, ModelUnexplained),
    ],
)
def test_what_may_pass_is_tried_again(kind: type[ProviderError]) -> None:
    outcome = _after(kind("x"))
    assert isinstance(outcome, Retried)
    assert 0.1 <= outcome.delay_s <= 1.0


def test_delays_grow_up_to_their_bound() -> None:
    delays = []
    for attempts in range(3):
        outcome = _after(UpstreamOverloaded("x"), Task(Request("t"), attempts=attempts))
        assert isinstance(outcome, Retried)
        delays.append(outcome.delay_s)
        assert 0.1 * 2**attempts <= outcome.delay_s <= 2**attempts
    assert len(set(delays)) == 3


def test_the_last_attempt_fails() -> None:
    error = UpstreamOverloaded("x")
    assert isinstance(_after(error, Task(Request("t"), attempts=3)), Failed)


def test_attempts_before_a_manual_retry_do_not_count() -> None:
    assert isinstance(
        _after(UpstreamOverloaded("x"), Task(Request("t"), attempts=5, forgiven=3)), Retried
    )


@pytest.mark.parametrize(("allowed", "attempts"), [(0, 0), (1, 1), (5, 5)])
def test_a_task_says_how_often_it_may_be_tried(allowed: int, attempts: int) -> None:
    request = Request("t", max_retries=allowed)
    assert isinstance(_after(UpstreamOverloaded("x"), Task(request, attempts=attempts)), Failed)
    if attempts:
        task = Task(request, attempts=attempts - 1)
        assert isinstance(_after(UpstreamOverloaded("x"), task), Retried)


def test_the_providers_wish_wins_over_our_delay() -> None:
    outcome = _after(UpstreamOverloaded("x", retry_after=33))
    assert isinstance(outcome, Retried)
    assert outcome.delay_s == 33


def test_a_retry_that_would_come_too_late_is_none() -> None:
    assert isinstance(_after(UpstreamOverloaded("x", retry_after=33), left_s=33), Failed)
    assert isinstance(_after(UpstreamOverloaded("x", retry_after=33), left_s=34), Retried)


def test_slow_down_is_free_whatever_was_used_up() -> None:
    for error in (RateLimited("x"), KeptConnectionLost("x")):
        assert isinstance(_after(error, Task(Request("t"), attempts=99)), Deferred)


def test_a_model_that_is_gone_is_replaced_by_the_next_id() -> None:
    upstream = _upstream(model=["one", "two"])
    assert isinstance(_after(ModelGone("x"), upstream=upstream, model_id="one"), Deferred)
    assert upstream.model_id == "two"
    assert isinstance(_after(ModelGone("x"), upstream=upstream, model_id="two"), Failed)


def test_two_calls_to_a_model_that_is_gone_drop_it_once() -> None:
    upstream = _upstream(model=["one", "two"])
    for _ in range(2):
        assert isinstance(_after(ModelGone("x"), upstream=upstream, model_id="one"), Deferred)
    assert upstream.model_id == "two"


@pytest.mark.parametrize(
    "kind",
    [
        *(UpstreamDisconnected, TaskTimeout, InternalError, RateLimited, GatewayUnavailable),
        EmptyAnswer,
        AuthUnexplained,
    ],
)
def test_an_agent_cut_in_mid_run_is_not_repeated(kind: type[ProviderError]) -> None:
    outcome = _after(kind("x"), upstream=_upstream(preset="openclaw"), begun=True)
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, InterruptedUnknown)
    assert "retry_unsafe" in str(outcome.error)


@pytest.mark.parametrize(
    ("begun", "unsafe"), [(False, False), (True, True)], ids=["not begun", "allowed"]
)
def test_an_agent_is_repeated_where_that_is_safe_or_allowed(begun: bool, unsafe: bool) -> None:
    task = Task(Request("t", retry_unsafe=unsafe))
    agent = _upstream(preset="openclaw")
    assert isinstance(_after(UpstreamDisconnected("x"), task, agent, begun), Retried)


@pytest.mark.parametrize("kind", [ConcurrencyLimited, GatewayUnavailable])
def test_a_refusal_before_the_beginning_is_waited_for(kind: type[ProviderError]) -> None:
    assert isinstance(_after(kind("x"), upstream=_upstream(preset="openclaw")), Deferred)


def test_an_agent_that_refuses_has_not_acted() -> None:
    outcome = _after(UpstreamRejected("x"), upstream=_upstream(preset="openclaw"), begun=True)
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "upstream_rejected"
