"""SIGHUP: to a service that runs by itself it says "read your settings again"; to one that was
started in a terminal which has been closed it says "end".

Owns the handler of that signal, from before the store is opened until after it is closed.
Promises that systems without the signal notice nothing. Never reads settings itself.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def hangup(reload: Callable[[], None], stop: Callable[[], None]) -> Generator[None]:
    """While it lasts, the signal calls one of the two, in the loop."""
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        yield
        return
    loop = asyncio.get_running_loop()
    # Under nohup the signal was ignored: whoever did that wants no terminal to end us.
    bound = signal.getsignal(number) is not signal.SIG_IGN and _terminal()

    def received(*_: Any) -> None:
        loop.call_soon_threadsafe(stop if bound and not _terminal() else reload)

    before = signal.signal(number, received)
    try:
        yield
    finally:
        signal.signal(number, before)


def _terminal() -> bool:
    """Whether the process belongs to a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
