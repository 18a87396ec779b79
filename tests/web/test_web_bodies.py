"""Room for large bodies: bounded, in order, and refused where it would take long."""

import asyncio
import threading

import pytest

from asyncsvc.errors import Overloaded
from asyncsvc.large_work import ASIDE_BYTES, LargeWork
from asyncsvc.web.http.body_memory import FACTOR, PATIENCE_S, SMALL, Bodies, Hold
from tests.virtual_time import loop, virtual

MB = 1 << 20


async def waiting(bodies: Bodies, *sizes: int) -> "list[asyncio.Task[Hold]]":
    """Bodies that ask for room, in this order."""
    tasks = [asyncio.create_task(bodies.hold(size)) for size in sizes]
    await asyncio.sleep(0)
    return tasks


def test_there_is_room_for_one_body_at_least() -> None:
    assert Bodies.of(64, 30 * MB, LargeWork()).most == 30 * MB
    assert Bodies.of(500, 10 * MB, LargeWork()).most == 500 * MB // FACTOR


@virtual
async def test_room_is_given_in_order_and_never_more_than_there_is() -> None:
    bodies = Bodies(10, LargeWork())
    first = await bodies.hold(6)
    second, third, fourth = await waiting(bodies, 5, 1, 9)
    assert not second.done()
    assert not third.done()  # it would fit, but it came later
    assert bodies.waiting == 15
    first.release()
    holds = [await second, await third]
    assert (bodies.free, fourth.done()) == (4, False)
    for hold in holds:
        hold.release()
        hold.release()
    (await fourth).release()
    assert (bodies.free, bodies.waiting) == (10, 0)


@virtual
async def test_a_body_that_is_smaller_than_it_might_be_makes_room() -> None:
    bodies = Bodies(10, LargeWork())
    hold = await bodies.hold(10)
    (other,) = await waiting(bodies, 8)
    hold.shrink(2)
    await other
    assert bodies.free == 0


@virtual
async def test_what_is_larger_than_all_room_takes_all_of_it() -> None:
    bodies = Bodies(10, LargeWork())
    hold = await bodies.hold(99)
    assert bodies.free == 0
    hold.release()
    assert bodies.free == 10


@virtual
async def test_no_client_waits_longer_than_the_patience() -> None:
    bodies = Bodies(10, LargeWork())
    hold = await bodies.hold(8)
    (late, small) = await waiting(bodies, 5, 1)
    with pytest.raises(Overloaded, match="large bodies") as refusal:
        await late
    assert loop().time() == pytest.approx(PATIENCE_S)
    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after >= 1
    with pytest.raises(Overloaded):
        await small
    hold.release()
    assert (bodies.free, bodies.waiting) == (10, 0)


@virtual
async def test_who_gives_up_makes_way_for_the_next() -> None:
    bodies = Bodies(10, LargeWork())
    hold = await bodies.hold(8)
    large, small = await waiting(bodies, 5, 2)
    large.cancel()
    assert (await small).size == 2
    hold.release()
    assert bodies.free == 8


@virtual
async def test_room_that_comes_while_giving_up_is_not_lost() -> None:
    bodies = Bodies(10, LargeWork())
    hold = await bodies.hold(8)
    (late,) = await waiting(bodies, 5)
    hold.release()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert bodies.free == 10


@virtual
async def test_a_long_line_is_refused_at_once_with_an_honest_delay() -> None:
    bodies = Bodies(10, LargeWork())
    for _ in range(60):  # each has held the room for four seconds
        hold = await bodies.hold(10)
        await asyncio.sleep(4)
        hold.release()
    held = await bodies.hold(10)
    (next_one,) = await waiting(bodies, 10)
    before = loop().time()
    with pytest.raises(Overloaded) as refusal:
        await bodies.hold(10)
    assert loop().time() == before
    assert refusal.value.retry_after == pytest.approx(8, rel=0.1)
    held.release()
    (await next_one).release()


async def test_only_large_bodies_leave_the_loop() -> None:
    bodies = Bodies(MB, LargeWork())
    places = []
    for size in (10, SMALL + 1, ASIDE_BYTES, ASIDE_BYTES + 1):
        async with bodies.room(size) as aside:
            place = await aside(threading.current_thread)
            places.append(place is threading.main_thread())
            assert bodies.free == MB - (size if size > SMALL else 0)
    assert places == [True, True, True, False]
    assert bodies.free == MB
    bodies.work.close()


async def test_a_fault_in_the_thread_is_the_callers() -> None:
    bodies = Bodies(MB, LargeWork())
    with pytest.raises(ZeroDivisionError):
        async with bodies.room(MB) as aside:
            await aside(divmod, 1, 0)
    assert bodies.free == MB
    bodies.work.close()
