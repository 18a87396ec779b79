"""What is made once, when a client first asks for it."""

import asyncio
import gc
import threading
import time

import pytest

from asyncsvc.web.http.made_once import MadeOnce


async def test_a_crowd_that_asks_at_once_causes_the_work_once() -> None:
    made = []

    def make() -> int:
        time.sleep(0.05)
        made.append(1)
        return len(made)

    found = MadeOnce(make)
    leaving = asyncio.create_task(found())
    crowd = [asyncio.create_task(found()) for _ in range(20)]
    await asyncio.sleep(0)
    leaving.cancel()
    assert await asyncio.gather(*crowd) == [1] * 20
    assert await found() == 1
    assert leaving.cancelled()


async def test_work_that_failed_is_begun_again() -> None:
    outcomes = iter([OSError("the disk"), None])

    def make() -> str:
        if (error := next(outcomes)) is not None:
            raise error
        return "made"

    found = MadeOnce(make)
    with pytest.raises(OSError, match="the disk"):
        await found()
    assert await found() == "made"


async def test_work_that_failed_for_clients_that_left_leaves_nothing_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left = threading.Event()

    def make() -> None:
        left.wait()
        raise OSError("the disk")

    found = MadeOnce(make)
    client = asyncio.create_task(found())
    await asyncio.sleep(0)
    client.cancel()
    await asyncio.wait({client})
    left.set()
    work = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(work)
    del found, client, work
    gc.collect()
    assert caplog.text == ""
