import asyncio

from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.limits.semaphore import Semaphore
from tests.virtual_time import run_virtual, virtual


def asking(slots: Semaphore, count: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(slots.acquire()) for _ in range(count)]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def given_to(tasks: list[asyncio.Task[None]]) -> list[int]:
    return [n for n, task in enumerate(tasks) if task.done() and not task.cancelled()]


@virtual
async def test_places_are_given_in_order_of_asking() -> None:
    slots = Semaphore(1)
    tasks = asking(slots, 3)
    await settle()
    assert given_to(tasks) == [0]
    slots.release()
    await settle()
    assert given_to(tasks) == [0, 1]
    tasks[2].cancel()


@virtual
async def test_more_room_lets_waiting_ones_in_at_once() -> None:
    slots = Semaphore(1)
    tasks = asking(slots, 4)
    await settle()
    slots.resize(3)
    await settle()
    assert given_to(tasks) == [0, 1, 2]
    tasks[3].cancel()


@virtual
async def test_a_smaller_size_takes_no_place_from_a_holder() -> None:
    slots = Semaphore(3)
    tasks = asking(slots, 4)
    await settle()
    slots.resize(1)
    for left in (2, 1):
        slots.release()
        await settle()
        assert (slots.taken, given_to(tasks)) == (left, [0, 1, 2])
    slots.release()
    await settle()
    assert (slots.taken, given_to(tasks)) == (1, [0, 1, 2, 3])


@virtual
async def test_a_wait_that_is_cancelled_while_a_place_is_given_leaves_none_behind() -> None:
    slots = Semaphore(1)
    await slots.acquire()
    late, next_ = asking(slots, 2)
    await settle()
    slots.release()
    late.cancel()
    await settle()
    assert late.cancelled()
    assert next_.done()
    assert slots.taken == 1


step = st.sampled_from(["ask", "ask", "ask", "back", "cancel", 1, 2, 3, 5])


@given(st.lists(step, max_size=60))
def test_never_more_are_let_in_than_there_is_room_for(steps: list[str | int]) -> None:
    async def check() -> None:
        slots, tasks, held = Semaphore(2), list[asyncio.Task[None]](), 0
        for what in steps:
            before = slots.taken
            if what == "ask":
                tasks += asking(slots, 1)
            elif what == "back" and slots.taken:
                slots.release()
                held += 1
            elif what == "cancel" and tasks:
                tasks[-1].cancel()
            elif isinstance(what, int):
                slots.resize(what)
            await settle()
            assert slots.taken <= max(slots.limit, before)
            assert slots.taken == len(given_to(tasks)) - held
            waiting = sum(not task.done() for task in tasks)
            assert not waiting or slots.taken >= slots.limit
        for task in tasks:
            task.cancel()

    run_virtual(check())
