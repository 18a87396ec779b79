"""What a gate makes of calls that failed: slow-downs and the breaker."""

import asyncio
import math
from collections.abc import Callable

import pytest

from asyncsvc.errors import (
    ConcurrencyLimited,
    ConnectTimeout,
    ContentFiltered,
    ContextTooLong,
    EmptyAnswer,
    Expired,
    FirstTokenTimeout,
    GateClosed,
    IdleTimeout,
    InternalError,
    InterruptedUnknown,
    KeptConnectionLost,
    ModelGone,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    TaskTimeout,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTooLarge,
)
from asyncsvc.limits.account import AccountLimiter, Listener
from asyncsvc.limits.adaptive import Adaptive
from asyncsvc.limits.breaker import Breaker, BreakerState
from asyncsvc.limits.headers import RateHeaders
from asyncsvc.limits.sliding_window import Window
from asyncsvc.limits.verdict import Stage
from tests.limits.test_account import called, settle, trip, waiting
from tests.upstreams import gate
from tests.virtual_time import loop, virtual

# Slow down ------------------------------------------------------------------------------------


@virtual
async def test_retry_after_is_obeyed() -> None:
    cool = gate()
    cool.failed(RateLimited("x", retry_after=17.0))
    assert cool.wait() == 17
    await cool.acquire()
    assert loop().time() == 17


@virtual
async def test_retry_after_wins_over_a_shorter_wait_and_never_shortens_a_longer_one() -> None:
    cool = gate()
    cool.failed(RateLimited("x", retry_after=17.0))
    cool.failed(RateLimited("x", retry_after=30.0))
    assert cool.wait() == 30
    cool.failed(RateLimited("x", retry_after=1.0))
    assert cool.wait() == 30


async def slow_downs(gate: AccountLimiter, times: int) -> list[float]:
    waits = []
    for _ in range(times):
        gate.failed(RateLimited("x"))
        waits.append(gate.wait())
        await asyncio.sleep(gate.wait())
    return waits


@virtual
async def test_without_retry_after_the_ceiling_doubles() -> None:
    for tried, wait in enumerate(await slow_downs(gate(), 10)):
        assert 0.099 <= wait / min(60, 2**tried) <= 1.001


@virtual
async def test_calls_refused_together_are_one_refusal() -> None:
    cool = gate()
    for _ in range(20):
        cool.failed(RateLimited("x"))
    assert cool.wait() <= 1


@virtual
async def test_a_success_starts_the_doubling_anew() -> None:
    cool = gate()
    await slow_downs(cool, 8)
    cool.succeeded(1.0)
    assert (await slow_downs(cool, 1))[0] <= 1


@virtual
async def test_a_retry_after_of_nothing_is_no_leave_to_hammer() -> None:
    cool = gate()
    cool.failed(RateLimited("x", retry_after=0.0))
    assert cool.wait() > 0


@virtual
async def test_a_lost_connection_leaves_nothing_to_wait_for() -> None:
    open_gate = gate()
    for _ in range(20):
        open_gate.failed(KeptConnectionLost("x"))
    assert open_gate.wait() == 0
    assert open_gate.breaker.state(open_gate.time()) is BreakerState.CLOSED


@virtual
async def test_a_probe_on_a_lost_connection_lets_the_next_one_try() -> None:
    broken = gate(3)
    trip(broken)
    await asyncio.sleep(31)
    probe = await called(broken)
    broken.failed(KeptConnectionLost("x"), probe)
    probe.release()
    assert broken.wait() == 0
    assert broken.breaker.state(broken.time()) is BreakerState.HALF_OPEN


# The breaker ----------------------------------------------------------------------------------

TRIPPING: list[type[ProviderError]] = [
    *(ConnectTimeout, FirstTokenTimeout, IdleTimeout, UpstreamOverloaded),
    *(UpstreamDisconnected, UpstreamInvalid, InterruptedUnknown),
]
HARMLESS: list[type[ProviderError]] = [
    *(RateLimited, QuotaExhausted, UpstreamAuth, UpstreamRejected, ContextTooLong, InternalError),
    *(ContentFiltered, ModelGone, TaskTimeout, Expired, EmptyAnswer, UpstreamTooLarge),
]


@pytest.mark.parametrize("error", TRIPPING)
def test_the_fifth_failure_of_the_provider_opens_the_breaker(error: type[ProviderError]) -> None:
    @virtual
    async def check() -> None:
        broken = gate()
        for _ in range(4):
            broken.failed(error("x"))
        assert (broken.breaker.state(broken.time()), broken.wait()) == (BreakerState.CLOSED, 0)
        broken.failed(error("x"))
        assert (broken.breaker.state(broken.time()), broken.wait()) == (BreakerState.OPEN, 30)

    check()


@pytest.mark.parametrize("error", HARMLESS)
def test_what_is_not_the_providers_fault_never_opens_it(error: type[ProviderError]) -> None:
    @virtual
    async def check() -> None:
        sound = gate()
        for _ in range(50):
            sound.failed(error("x"))
        assert sound.breaker.state(sound.time()) is BreakerState.CLOSED
        assert sound.statistics.errors == sound.statistics.calls == 50

    check()


@virtual
async def test_one_probe_passes_and_its_success_lets_all_through() -> None:
    broken = gate(3)
    trip(broken)
    probe = await called(broken)
    assert loop().time() == 30
    others = [waiting(broken) for _ in range(2)]
    await asyncio.sleep(3600)
    assert not any(other.done() for other in others)
    broken.succeeded(1.0)
    probe.release()
    await settle()
    assert all(other.done() for other in others)


@virtual
async def test_a_probe_that_fails_costs_another_cool_down() -> None:
    broken = gate(3)
    trip(broken)
    probe = await called(broken)
    trip(broken, 1)
    probe.release()
    assert (broken.breaker.state(broken.time()), broken.wait()) == (BreakerState.OPEN, 30)


