"""Cycles: they wait for the garbage collector, which seldom comes, with all that frames hold."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import asyncsvc
from asyncsvc.simulator.exchange import Exchange

OURS = str(Path(asyncsvc.__file__).parent)


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing is collected meanwhile; what is found unreachable by `left` can be looked at."""
    gc.collect()
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


def left() -> list[str]:
    """The functions of ours whose frames are in cycles, and the classes whose objects are; but not
    those of the simulated provider."""
    gc.collect()
    found = set()
    for one in gc.garbage:
        if isinstance(one, FrameType):
            if one.f_code.co_filename.startswith(OURS):
                found.add(f"{Path(one.f_code.co_filename).stem}.{one.f_code.co_name}")
        elif type(one).__module__.startswith(f"{asyncsvc.__name__}.") and not isinstance(
            one, Exchange
        ):
            found.add(type(one).__qualname__)
    gc.garbage.clear()
    return sorted(found)
