"""Calls with large bodies begin only when there is room for them."""

import asyncio
from pathlib import Path

from asyncsvc.memory import Room
from asyncsvc.tasks.state import State
from tests.engine_services import MOMENT, EngineServices, model
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import virtual

LARGE = 3_000_000
LIMITS = {"memory_mb": 64}
"""Of which four, or one body of the largest size, are for the bodies of calls."""
QUEUE = {"max_task_bytes": 8_000_000}


@virtual
async def test_calls_with_large_bodies_wait_for_room_and_others_do_not(tmp_path: Path) -> None:
    client = ScriptedClient([HANG])
    models = {"a": model(concurrency=8)}
    async with EngineServices(tmp_path, models, client, limits=LIMITS, queue=QUEUE) as services:
        large = [await services.submit(f"{number}" + "x" * LARGE) for number in range(5)]
        # Few tokens, but many bytes.
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "x" * LARGE}}
        content = [{"type": "text", "text": "5"}, image]
        large.append(await services.submit_fields(messages=[{"role": "user", "content": content}]))
        await services.submit("small", params={"max_tokens": 1_000_000})
        await services.submit("medium" + "x" * 600_000)
        await asyncio.sleep(MOMENT)
        assert sorted(prompt[0] for prompt in client.prompts) == ["0", "1", "m", "s"]
        await services.services.control.cancel(large[3])
        assert await services.state(large[3]) is State.CANCELLED, "one that waits for room"
        await services.services.control.cancel(large[0])
        await asyncio.sleep(MOMENT)
        assert sorted(prompt[0] for prompt in client.prompts) == ["0", "1", "2", "m", "s"]
        await services.services.control.cancel(large[1])
        await services.services.control.cancel(large[2])
        await asyncio.sleep(MOMENT)
        # Both have room; which of the two bodies is read first is left open.
        assert sorted(prompt[0] for prompt in client.prompts[-2:]) == ["4", "5"]


async def test_room_is_given_in_the_order_of_coming() -> None:
    room, order = Room(10), list[int]()

    async def take(number: int, size: int) -> None:
        await room.take(size)
        order.append(number)

    sizes = (8, 5, 2, 5)
    tasks = [asyncio.create_task(take(number, size)) for number, size in enumerate(sizes)]
    await asyncio.sleep(0)
    assert (order, room.waiting) == ([0], 12), "what would fit does not overtake what waits"
    tasks[1].cancel()
    await asyncio.wait({tasks[1]})
    await asyncio.sleep(0)
    assert order == [0, 2]
    room.give(8)
    await asyncio.gather(tasks[2], tasks[3])
    assert (order, room.free, room.waiting) == ([0, 2, 3], 3, 0)
