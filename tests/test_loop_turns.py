"""Turns of long work on the event loop."""

import asyncio
import time

from asyncsvc.loop_turns import PART, LoopTurns


async def test_work_that_is_cancelled_gives_up_its_turn() -> None:
    turns = LoopTurns()
    left, waiting = (asyncio.create_task(turns.next()) for _ in range(2))
    await asyncio.sleep(0)
    left.cancel()
    await waiting
    await turns.next()
    assert left.cancelled()


async def test_after_a_long_step_others_have_as_much_time() -> None:
    turns, now = LoopTurns(), asyncio.get_running_loop().time
    began = now()
    await turns.next(0.03)
    assert now() - began > 0.025
    began = now()
    await turns.next(100.0)
    assert now() - began < 10, "at most for a moment"

    async def step() -> float:
        await turns.next()
        time.sleep(0.03)  # noqa: ASYNC251
        return now()

    first, second = await asyncio.gather(step(), step())
    assert second - first > 2 * 0.028


async def test_of_many_lists_one_part_is_made_in_each_turn() -> None:
    turns, made = LoopTurns(), 0

    def make(number: int) -> int:
        nonlocal made
        made += 1
        return number * 2

    given = list(range(3 * PART + 1))
    lists = [asyncio.create_task(turns.of_each(make, given)) for _ in range(4)]
    most = before = 0
    while not all(each.done() for each in lists):
        await asyncio.sleep(0)
        most, before = max(most, made - before), made
    assert [await each for each in lists] == [[number * 2 for number in given]] * 4
    assert most == PART
