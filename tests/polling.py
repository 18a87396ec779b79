"""Asking again until it is so: for what has no event to wait for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

PAUSE_S = 0.02
T = TypeVar("T")


async def until(
    ask: Callable[[], Awaitable[T]], enough: Callable[[T], bool], patience_s: float = 30.0
) -> T:
    """The first answer that is enough; TimeoutError where none comes in time."""
    async with asyncio.timeout(patience_s):
        while True:
            if enough(found := await ask()):
                return found
            await asyncio.sleep(PAUSE_S)
