"""`submit` and `watch ID`: one task, from the person's text to the answer.

Owns the waiting for it. Promises that Ctrl-C while `submit --wait` waits cancels the task,
and that a broken connection or a restart of the service costs no text. Never submits twice.
"""

import asyncio
import contextlib
import json
import sys
from contextlib import aclosing
from typing import Any

from asyncsvc.cli.client import Api
from asyncsvc.cli.failure import INTERRUPTED, MISUSED, Failure
from asyncsvc.cli.transcript import Transcript


def submit(api: Api, fields: dict[str, Any], wait: bool, as_json: bool) -> int:
    """Submit a task and, where asked to, see it through; the exit code."""
    accepted = api.post("/tasks", fields)
    task_id: str = accepted["task_id"]
    if wait:
        return _see_through(api, task_id, as_json)
    if as_json:
        print_json(accepted)
        return 0
    print(task_id, flush=True)
    if sys.stderr.isatty():
        print(_expected(accepted), file=sys.stderr)
    return 0


def read_text(given: str) -> str:
    """The text of the command line, or that of stdin for `-`."""
    if given == "-":
        try:
            given = sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise Failure("what stdin holds is not UTF-8 text", MISUSED) from None
    if not given.strip():
        raise Failure("there is no text to submit", MISUSED)
    return given


def watch(api: Api, task_id: str, as_json: bool) -> int:
    """Stream a task from its beginning; Ctrl-C leaves it alone."""
    api.task(task_id)
    if as_json:
        return asyncio.run(_print_events(api, task_id))
    transcript = Transcript(sys.stdout, sys.stderr)
    try:
        asyncio.run(stream(api, task_id, transcript))
    except KeyboardInterrupt:
        transcript.say("left; the task goes on")
        return INTERRUPTED
    return transcript.exit_code


def print_json(value: Any) -> None:
    """For scripts: one document, readable by people too."""
    print(json.dumps(value, ensure_ascii=False, indent=2), flush=True)


def _see_through(api: Api, task_id: str, as_json: bool) -> int:
    transcript = Transcript(None if as_json else sys.stdout, sys.stderr)
    try:
        asyncio.run(stream(api, task_id, transcript))
    except KeyboardInterrupt:
        with contextlib.suppress(Failure):  # it ended at this very moment
            api.steer(task_id, "cancel")
        transcript.say("cancelled")
        if as_json:
            print_json(api.task(task_id))
        return INTERRUPTED
    if as_json:
        print_json(api.task(task_id))
    return transcript.exit_code


async def stream(api: Api, task_id: str, transcript: Transcript) -> None:
    """One task's events into the transcript, across restarts of the service."""
    from asyncsvc.cli.frames import follow

    def lost(why: str) -> None:
        if not told:
            transcript.say(f"connection lost ({why}); looking for the service again")
            told.append(why)

    told: list[str] = []
    async with aclosing(follow(api.address, task_id, lost=lost)) as events:
        async for event in events:
            told.clear()
            transcript.take(event)


async def _print_events(api: Api, task_id: str) -> int:
    from asyncsvc.cli.frames import follow

    transcript = Transcript(None, sys.stderr)
    async with aclosing(follow(api.address, task_id)) as events:
        async for event in events:
            print(json.dumps(event, ensure_ascii=False), flush=True)
            transcript.card.take(event)
    return transcript.exit_code


def _expected(accepted: dict[str, Any]) -> str:
    place, eta = accepted.get("position"), accepted.get("eta_s")
    parts = [accepted["status"]]
    if place is not None:
        parts.append(f"position {place}")
    if eta is not None:
        parts.append("starts at once" if eta < 1 else f"starts in about {eta:.0f} s")
    return ", ".join(parts)
