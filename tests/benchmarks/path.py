"""How long the way of a task through the code is: modules entered and Python calls made.

Counts one plain chat task whose answer comes in 61 pieces, from its submit to its closing
event at one follower, in a service that does nothing else; then a submit alone. Both use
connections that are open before the count begins, and the event loop of the service (uvloop).
Counts are those of the event loop's thread, taken by `sys.setprofile`, so they do not depend on
the machine's speed. What goes on beside a task (the monitor, the sandbox's test at the
start, the round over the connections) is left out.
Exit status 3 where a figure is above its limit.

    python -m tests.benchmarks.path [--modules] [--functions]
"""

import asyncio
import contextlib
import http.client
import json
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import uvloop
from websockets.sync.client import connect

from asyncsvc.config.settings import Settings
from asyncsvc.server import serve
from tests.benchmarks.report import Report
from tests.benchmarks.stage import HOST, simulator

PIECES = 61
MOST_MODULES, MOST_CALLS, MOST_SUBMIT_CALLS, MOST_FRAMES = 40, 3_500, 250, 5
MOST_LISTED = 150
PACKAGE = str(Path(__file__).resolve().parents[2] / "asyncsvc")
BESIDE = (f"{PACKAGE}/monitoring/", f"{PACKAGE}/sandbox/")
"""What goes on beside a task: the monitor's looks, the sandbox's test of itself at the start."""
ROUNDS = frozenset({"Connections._look"})
"""And the round over the connections, once a second. With all that they call: they fall into the
count or beside it, as the machine is fast or slow."""
PROFILE = {"default": {"answer_tokens": PIECES, "tokens_per_s": 80.0}}


class PathCounter:
    """Counts the calls of Python functions while it is on, by the function's code."""

    def __init__(self) -> None:
        self.calls: Counter[CodeType] = Counter()
        self.deepest = 0
        """Frames of this package between a call's coroutine and the transport of its request."""
        self._beside: FrameType | None = None
        """The call under way that goes on beside the task."""

    def __enter__(self) -> "PathCounter":
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if self._beside is not None:
            if event == "return" and frame is self._beside:
                self._beside = None
            return
        if event != "call":
            return
        if code.co_filename.startswith(BESIDE) or code.co_qualname in ROUNDS:
            self._beside = frame
            return
        self.calls[code] += 1
        if code.co_qualname == "Connections.handle_async_request":
            self.deepest = max(self.deepest, _frames(frame.f_back))

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


class Client:
    """The client's side, in a thread of its own, over connections that are kept open."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection(HOST, port, timeout=30)
        self._stack = contextlib.ExitStack()
        self._socket = self._stack.enter_context(connect(f"ws://{HOST}:{port}/ws", proxy=None))

    def close(self) -> None:
        self._http.close()
        self._stack.close()

    def hold(self) -> None:
        """Pause the model, so that nothing follows a submit."""
        self._post("/models/plain/pause", None)

    def submit(self) -> str:
        """Submit a task; its id."""
        return str(self._post("/tasks", b'{"content": "hello", "model": "plain"}')["task_id"])

    def whole(self) -> None:
        """Submit a task and follow its events to the last one."""
        subscribe = {"op": "subscribe", "task_id": self.submit()}
        self._socket.send(json.dumps(subscribe))
        for text in self._socket:
            event = json.loads(text)
            if event.get("type") == "status" and event["data"]["status"] == "completed":
                return

    def _post(self, path: str, body: bytes | None) -> Any:
        if self._http.sock is None:
            self._http.connect()
        # As one packet, as most clients send it: of head and body apart each would be read alone.
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        self._http.request("POST", path, body, {"content-type": "application/json"})
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        answer = self._http.getresponse()
        assert answer.status < 300
        return json.loads(answer.read())


async def _measured(work: Callable[[], object]) -> PathCounter:
    """What the loop did while a thread did the client's part."""
    loop, begin, done = asyncio.get_running_loop(), threading.Event(), asyncio.Event()

    def client() -> None:
        begin.wait()
        try:
            work()
        finally:
            loop.call_soon_threadsafe(done.set)

    thread = threading.Thread(target=client)
    thread.start()
    await asyncio.sleep(0.2)  # what the step before has left is done
    with PathCounter() as counter:
        begin.set()
        await done.wait()
    thread.join()
    return counter


async def measure() -> tuple[PathCounter, PathCounter]:
    """A whole task, and a submit to a model that is paused so that nothing follows it."""
    with tempfile.TemporaryDirectory(prefix="asyncsvc-path-") as name:
        folder = Path(name)
        async with simulator(folder, PROFILE) as provider:
            found: list[PathCounter] = []

            async def beside(url: str) -> None:
                client = await asyncio.to_thread(Client, int(url.rpartition(":")[2]))
                await asyncio.to_thread(client.whole)  # imports and caches are warm
                found.append(await _measured(client.whole))
                await asyncio.to_thread(client.hold)
                await asyncio.to_thread(client.submit)
                found.append(await _measured(client.submit))
                await asyncio.to_thread(client.close)

            await serve(_settings(folder, provider.url), {}, lambda _: None, beside)
    return found[0], found[1]


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
        ("calls of asyncsvc's functions by a submit", submit.ours, MOST_SUBMIT_CALLS),
        ("frames of asyncsvc above the provider's call", whole.deepest, MOST_FRAMES),
    ):
        found.row(what, seen, most)
        found.target(seen <= most, f"{what}: {seen}, at most {most}")
    found.notes.append(
        f"calls of libraries: {whole.total - whole.ours} by a task, "
        f"{submit.total - submit.ours} by a submit"
    )
    return found


def listing(counter: PathCounter) -> str:
    """The functions of the package that were called most, with the number of calls."""
    ours = {c: n for c, n in counter.calls.items() if c.co_filename.startswith(PACKAGE)}
    return "\n".join(
        f"{n:6} {code.co_filename.removeprefix(PACKAGE)[1:]}:{code.co_firstlineno} "
        f"{code.co_qualname}"
        for code, n in Counter(ours).most_common(MOST_LISTED)
    )


def main() -> int:
    whole, submit = uvloop.run(measure())
    status = report(whole, submit).finish()
    if "--modules" in sys.argv[1:]:
        print("\n".join(whole.modules))
    if "--functions" in sys.argv[1:]:
        print(listing(whole), listing(submit), sep="\n\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
