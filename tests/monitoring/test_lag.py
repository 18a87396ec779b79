import asyncio

import pytest

from asyncsvc.monitoring.process_statistics import LoopLag
from tests.virtual_time import loop, virtual


def _stand_still(seconds: float) -> None:
    """The loop does something else, as far as its clock can tell."""
    loop().now += seconds


@virtual
async def test_a_punctual_loop_has_no_lag() -> None:
    lag = LoopLag()
    assert lag.quantile(0.99) == pytest.approx(0.0)
    lag.start()
    await asyncio.sleep(30)
    assert lag.quantile(0.99) == pytest.approx(0.0, abs=1e-6)
    lag.stop()


@virtual
async def test_a_stop_counts_for_as_long_as_it_lasted() -> None:
    lag = LoopLag()
    lag.start()
    await asyncio.sleep(9.01)
    _stand_still(3.0)
    await asyncio.sleep(0.2)
    # Of the last ten seconds it stood still for three: 30 ticks, evenly from 0 to 3 s late.
    assert lag.quantile(0.5, 10.0) == pytest.approx(0.0, abs=0.01)
    assert lag.quantile(0.9, 10.0) == pytest.approx(2.0, abs=0.15)
    assert lag.quantile(1.0, 10.0) == pytest.approx(3.0, abs=0.15)
    lag.stop()


@virtual
async def test_what_was_a_minute_ago_is_forgotten() -> None:
    lag = LoopLag()
    lag.start()
    await asyncio.sleep(1)
    _stand_still(500.0)
    await asyncio.sleep(0.2)
    assert lag.quantile(0.5) > 400
    await asyncio.sleep(61)
    assert lag.quantile(1.0) == pytest.approx(0.0, abs=0.01)
    lag.stop()


@virtual
async def test_it_can_be_stopped_without_having_been_started() -> None:
    LoopLag().stop()


@virtual
async def test_a_stop_at_the_start_is_a_part_of_the_window_only() -> None:
    lag = LoopLag()
    lag.start()
    _stand_still(1.0)
    await asyncio.sleep(0.5)
    assert lag.quantile(0.9, 10.0) == pytest.approx(0.0)
    assert lag.quantile(0.99, 10.0) > 0.8
    lag.stop()
