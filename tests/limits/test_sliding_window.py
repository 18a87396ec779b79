import asyncio
import math
from bisect import bisect_left
from itertools import pairwise

import pytest
from aiolimiter import AsyncLimiter

from asyncsvc.limits.sliding_window import KEPT, MARGIN_S, Entry, Window
from tests.virtual_time import loop, virtual


def call(window: Window, at: float, head_after: float = 0.0) -> Entry:
    """A call sent at that moment, its answer's head seen a little later."""
    stamp = window.reserve()
    window.sent(stamp, at)
    window.head(stamp, at + head_after)
    return stamp


def most_in(arrivals: list[float], span_s: float) -> int:
    """The most arrivals in any half-open window of that length."""
    ordered = sorted(arrivals)
    return max(bisect_left(ordered, at + span_s) - i for i, at in enumerate(ordered))


def test_none_wait_until_the_limit_is_reached() -> None:
    window = Window(3, 60.0)
    for at in range(3):
        assert window.wait(at) == 0
        call(window, at)
    assert window.used(3) == 3
    assert window.wait(3) == 57 + MARGIN_S


def test_calls_are_listed_with_their_age_newest_first() -> None:
    window = Window(10, 60.0)
    assert window.calls(0.0, 9) == []
    call(window, 0.0)
    window.refuse(call(window, 10.0))
    window.refund(call(window, 20.0))
    window.reserve()  # not sent yet: it has no age
    window.sent(window.reserve(), 30.0)  # may reach the provider up to two seconds later
    assert window.calls(31.0, 9) == [(0.0, False), (21.0, True), (31.0, False)]
    assert window.calls(31.0, 2) == [(0.0, False), (21.0, True)]
    assert window.calls(61.0, 9) == [(29.0, False), (51.0, True)]


def test_the_place_is_free_a_span_after_the_head() -> None:
    window = Window(1, 60.0)
    call(window, 0.0, head_after=0.5)
    assert window.wait(60.5) == pytest.approx(MARGIN_S)
    assert window.wait(60.5 + MARGIN_S) == 0
    assert window.used(60.5 + MARGIN_S) == 0


def test_without_a_head_a_call_counts_from_when_it_surely_arrived() -> None:
    window = Window(1, 60.0, lag_s=2.0)
    window.sent(window.reserve(), 0.0)
    assert window.wait(0.0) == 62 + MARGIN_S


def test_a_head_later_than_the_lag_changes_nothing() -> None:
    window = Window(1, 60.0, lag_s=2.0)
    call(window, 0.0, head_after=30.0)
    assert window.wait(30.0) == 32 + MARGIN_S


def test_it_is_whole_again_when_the_latest_call_no_longer_counts() -> None:
    window = Window(3, 60.0)
    assert window.whole(0.0) == 0
    late = window.reserve()
    call(window, 5.0)
    assert window.whole(6.0) == math.inf
    window.sent(late, 7.0)
    window.head(late, 8.0)
    assert window.whole(10.0) == pytest.approx(58.0 + MARGIN_S)
    assert window.whole(69.0) == 0


def test_the_lag_grows_with_the_span() -> None:
    assert Window(1).lag_s == 2
    assert Window(1, 6.0).lag_s == pytest.approx(0.2)
    assert Window(1, 6.0, lag_s=1.0).lag_s == 1


def test_a_reserved_place_is_held_for_as_long_as_it_takes() -> None:
    window = Window(1)
    window.reserve()
    assert window.wait(1e9) == math.inf
    assert window.used(1e9) == 1


def test_a_refunded_place_is_free_at_once() -> None:
    window = Window(2)
    call(window, 0.0)
    stamp = window.reserve()
    window.refund(stamp)
    window.refund(stamp)
    assert window.used(0.0) == 1
    assert window.wait(0.0) == 0


def test_zero_is_no_limit_but_a_limit_that_comes_later_knows_the_calls() -> None:
    window = Window(0)
    for _ in range(1000):
        call(window, 0.0)
    window.refund(window.reserve())
    assert window.wait(0.0) == 0
    window.limit = 1001
    assert window.wait(0.0) == 0
    call(window, 1.0)
    assert window.wait(1.0) == pytest.approx(59 + MARGIN_S)
    assert window.used(60.5) == 1


