"""Memory for what comes next: whether the system gives it, and how much of a kind is used at once.

`expect` promises MemoryError, and nothing else, where the system's answer is no. JSON of many
megabytes is read and written by orjson, which ends the process where it is refused memory, and
takes a text that it cannot hold for one that is not JSON. So what such a step may need at most is
asked for and given back before it: an address space that is limited (`ulimit -v`, a 32-bit system)
then costs an answer of 503 and not the service.

`Room` owns the bytes of one kind of things in memory, such as large bodies. Promises that their sum
never passes the most, and that who finds no room has it in the order of coming.
"""

import asyncio
from collections import deque

JSON_FACTOR = 16
"""Bytes that orjson may take for a byte of text: it keeps eight for each, all of which may be
escaped, and grows its buffer in powers of two."""
SPARE_BYTES = 32 << 20
"""For what goes on beside: the writer's copy, other connections, a thread's own heap."""
LARGE_BYTES = 1 << 20
"""Below this a step fits into what the process has already."""


def expect(json_bytes: int) -> None:
    """Raises MemoryError where so much JSON can be neither read nor written now."""
    if json_bytes > LARGE_BYTES:
        # Never touched, so it costs no memory and some microseconds.
        bytes(JSON_FACTOR * json_bytes + SPARE_BYTES)


class Room:
    """Room for `most` bytes. What is larger than all of it takes all of it."""

    def __init__(self, most: int) -> None:
        self.most = self.free = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """Bytes that wait for room."""
        return sum(size for size, future in self._waiting if not future.done())

    def has(self, size: int) -> bool:
        """Whether there is room for so many bytes now, and no other waits for it."""
        return self.free >= size and not self._waiting

    async def take(self, size: int, within_s: float | None = None) -> None:
        """Take room, first come, first served. Raises TimeoutError."""
        if self.has(size):
            self.free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            async with asyncio.timeout(within_s):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.free += size  # it was given in the very moment of giving up
            turn.cancel()
            self.give(0)
            raise

    def give(self, size: int) -> None:
        """Give room back; those who wait have it in order, as far as it goes."""
        self.free += size
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.done():
                if wanted > self.free:
                    return
                self.free -= wanted
                turn.set_result(None)
            self._waiting.popleft()
