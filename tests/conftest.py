"""What holds for all tests: signals, the number of workers, which tests are slow."""

import gc
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from asyncsvc.server import share_one_heap

# As in the service: tests that measure memory would else see the heaps of other tests' threads.
share_one_heap()

# Both are ignored in a job in the background of a script, and under nohup. Our children would
# ignore them too, and half of what a terminal does could not be tried.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

if hasattr(time, "tzset"):
    # Hours and a quarter away from UTC, with a summer time: where a time is read or written in the
    # machine's zone, the tests see it. Processes that tests start inherit it.
    os.environ["TZ"] = "Pacific/Chatham"
    time.tzset()

# How long one example takes tells of the machine, which is shared, and not of the code.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

SLOW = ("benchmarks", "cli", "flows", "openclaw", "release", "sandbox", "wild")
"""Folders whose tests start processes of their own or wait for a real clock."""


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores, so that a core has work while a test waits for a process."""
    return (os.cpu_count() or 1) + 1


HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m "not slow"` does not even import the slow folders; None leaves the choice to pytest."""
    slow = collection_path.parent == HERE and collection_path.name in SLOW
    return True if slow and config.option.markexpr == "not slow" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without the garbage collector, and keep it away from what was collected.

    Ten thousand tests are a large heap of which nothing is garbage: looking through it again and
    again is a quarter of the collecting, and a part of each test that makes many objects.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(HERE).parts[0] in SLOW:
            item.add_marker("slow")
