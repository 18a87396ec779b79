"""Work on large texts: in one thread, one at a time, with a rest where others wait."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from asyncsvc import large_work, memory
from asyncsvc.large_work import REST_S, LargeWork


class Clock:
    """The time of the thread: work takes `lasts_s`, rests are noted."""

    def __init__(self) -> None:
        self.lasts_s = 0.02
        self.rests: list[float] = []
        self._now = 100.0

    def perf_counter(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self.rests.append(round(seconds, 6))
        self._now += seconds

    def work(self) -> threading.Thread:
        self._now += self.lasts_s
        return threading.current_thread()

    def later(self, seconds: float) -> None:
        self._now += seconds


async def together(count: int, work: LargeWork, clock: Clock) -> list[threading.Thread]:
    """So many works that are asked for before the first one ends; the thread of each."""
    asked = threading.Event()

    def waited() -> threading.Thread:
        asked.wait()
        return clock.work()

    works = [asyncio.ensure_future(work.run(10, waited)) for _ in range(count)]
    await asyncio.sleep(0)
    asked.set()
    return await asyncio.gather(*works)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(large_work, "time", found)
    return found


@pytest.fixture
def work() -> Iterator[LargeWork]:
    found = LargeWork()
    yield found
    found.close()


async def test_work_goes_on_in_one_other_thread(work: LargeWork, clock: Clock) -> None:
    threads = await together(3, work, clock)
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()


async def test_a_rest_as_long_as_the_work_follows_where_others_wait(
    work: LargeWork, clock: Clock
) -> None:
    await together(3, work, clock)
    assert clock.rests == [0, clock.lasts_s, clock.lasts_s]


async def test_a_rest_has_an_end(work: LargeWork, clock: Clock) -> None:
    clock.lasts_s = 10 * REST_S
    await together(2, work, clock)
    assert clock.rests == [0, REST_S]


async def test_work_that_comes_alone_or_later_waits_for_no_rest(
    work: LargeWork, clock: Clock
) -> None:
    for _ in range(3):
        await work.run(10, clock.work)
    assert clock.rests == [0, 0, 0]
    await together(2, work, clock)
    clock.later(REST_S)
    await work.run(10, clock.work)
    assert clock.rests == [0, 0, 0, 0, clock.lasts_s, 0]


async def test_a_fault_is_the_callers_and_the_next_work_goes_on(work: LargeWork) -> None:
    with pytest.raises(ZeroDivisionError):
        await work.run(10, lambda: 1 // 0)
    assert await work.run(10, lambda: 1) == 1


async def test_work_without_memory_is_not_begun(
    work: LargeWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(size: int) -> None:
        raise MemoryError

    begun = list[int]()
    monkeypatch.setattr(memory, "expect", refuse)
    with pytest.raises(MemoryError):
        await work.run(10, lambda: begun.append(1))
    assert begun == []
