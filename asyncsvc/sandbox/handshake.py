"""The handshake before a program starts: its sandbox is set up, and the service still wants it.

Owns the socket that is the sandbox's stderr until then. Promises that no program starts whose
sandbox has lost the process that the service would kill: a sandbox ends with that process only
from a point of its set-up on (PR_SET_PDEATHSIG), so what ends before would leave a program behind.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

READY = b"\0"
"""What the sandbox sends when all of its walls stand. It comes in no line of an error."""
GO = b"\n"
"""The answer. Without it, at the end of the socket, the sandbox ends and starts nothing."""
PIECE_BYTES = 4096
TEXT_BYTES = 4096
SETUP_S = 1.0
"""How long a call that is over waits for the set-up of its sandbox, which takes 0.02 s: bubblewrap,
killed in the middle of it, leaves a process that runs nothing and waits for ever."""


class Handshake:
    """The service's side; the sandbox has the other one as its stderr."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._lives: Callable[[], bool] = lambda: False
        self._text = bytearray()
        self._refused = False
        self._ready: asyncio.Future[None] = loop.create_future()

    @property
    def inside(self) -> int:
        """The descriptor for the sandbox, until `begin`."""
        return self._theirs.fileno()

    def begin(self, lives: Callable[[], bool]) -> None:
        """Answer the sandbox, which has been started.

        `lives` says whether the process that the service would kill is still there.
        """
        self._theirs.close()
        self._lives = lives
        self._loop.add_reader(self._ours, self._read)

    @property
    def completed(self) -> bool:
        """Whether the sandbox has been set up."""
        return self._ready.done()

    def text(self) -> str:
        """What went wrong in the set-up."""
        self._read()  # it may have come with the process's end
        return self._text.decode(errors="replace").strip()[-300:]

    async def refuse(self, wait: Callable[[], Coroutine[Any, Any, int]]) -> None:
        """Start nothing from now on; return once the sandbox can be killed as a whole.

        `wait` waits for the end of the process.
        """
        self._refused = True
        if self.completed:
            return
        ended = asyncio.ensure_future(wait())
        awaited: set[asyncio.Future[Any]] = {ended, self._ready}
        try:
            await asyncio.wait(awaited, timeout=SETUP_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()

    def close(self) -> None:
        """Close the socket: a sandbox that still waits ends."""
        self._loop.remove_reader(self._ours)
        self._ours.close()
        self._theirs.close()
        self._ready.cancel()

    def _read(self) -> None:
        try:
            data = self._ours.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._ours)
            return
        if self.completed:
            return
        text, ready, _ = data.partition(READY)
        self._text = (self._text + text)[-TEXT_BYTES:]
        if ready:
            self._ready.set_result(None)
            if not self._refused and self._lives():
                with suppress(OSError):
                    self._ours.send(GO)
