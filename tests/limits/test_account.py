import asyncio
import math

import pytest

from asyncsvc.errors import GateClosed, RateLimited, UpstreamOverloaded, UpstreamRejected
from asyncsvc.limits.account import AccountLimiter, Permit
from asyncsvc.limits.verdict import Stage
from tests.limits.test_sliding_window import most_in
from tests.upstreams import gate
from tests.virtual_time import loop, virtual


async def called(gate: AccountLimiter, long: bool = False) -> Permit:
    """A permit whose call has reached the provider."""
    permit = await gate.acquire()
    permit.reserve(long)
    permit.sent()
    permit.head()
    return permit


def waiting(gate: AccountLimiter) -> asyncio.Task[Permit]:
    return asyncio.create_task(gate.acquire())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def trip(gate: AccountLimiter, times: int = 5) -> None:
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
    permit.release()
    assert (quiet.busy, quiet.window.used(0.0), quiet.statistics.recent(60)) == (0, 0, 0)
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
    one.restore_calls([(0.0, 0)])
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
async def test_what_changed_while_the_limiter_held_a_call_is_seen() -> None:
    one = gate(1, rpm=40)
    (await called(one)).release()
    second = waiting(one)
    await asyncio.sleep(0.1)
    one.failed(RateLimited("x", retry_after=10.0))
    await second
    assert loop().time() == pytest.approx(10.1)


@virtual
async def test_a_wait_for_the_window_notices_that_a_call_was_sent() -> None:
    one = gate(2, rpm=1)
    permit = await one.acquire()
    permit.reserve(False)
    second = waiting(one)
    await asyncio.sleep(1)
    permit.sent()
    await asyncio.sleep(62.1)
    assert second.done()


@virtual
async def test_a_wait_for_the_window_notices_that_a_head_was_seen() -> None:
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
    restored.restore_calls([(50.0, 0), (10.0, 0)])
    assert restored.wait() == pytest.approx(12.002)
    await restored.acquire()
    assert loop().time() == pytest.approx(12.002)


# What is shown and asked ----------------------------------------------------------------------


@virtual
async def test_a_long_task_leaves_one_slot_to_the_others() -> None:
    shared = gate(3)
    for _ in range(2):
        assert shared.verdict(Stage.SLOT, long=True).ready
        await called(shared, long=True)
    assert not shared.verdict(Stage.SLOT, long=True).ready
    assert shared.verdict(Stage.SLOT).ready


@virtual
async def test_a_long_task_may_have_the_only_slot() -> None:
    assert gate(1).verdict(Stage.SLOT, long=True).ready


@virtual
async def test_a_long_task_gives_its_share_back() -> None:
    shared = gate(2)
    permit = await called(shared, long=True)
    assert not shared.verdict(Stage.SLOT, long=True).ready
    permit.release()
    assert shared.verdict(Stage.SLOT, long=True).ready


@virtual
async def test_an_open_breaker_admits_no_task() -> None:
    broken = gate()
    trip(broken)
    assert not broken.verdict(Stage.SLOT).ready
    await broken.acquire()
    assert broken.verdict(Stage.SLOT).ready


@virtual
async def test_a_full_window_admits_no_task() -> None:
    full = gate(5, rpm=1)
    await called(full)
    assert not full.verdict(Stage.SLOT).ready


@virtual
async def test_describe_says_what_is_waited_for() -> None:
    shown = gate(1, rpm=2)
    assert shown.describe() is None
    permit = await called(shown)
    assert shown.describe() == "m: 1 of 1 calls under way"
    permit.release()
    shown.restore_calls([(0.0, 0)])
    assert shown.describe() == "m: 2 of 2 calls used, next in 60 s"
    await asyncio.sleep(50)
    trip(shown)
    assert shown.describe() == "m: breaker open after 5 failures"
    shown.failed(RateLimited("x", retry_after=42.0))
    assert shown.describe() == "m: asked to slow down, next in 42 s"


@virtual
async def test_describe_gives_no_time_that_is_not_known() -> None:
    shown = gate(2, rpm=1)
    (await shown.acquire()).reserve(False)
    assert shown.describe() == "m: 1 of 1 calls used"


@virtual
async def test_recent_counts_the_calls_begun_in_the_last_seconds() -> None:
    seen = gate()
    for _ in range(3):
        (await called(seen)).release()
        await asyncio.sleep(20)
    assert seen.statistics.recent(60) == 3
    await asyncio.sleep(10)
    assert seen.statistics.recent(60) == 2
    assert seen.statistics.recent(1) == 0


@virtual
async def test_the_time_of_a_call_is_averaged() -> None:
    timed = gate()
    timed.succeeded(10.0)
    assert timed.statistics.service_s == 10
    timed.succeeded(20.0)
    assert timed.statistics.service_s == 12
    assert (timed.statistics.calls, timed.statistics.errors) == (2, 0)


@virtual
async def test_first_tokens_and_their_rate_are_averaged() -> None:
    figures = gate().statistics
    assert (figures.first_token_s, figures.tokens_per_s) == (None, None)
    figures.streamed(1.0, 3.0, {"completion_tokens": 41})
    assert (figures.first_token_s, figures.tokens_per_s) == (1.0, 20.0)
    figures.streamed(2.0, 3.0, {"completion_tokens": 11})
    assert figures.first_token_s == pytest.approx(1.2)
    assert figures.tokens_per_s == pytest.approx(18)
    for usage in (None, {}, {"completion_tokens": 1}, {"completion_tokens": "many"}):
        figures.streamed(2.0, 3.0, usage)
    figures.streamed(3.0, 3.0, {"completion_tokens": 1000})  # all of it in one piece
    assert figures.tokens_per_s == pytest.approx(18)


@virtual
async def test_the_latest_refusal_of_the_account_is_kept() -> None:
    account = gate()
    account.failed(UpstreamRejected("about the request"))
    account.failed(GateClosed("m: breaker open"))
    assert account.statistics.refusal is None
    await asyncio.sleep(7)
    refused = RateLimited("slow down", retry_after=3.0)
    account.failed(refused)
    account.succeeded(1.0)
    assert account.statistics.refusal == (loop().time(), refused)


@virtual
async def test_one_more_call_under_the_same_slot_waits_for_the_window() -> None:
    two = gate(1, rpm=2)
    permit = await called(two)
    await permit.again()
    permit.sent()
    permit.head()
    assert (two.busy, two.statistics.recent(60), loop().time()) == (1, 2, 0)
    await permit.again()
    assert loop().time() == pytest.approx(60, abs=0.1)
    permit.release()
    assert (two.busy, two.window.used(loop().time())) == (0, 0)
    await asyncio.wait_for(two.acquire(), 1)


@virtual
async def test_one_more_call_waits_while_the_provider_asks_for_it() -> None:
    one = gate(2)
    permit = await called(one)
    one.failed(RateLimited("x", retry_after=7))
    await permit.again()
    assert loop().time() == pytest.approx(7)


@virtual
async def test_a_probe_of_several_calls_does_not_wait_for_itself() -> None:
    broken = gate(1)
    trip(broken)
    permit = await called(broken)
    probe_began = loop().time()
    await permit.again()
    assert loop().time() == probe_began
    permit.release()


@virtual
async def test_a_worker_that_waits_at_a_paused_account_goes_on_when_the_pause_ends() -> None:
    paused = gate()
    paused.pause("maintenance")
    worker = asyncio.create_task(paused.acquire())
    await asyncio.sleep(100)
    assert not worker.done()
    paused.pause(None)
    await settle()
    assert worker.done()
    (await worker).release()
