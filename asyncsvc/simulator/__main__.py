"""``python -m asyncsvc.simulator``: the simulated provider as a process of its own.

Promises one line on stdout once it listens, and to end at once, with status 0, on SIGINT or
SIGTERM. A wrong profile or a taken port ends it with status 2 and a line on stderr.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from asyncsvc.simulator import Profile, ProfileError, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal comes; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m asyncsvc.simulator", description="A simulated OpenAI-compatible provider."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--profile", metavar="FILE", help="TOML; without it the built-in one")
    options = parser.parse_args(argv)
    try:
        profile = Profile.load(options.profile) if options.profile else Profile.builtin()
        with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
            runner.run(_until_signalled(serve(profile, options.host, options.port, _say)))
    except (ProfileError, OSError, OverflowError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _until_signalled(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows; Ctrl-C ends the runner there
            loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    sys.exit(main())
