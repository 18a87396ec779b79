"""The stage of a benchmark: the service, the simulated provider and others as processes.

What the self-test needs as well is in `asyncsvc.selftest.processes`. Here all is started in the
root of the repository.
"""

import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from asyncsvc.selftest.processes import FAULTY as FAULTY
from asyncsvc.selftest.processes import HOST as HOST
from asyncsvc.selftest.processes import READY_S as READY_S
from asyncsvc.selftest.processes import Child as Child
from asyncsvc.selftest.processes import Program, session
from asyncsvc.selftest.processes import all_calls as all_calls
from asyncsvc.selftest.processes import all_done as all_done
from asyncsvc.selftest.processes import database as database
from asyncsvc.selftest.processes import free_port as free_port
from asyncsvc.selftest.processes import get as get
from asyncsvc.selftest.processes import post as post
from asyncsvc.selftest.processes import toml as toml
from asyncsvc.selftest.processes import unfinished as unfinished
from asyncsvc.selftest.processes import until as until

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Program([sys.executable, "main.py"], ROOT)
simulator, service = PROGRAM.simulator, PROGRAM.service


def child(
    folder: Path, name: str, arguments: Sequence[str], ready: str, program: str = sys.executable
) -> Child:
    """Another process that answers HTTP."""
    return Child(folder, name, [program, *arguments], ready, ROOT)


@asynccontextmanager
async def workplace() -> AsyncIterator[tuple[Path, aiohttp.ClientSession]]:
    """A folder that goes away, and a client for what is not measured."""
    with tempfile.TemporaryDirectory(prefix="asyncsvc-bench-") as folder:
        async with session() as client:
            yield Path(folder), client