def test_without_a_limit_only_so_many_are_noted() -> None:
    window = Window(0)
    refused = call(window, 0.0)
    window.refuse(refused)
    for _ in range(KEPT + 5):
        call(window, 0.0)
    window.refuse(refused)
    assert window.used(0.0) == window.accepted(0.0) == KEPT


def test_calls_stay_where_they_are_when_the_span_changes() -> None:
    window = Window(1, 60.0)
    call(window, 0.0)
    window.span(10.0)
    assert window.wait(5.0) == pytest.approx(5 + MARGIN_S)
    window.span(100.0)
    assert window.wait(5.0) == pytest.approx(95 + MARGIN_S)


def test_restored_calls_count_for_what_is_left_of_their_span() -> None:
    window = Window(2, 60.0, lag_s=2.0)
    window.restore(61.0, now=1000.0)
    window.restore(10.0, now=1000.0)
    assert window.used(1000.0) == 2
    assert window.wait(1000.0) == pytest.approx(1 + MARGIN_S)
    assert window.wait(1002.0) == 0


def test_a_restored_call_of_the_future_counts_as_of_now() -> None:
    window = Window(1, 60.0, lag_s=2.0)
    window.restore(-3600.0, now=1000.0)
    assert window.wait(1000.0) == pytest.approx(62 + MARGIN_S)


def test_a_call_exactly_one_span_later_is_refused() -> None:
    window = Window(1, 60.0)
    call(window, 0.0)
    assert window.wait(60.0) > 0


@virtual
async def test_the_limiter_alone_would_let_79_of_40_through() -> None:
    limiter = AsyncLimiter(40, 60)
    starts = []
    for _ in range(200):
        await limiter.acquire()
        starts.append(loop().time())
    assert most_in(starts, 60.0) == 79


async def saturated(window: Window, seconds: float, head_after: float) -> list[float]:
    """When each call is sent by someone who always has another one to make."""
    sent = []
    while loop().time() < seconds:
        if (delay := window.wait(loop().time())) > 0:
            await asyncio.sleep(delay)
            continue
        stamp = window.reserve()
        window.sent(stamp, loop().time())
        sent.append(loop().time())
        at = loop().time() + head_after
        loop().call_at(at, window.head, stamp, at)
    return sent


@pytest.mark.parametrize("head_after", [0.0, 0.3, 1.9, 40.0])
@pytest.mark.parametrize(("limit", "span_s"), [(40, 60.0), (5, 60.0), (1, 60.0), (30, 1.0)])
def test_nearly_all_of_the_rate_is_used(limit: int, span_s: float, head_after: float) -> None:
    @virtual
    async def check() -> None:
        spans = 50
        sent = await saturated(Window(limit, span_s), spans * span_s, head_after)
        assert most_in(sent, span_s) <= limit
        assert len(sent) >= 0.95 * limit * spans

    check()


@virtual
async def test_a_full_window_opens_again_one_by_one() -> None:
    window = Window(4, 60.0)
    for at in (0.0, 10.0, 20.0, 30.0):
        call(window, at)
    waits = [window.wait(at) for at in (30.0, 30.1, 59.0)]
    assert waits == pytest.approx([30 + MARGIN_S, 29.9 + MARGIN_S, 1 + MARGIN_S])
    assert all(earlier > later for earlier, later in pairwise(waits))
    assert window.wait(60.1) == 0
    call(window, 60.1)
    assert window.wait(60.1) == pytest.approx(9.9 + MARGIN_S)


def test_what_a_call_used_beyond_its_estimate_counts_from_its_end_down_to_one() -> None:
    window = Window(10, 60.0)
    entry = window.reserve(5)
    window.sent(entry, 0.0)
    window.head(entry, 0.0)
    window.settle(entry, 6, 30.0)
    assert window.used(30.0) == 6
    assert window.used(60.0 + MARGIN_S) == 1
    assert window.used(90.0 + MARGIN_S) == 0
