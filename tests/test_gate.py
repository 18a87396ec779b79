import asyncio
import math
from collections.abc import Callable

import pytest

from asyncsvc.errors import (
    ConnectTimeout,
    ContentFiltered,
    ContextTooLong,
    EmptyAnswer,
    Expired,
    FirstTokenTimeout,
    IdleTimeout,
    InternalError,
    InterruptedUnknown,
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
)
from asyncsvc.providers.breaker import BreakerState
from asyncsvc.providers.gate import Gate, Permit
from tests.test_window import most_in
from tests.upstreams import gate
from tests.virtual_time import loop, virtual


async def called(gate: Gate, long: bool = False) -> Permit:
    """A permit whose call has reached the provider."""
    permit = await gate.acquire()
    permit.reserve(long)
    permit.sent()
    permit.head()
    return permit


def waiting(gate: Gate) -> asyncio.Task[Permit]:
    return asyncio.create_task(gate.acquire())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def trip(gate: Gate, times: int = 5) -> None:
    for _ in range(times):
        gate.failed(UpstreamOverloaded("x"))


@virtual
async def test_no_more_permits_than_the_concurrency() -> None:
    full = gate(2)
    first = await full.acquire()
    await full.acquire()
    third = waiting(full)
    await asyncio.sleep(3600)
    assert not third.done()
    first.release()
    await settle()
    assert third.done()


@virtual
async def test_a_permit_is_given_back_once() -> None:
    one = gate(1)
    permit = await called(one)
    permit.release()
    permit.release()
    assert one.busy == 0
    await one.acquire()
    second = waiting(one)
    await settle()
    assert not second.done()
    second.cancel()


@virtual
async def test_a_permit_never_used_leaves_no_trace() -> None:
    quiet = gate(1, rpm=1)
    permit = await quiet.acquire()
    permit.sent()
    permit.head()
    permit.release()
    assert (quiet.busy, quiet.window.used(0.0), quiet.recent(60)) == (0, 0, 0)
    assert quiet.wait() == 0


@virtual
async def test_a_call_that_was_never_made_gives_its_place_back() -> None:
    one = gate(1, rpm=1)
    permit = await one.acquire()
    permit.reserve(False)
    assert one.wait() == math.inf
    permit.release()
    assert one.wait() == 0


@virtual
async def test_a_call_that_was_made_does_not() -> None:
    one = gate(1, rpm=1)
    (await called(one)).release()
    assert one.wait() == pytest.approx(60.002)


@virtual
async def test_a_cancelled_wait_for_a_slot_takes_none() -> None:
    one = gate(1)
    permit = await one.acquire()
    second = waiting(one)
    await settle()
    second.cancel()
    await settle()
    permit.release()
    async with asyncio.timeout(1):
        await one.acquire()


@virtual
async def test_a_cancelled_wait_for_the_window_gives_its_slot_back() -> None:
    one = gate(1, rpm=1)
    one.restore([0.0])
    second = waiting(one)
    await asyncio.sleep(1)
    second.cancel()
    await settle()
    await asyncio.sleep(100)
    async with asyncio.timeout(1):
        await one.acquire()


@virtual
async def test_a_cancelled_wait_for_the_limiter_gives_its_slot_back() -> None:
    one = gate(1, rpm=40)
    (await called(one)).release()
    second = waiting(one)
    await settle()
    assert not second.done()
    second.cancel()
    await asyncio.sleep(1)
    async with asyncio.timeout(1):
        await one.acquire()


@virtual
async def test_the_window_holds_and_nearly_all_of_the_rate_is_used() -> None:
    busy, sent = gate(5, rpm=40), []

    async def work() -> None:
        while True:
            permit = await called(busy)
            sent.append(loop().time())
            await asyncio.sleep(2)
            permit.release()

    workers = [asyncio.create_task(work()) for _ in range(5)]
    await asyncio.sleep(60 * 30)
    for worker in workers:
        worker.cancel()
    assert most_in(sent, 60.0) == 40
    assert len(sent) >= 0.95 * 40 * 30


@virtual
async def test_a_burst_above_the_concurrency_is_evened_out() -> None:
    smooth, sent = gate(5, rpm=40), []
    for _ in range(40):
        (await called(smooth)).release()
        sent.append(loop().time())
    assert most_in(sent, 1.0) <= 5 + 3
    assert sent[-1] < 20


@virtual
async def test_whoever_waits_for_the_window_learns_that_a_call_was_sent() -> None:
    one = gate(2, rpm=1)
    permit = await one.acquire()
    permit.reserve(False)
    second = waiting(one)
    await asyncio.sleep(1)
    permit.sent()
    await asyncio.sleep(62.1)
    assert second.done()


@virtual
async def test_whoever_waits_for_the_window_learns_that_a_head_was_seen() -> None:
    one = gate(2, rpm=1)
    permit = await one.acquire()
    permit.reserve(False)
    permit.sent()
    second = waiting(one)
    await asyncio.sleep(0.5)
    permit.head()
    await asyncio.sleep(60.1)
    assert second.done()


@virtual
async def test_restored_calls_count() -> None:
    restored = gate(5, rpm=2)
    restored.restore([50.0, 10.0])
    assert restored.wait() == pytest.approx(12.002)
    await restored.acquire()
    assert loop().time() == pytest.approx(12.002)


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


