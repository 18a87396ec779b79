"""Cycles: they wait for the garbage collector, which seldom comes, with all that frames hold."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import asyncsvc

OURS = str(Path(asyncsvc.__file__).parent)


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing is collected meanwhile; what is found unreachable by `frames` can be looked at."""
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


def frames() -> list[str]:
    """The functions of ours whose frames are in cycles."""
    gc.collect()
    found = {
        f"{Path(one.f_code.co_filename).stem}.{one.f_code.co_name}"
        for one in gc.garbage
        if isinstance(one, FrameType) and one.f_code.co_filename.startswith(OURS)
    }
    gc.garbage.clear()
    return sorted(found)
