"""The handler of SIGHUP: reloads the settings of a service that runs by itself, and stops one
whose terminal has been closed.

Owns the handler from before the store is opened until after it is closed. Promises that systems
without the signal are not affected. Never reads settings itself.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def hangup(reload: Callable[[], None], stop: Callable[[], None]) -> Generator[None]:
    """While the context lasts, the signal calls `reload` or `stop` in the event loop."""
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        yield
        return
    loop = asyncio.get_running_loop()
    # Under nohup the signal was ignored: then a closed terminal must not stop the service.
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