async def slow_downs(gate: Gate, times: int) -> list[float]:
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
async def test_several_told_at_once_are_told_once() -> None:
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


# The breaker ----------------------------------------------------------------------------------

TRIPPING: list[type[ProviderError]] = [
    *(ConnectTimeout, FirstTokenTimeout, IdleTimeout, UpstreamOverloaded),
    *(UpstreamDisconnected, UpstreamInvalid, EmptyAnswer, InterruptedUnknown),
]
HARMLESS: list[type[ProviderError]] = [
    *(RateLimited, QuotaExhausted, UpstreamAuth, UpstreamRejected, ContextTooLong, InternalError),
    *(ContentFiltered, ModelGone, TaskTimeout, Expired),
]


@pytest.mark.parametrize("error", TRIPPING)
def test_the_fifth_failure_of_the_provider_opens_the_breaker(error: type[ProviderError]) -> None:
    @virtual
    async def check() -> None:
        broken = gate()
        for _ in range(4):
            broken.failed(error("x"))
        assert (broken.breaker_state(), broken.wait()) == (BreakerState.CLOSED, 0)
        broken.failed(error("x"))
        assert (broken.breaker_state(), broken.wait()) == (BreakerState.OPEN, 30)

    check()


@pytest.mark.parametrize("error", HARMLESS)
def test_what_is_not_the_providers_fault_never_opens_it(error: type[ProviderError]) -> None:
    @virtual
    async def check() -> None:
        sound = gate()
        for _ in range(50):
            sound.failed(error("x"))
        assert sound.breaker_state() is BreakerState.CLOSED
        assert sound.errors == sound.calls == 50

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
    assert (broken.breaker_state(), broken.wait()) == (BreakerState.OPEN, 30)


@virtual
async def test_a_probe_given_back_unused_lets_the_next_one_try() -> None:
    broken = gate(3)
    trip(broken)
    (await broken.acquire()).release()
    assert broken.wait() == 0
    assert broken.breaker_state() is BreakerState.HALF_OPEN


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


def fill(gate: Gate) -> None:
    gate.restore([0.0])
    gate.failed(UpstreamRejected("x"))


CLOSING: dict[str, Callable[[Gate], None]] = {
    "breaker": trip,
    "slow down": lambda gate: gate.failed(RateLimited("x", retry_after=5.0)),
    "window": fill,
}


@pytest.mark.parametrize("how", CLOSING)
def test_whoever_stands_in_a_gate_that_closes_is_told(how: str) -> None:
    @virtual
    async def check() -> None:
        closing, told = gate(5, rpm=1), []
        closing.on_close = lambda: told.append(closing.admits(False))
        CLOSING[how](closing)
        assert told == [False]

    check()


@virtual
async def test_a_failure_that_closes_nothing_tells_nobody() -> None:
    still, told = gate(), []
    still.on_close = lambda: told.append(1)
    still.failed(UpstreamOverloaded("x"))
    assert told == []


# What is shown and asked ----------------------------------------------------------------------


@virtual
async def test_a_long_task_leaves_one_slot_to_the_others() -> None:
    shared = gate(3)
    for _ in range(2):
        assert shared.admits(True)
        await called(shared, long=True)
    assert not shared.admits(True)
    assert shared.admits(False)


@virtual
async def test_a_long_task_may_have_the_only_slot() -> None:
    assert gate(1).admits(True)


@virtual
async def test_a_long_task_gives_its_share_back() -> None:
    shared = gate(2)
    permit = await called(shared, long=True)
    assert not shared.admits(True)
    permit.release()
    assert shared.admits(True)


@virtual
async def test_an_open_breaker_admits_nobody() -> None:
    broken = gate()
    trip(broken)
    assert not broken.admits(False)
    await broken.acquire()
    assert broken.admits(False)


@virtual
async def test_a_full_window_admits_nobody() -> None:
    full = gate(5, rpm=1)
    await called(full)
    assert not full.admits(False)


@virtual
async def test_describe_says_what_is_waited_for() -> None:
    shown = gate(1, rpm=2)
    assert shown.describe() is None
    permit = await called(shown)
    assert shown.describe() == "m: 1 of 1 calls under way"
    permit.release()
    shown.restore([0.0])
    assert shown.describe() == "m: 2 of 2 calls used, next in 60 s"
    trip(shown)
    assert shown.describe() == "m: breaker open after 5 failures"
    shown.failed(RateLimited("x", retry_after=12.0))
    assert shown.describe() == "m: asked to slow down, next in 12 s"


@virtual
async def test_describe_gives_no_time_where_nobody_knows_one() -> None:
    shown = gate(2, rpm=1)
    (await shown.acquire()).reserve(False)
    assert shown.describe() == "m: 1 of 1 calls used"


@virtual
async def test_recent_counts_the_calls_begun_in_the_last_seconds() -> None:
    seen = gate()
    for _ in range(3):
        (await called(seen)).release()
        await asyncio.sleep(20)
    assert seen.recent(60) == 3
    await asyncio.sleep(10)
    assert seen.recent(60) == 2
    assert seen.recent(1) == 0


@virtual
async def test_the_time_of_a_call_is_averaged() -> None:
    timed = gate()
    timed.succeeded(10.0)
    assert timed.service_s == 10
    timed.succeeded(20.0)
    assert timed.service_s == 12
    assert (timed.calls, timed.errors) == (2, 0)
