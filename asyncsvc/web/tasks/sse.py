"""Server-sent events: one task's journal over plain HTTP.

Owns the framing. Promises the same events as the WebSocket, `id` being the task's `seq` so
that `Last-Event-ID` resumes, progress at least once a second, and a comment where there is nothing
else to say. Never buffers: the follower's cursor is the only state.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from asyncsvc.errors import TaskNotFound
from asyncsvc.journal.journal import Event
from asyncsvc.web.http.state import Services
from asyncsvc.web.tasks.views import progress_event

TICK_S = 0.8
"""The contract: progress at least once a second while a task waits or runs; the rest is room
for a loop that has other things to do."""


async def stream(services: Services, task_id: str, after: int) -> AsyncIterator[str]:
    """The frames of one task until its last event."""
    loop = asyncio.get_running_loop()
    next_tick = loop.time() + TICK_S
    async with aclosing(services.journal.follow(task_id, after)) as pages:
        ask = asyncio.ensure_future(anext(pages, None))
        try:
            while True:
                await asyncio.wait({ask}, timeout=max(next_tick - loop.time(), 0.0))
                if ask.done():
                    page = ask.result()
                    if page is None:
                        return
                    yield "".join(_frame(event) for event in page)
                    ask = asyncio.ensure_future(anext(pages, None))
                if loop.time() >= next_tick:
                    next_tick = loop.time() + TICK_S
                    yield _tick(services, task_id)
        except TaskNotFound:
            return  # it was deleted just before we came to follow it
        finally:
            ask.cancel()
            await asyncio.gather(ask, return_exceptions=True)


def _frame(event: Event) -> str:
    return f"id: {event.seq}\nevent: {event.type}\ndata: {event.wire}\n\n"


def _tick(services: Services, task_id: str) -> str:
    task = services.journal.live.get(task_id)
    if task is None:
        return ": \n\n"
    return f"event: progress\ndata: {progress_event(services, task)}\n\n"
