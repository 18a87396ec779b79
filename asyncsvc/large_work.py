"""Work on large texts: one thread for all of it, beside the event loop.

Owns the thread and its rests. Promises that one such work goes on at a time, and that a rest as
long as the work follows where others wait: JSON of ten megabytes is read by one call into C of ten
milliseconds, for which the event loop waits, and a submit would else wait for several of them, one
after the other. Never knows what the work is.
"""

import time
from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from asyncsvc import memory

ASIDE_BYTES = 256 * 1024
"""Above this, work on a text leaves the event loop."""
REST_S = 0.05
"""The longest rest."""

T = TypeVar("T")


class LargeWork:
    """`run` work; `close` at the end."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="large texts")
        self._asked = 0
        """Works that wait or go on."""
        self._rests_until = 0.0

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """Work on a text of so many bytes. Raises MemoryError before the work where the system has
        no memory for it."""

        def worked() -> T:
            time.sleep(max(self._rests_until - time.perf_counter(), 0.0))
            began = time.perf_counter()
            try:
                memory.expect(size)
                return work()
            finally:
                ended = time.perf_counter()
                rest_s = min(ended - began, REST_S) if self._asked > 1 else 0.0
                self._rests_until = ended + rest_s

        self._asked += 1
        try:
            return await get_running_loop().run_in_executor(self._thread, worked)
        finally:
            self._asked -= 1

    def close(self) -> None:
        """No more work; what is under way is let go."""
        with suppress(RuntimeError):
            self._thread.shutdown(wait=False, cancel_futures=True)