@virtual
async def test_a_probe_given_back_unused_lets_the_next_one_try() -> None:
    broken = gate(3)
    trip(broken)
    (await broken.acquire()).release()
    assert broken.wait() == 0
    assert broken.breaker.state(broken.time()) is BreakerState.HALF_OPEN


@virtual
async def test_a_cancelled_probe_lets_the_next_one_try() -> None:
    broken = gate(3)
    trip(broken)

    async def attempt() -> None:
        probe = await called(broken)
        try:
            await asyncio.Event().wait()
        finally:
            probe.release()

    running = asyncio.create_task(attempt())
    await asyncio.sleep(31)
    assert broken.wait() == math.inf
    running.cancel()
    await settle()
    assert broken.wait() == 0


def fill(gate: AccountLimiter) -> None:
    gate.restore_calls([(0.0, 0)])
    gate.failed(UpstreamRejected("x"))


CLOSING: dict[str, Callable[[AccountLimiter], None]] = {
    "breaker": trip,
    "slow down": lambda gate: gate.failed(RateLimited("x", retry_after=5.0)),
    "window": fill,
}


@pytest.mark.parametrize("how", CLOSING)
def test_the_listener_is_called_when_the_account_closes(how: str) -> None:
    @virtual
    async def check() -> None:
        found: list[bool] = []
        closing = gate(5, rpm=1, on_close=lambda each: found.append(each.verdict(Stage.SLOT).ready))
        CLOSING[how](closing)
        assert found == [False]

    check()


@virtual
async def test_a_failure_that_closes_nothing_calls_no_listener() -> None:
    closed: list[str] = []
    still = gate(on_close=lambda each: closed.append(each.name))
    still.failed(UpstreamOverloaded("x"))
    assert closed == []


# What headers tell ------------------------------------------------------------------------------


@virtual
async def test_nothing_left_closes_the_gate_until_the_reset() -> None:
    closed: list[str] = []
    closing = gate(5, rpm=40, on_close=lambda each: closed.append(each.name))
    closing.read(RateHeaders(60, 0, 12.0))
    assert (closing.wait(), closed) == (12, ["m"])
    closing.read(RateHeaders(60, 0, 5.0))
    assert closing.wait() == 12


@virtual
async def test_a_limit_in_a_header_never_changes_one_that_was_set() -> None:
    closing = gate(5, rpm=40)
    closing.read(RateHeaders(60, 3, 5.0))
    assert (closing.wait(), closing.window.limit) == (0, 40)


@virtual
async def test_a_limit_in_a_header_is_the_end_of_learning() -> None:
    changed: list[int] = []
    learning = AccountLimiter(
        "m",
        concurrency=5,
        window=Window(30),
        breaker=Breaker(5, 30.0),
        adaptive=Adaptive.of(False, True, 60.0),
        listener=Listener(on_learn=lambda each: changed.append(each.window.limit)),
    )
    learning.read(RateHeaders(500, 499, 1.0))
    assert changed == [500]


@virtual
async def test_an_account_that_learns_cools_down_briefly_but_obeys_retry_after() -> None:
    learning = AccountLimiter(
        "m",
        concurrency=2,
        window=Window(0),
        breaker=Breaker(5, 30.0),
        adaptive=Adaptive.of(True, False, 60.0),
    )
    first, second = await called(learning), await learning.acquire()
    second.reserve(False)
    second.sent()
    second.head(False)
    learning.failed(ConcurrencyLimited("x"), second)
    assert (learning.concurrency, learning.wait()) == (1, 1.0)
    learning.failed(ConcurrencyLimited("x", retry_after=20.0), second)
    assert learning.wait() == 20
    second.release()
    assert not learning.verdict(Stage.SLOT).ready
    first.release()
    await asyncio.sleep(20)
    assert learning.verdict(Stage.SLOT).ready


@virtual
async def test_the_next_call_of_a_permit_waits_for_an_open_breaker_and_is_its_probe() -> None:
    broken = gate(2)
    permit = await called(broken)
    trip(broken)
    await permit.again()
    assert loop().time() == 30
    other = waiting(broken)
    await asyncio.sleep(100)
    assert not other.done()
    permit.release()
    await settle()
    assert other.done()


@virtual
async def test_a_permit_from_before_the_breaker_opened_becomes_the_probe() -> None:
    broken = gate(2)
    permit = await broken.acquire()
    permit.reserve(False)
    trip(broken)
    with pytest.raises(GateClosed, match="breaker open after 5 failures"):
        permit.confirm()
    await asyncio.sleep(30)
    permit.confirm()
    assert broken.breaker.wait(loop().time()) == math.inf


@virtual
async def test_a_probe_steps_back_where_an_older_call_fails_before_it_is_made() -> None:
    broken = gate(2)
    old = await called(broken)
    trip(broken)
    await asyncio.sleep(30)
    probe = await broken.acquire()
    probe.reserve(False)
    broken.failed(UpstreamOverloaded("x"), old)
    with pytest.raises(GateClosed):
        probe.confirm()
    probe.release()
    assert broken.wait() == 30


@pytest.mark.parametrize("error", [UpstreamAuth("x"), RateLimited("x"), ModelGone("x")])
@virtual
async def test_an_error_that_is_kept_holds_no_frames(error: ProviderError) -> None:
    """They hold the body of the task, which may have megabytes."""
    account = gate()
    try:
        raise error from OSError("the cause")
    except ProviderError:
        if isinstance(error, ModelGone):
            account.disable(error)
        else:
            account.failed(error)
    assert error in (account.fault, (account.statistics.refusal or (0, None))[1])
    assert error.__traceback__ is None
