"""How long the way of a task through the code is: modules entered and Python calls made.

Counts one plain chat task whose answer comes in 61 pieces, from its submit to its closing
event at one follower, in a service that does nothing else; then a submit alone. Counts are those
of the event loop's thread, taken by `sys.setprofile`, so they do not depend on the machine's
speed. Exit status 3 where a figure is above its limit.

    python -m tests.benchmarks.path [--modules]
"""

import asyncio
import contextlib
import http.client
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from websockets.sync.client import connect

from asyncsvc.config.settings import Settings
from asyncsvc.server import serve
from tests.benchmarks.report import Report
from tests.benchmarks.stage import HOST, simulator

PIECES = 61
MOST_MODULES, MOST_CALLS, MOST_SUBMIT_CALLS, MOST_FRAMES = 40, 3_500, 250, 5
PACKAGE = str(Path(__file__).resolve().parents[2] / "asyncsvc")
PROFILE = {"default": {"answer_tokens": PIECES, "tokens_per_s": 200.0}}


class PathCounter:
    """Counts the calls of Python functions while it is on, by the function's code."""

    def __init__(self) -> None:
        self.calls: Counter[CodeType] = Counter()
        self.deepest = 0
        """Frames of this package between a task's coroutine and the call to the provider."""

    def __enter__(self) -> "PathCounter":
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        self.calls[code] += 1
        if code.co_qualname == "AsyncClient.stream":
            self.deepest = max(self.deepest, _frames(frame))

    @property
    def total(self) -> int:
        return self.calls.total()

    @property
    def ours(self) -> int:
        """Calls of functions of this package alone."""
        return sum(n for code, n in self.calls.items() if code.co_filename.startswith(PACKAGE))

    @property
    def modules(self) -> list[str]:
        """Modules of this package of which at least one function was called."""
        files = {code.co_filename for code in self.calls}
        return sorted(f.removeprefix(PACKAGE)[1:] for f in files if f.startswith(PACKAGE))


def _frames(frame: FrameType | None) -> int:
    found = 0
    while frame is not None:
        found += frame.f_code.co_filename.startswith(PACKAGE)
        frame = frame.f_back
    return found


def _submit(port: int) -> str:
    """The id of a new task."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    with contextlib.closing(connection):
        headers = {"content-type": "application/json"}
        connection.request("POST", "/tasks", b'{"content": "hello", "model": "plain"}', headers)
        return str(json.loads(connection.getresponse().read())["task_id"])


def _whole(port: int) -> None:
    """Submit a task and follow its events to the last one."""
    task_id = _submit(port)
    with connect(f"ws://{HOST}:{port}/ws/tasks/{task_id}", proxy=None) as socket:
        for _ in socket:
            pass


async def _measured(work: Callable[[], object]) -> PathCounter:
    """What the loop did while a thread did the client's part."""
    with PathCounter() as counter:
        await asyncio.to_thread(work)
    return counter


async def measure() -> tuple[PathCounter, PathCounter]:
    """A whole task, and a submit to a model that is held so that nothing follows it."""
    with tempfile.TemporaryDirectory(prefix="asyncsvc-path-") as name:
        folder = Path(name)
        async with simulator(folder, PROFILE) as provider:
            found: list[PathCounter] = []

            async def beside(url: str) -> None:
                port = int(url.rpartition(":")[2])
                await asyncio.to_thread(_whole, port)  # imports and caches are warm
                found.append(await _measured(partial(_whole, port)))
                await asyncio.to_thread(_hold, port)
                await asyncio.to_thread(_submit, port)
                found.append(await _measured(partial(_submit, port)))

            await serve(_settings(folder, provider.url), {}, lambda _: None, beside)
    return found[0], found[1]


def _hold(port: int) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/models/plain/pause")
        assert connection.getresponse().status == 200


def _settings(folder: Path, url: str) -> Settings:
    return Settings.model_validate(
        {
            "server": {"port": 0, "grace_s": 0.05},
            "storage": {"path": str(folder / "tasks.db")},
            "limits": {"memory_mb": 100_000, "disk_free_mb": 0, "loop_lag_ms": 0},
            "models": {"plain": {"base_url": f"{url}/v1", "model": "sim", "concurrency": 4}},
        }
    )


def report(whole: PathCounter, submit: PathCounter) -> Report:
    """The figures beside their limits; a figure above its limit is a missed target."""
    found = Report("Way of a plain chat task through the code", ("what", "seen", "at most"))
    for what, seen, most in (
        ("modules entered by a task", len(whole.modules), MOST_MODULES),
        ("calls of asyncsvc's functions by a task", whole.ours, MOST_CALLS),
        ("Python calls of a submit, libraries included", submit.total, MOST_SUBMIT_CALLS),
        ("frames of asyncsvc above the provider's call", whole.deepest, MOST_FRAMES),
    ):
        found.row(what, seen, most)
        found.target(seen <= most, f"{what}: {seen}, at most {most}")
    found.notes.append(f"a task with its libraries: {whole.total}; a submit without: {submit.ours}")
    return found


def main() -> int:
    whole, submit = asyncio.run(measure())
    status = report(whole, submit).finish()
    if "--modules" in sys.argv[1:]:
        print("\n".join(whole.modules))
    return status


if __name__ == "__main__":
    sys.exit(main())
