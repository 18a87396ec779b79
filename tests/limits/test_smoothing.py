import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsvc.limits.smoothing import BURST, Smoothing
from tests.virtual_time import loop, run_virtual, virtual

PACE_S = 60 / (40 * BURST)
"""Between two calls of 40 in 60 s, once the burst is over."""


def wait(smooth: Smoothing) -> float:
    """Seconds until the next call may begin."""
    return max(smooth.free_at - loop().time(), 0.0)


@virtual
async def test_a_burst_passes_then_one_at_a_time() -> None:
    smooth, passed = Smoothing(5, 40, 60.0), []
    for _ in range(8):
        await smooth.acquire()
        passed.append(loop().time())
    assert passed == pytest.approx([0, 0, 0, 0, 0, PACE_S, 2 * PACE_S, 3 * PACE_S])


@virtual
async def test_it_says_how_many_may_begin_and_when_the_next() -> None:
    smooth = Smoothing(2, 40, 60.0)
    found = []
    for _ in range(3):
        found.append((smooth.room(loop().time()), wait(smooth)))
        if smooth.room(loop().time()):
            await smooth.acquire()
    assert found == [(2, 0), (1, 0), (0, pytest.approx(PACE_S))]
    await asyncio.sleep(PACE_S)
    assert (smooth.room(loop().time()), wait(smooth)) == (1, 0)


@virtual
async def test_without_a_limit_nothing_is_evened_out() -> None:
    smooth = Smoothing(1, 0, 60.0)
    for _ in range(1000):
        await smooth.acquire()
    assert smooth.free
    assert (loop().time(), smooth.room(0), wait(smooth)) == (0, math.inf, 0)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 200), st.lists(st.floats(0, 30), max_size=40))
def test_what_it_says_is_what_the_limiter_does(
    at_once: int, limit: int, pauses: list[float]
) -> None:
    async def check() -> None:
        smooth = Smoothing(at_once, limit, 60.0)
        for pause in pauses:
            await asyncio.sleep(pause)
            began = loop().time()
            expected = wait(smooth)
            await smooth.acquire()
            assert loop().time() - began == pytest.approx(expected, abs=1e-4)

    run_virtual(check())
