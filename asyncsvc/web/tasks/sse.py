"""A task's events over plain HTTP: the pages as they come, and server-sent events.

A frame has the same event as a WebSocket; its `id` is the task's `seq`, so that `Last-Event-ID`
resumes. Progress is sent at least once a second, a comment where there is nothing else to send. The
cursor of the subscription is the only state.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from asyncsvc.access import Caller
from asyncsvc.errors import TaskNotFound, Unauthorized
from asyncsvc.journal.journal import Event
from asyncsvc.web.http.sockets import REVOKED
from asyncsvc.web.http.state import Services
from asyncsvc.web.tasks.views import progress_event

TICK_S = 0.8
"""The contract: progress at least once a second while a task waits or runs; the rest is room
for a loop that has other things to do."""


async def pages(
    services: Services,
    author: Caller,
    task_id: str,
    after: int,
    wait_s: Callable[[], float | None],
) -> AsyncGenerator[list[Event] | None]:
    """Pages of a task's events with a seq above `after`, until it is finished or deleted; None
    after each `wait_s()` seconds without a page. Raises Unauthorized once the author may no longer
    come in."""
    following = services.journal.follow(task_id, after)
    page = asyncio.ensure_future(anext(following, None))
    known = services.clients.knows(author)

    def end() -> None:
        nonlocal known
        known = False
        page.cancel()

    try:
        with services.sockets.following(end, author):
            while known:
                await asyncio.wait({page}, timeout=wait_s())
                if not known:
                    break
                if not page.done():
                    yield None
                elif (events := page.result()) is None:
                    return
                else:
                    yield events
                    page = asyncio.ensure_future(anext(following, None))
        raise Unauthorized(REVOKED)
    except TaskNotFound:
        return
    finally:
        page.cancel()
        await asyncio.gather(page, return_exceptions=True)
        await following.aclose()


async def stream(
    services: Services, author: Caller, task_id: str, after: int
) -> AsyncIterator[str]:
    """The frames of one task until its last event. Raises as `pages` does."""
    loop = asyncio.get_running_loop()
    next_tick = loop.time() + TICK_S
    following = pages(services, author, task_id, after, lambda: max(next_tick - loop.time(), 0.0))
    async with aclosing(following):
        async for page in following:
            if page is not None:
                yield "".join(_frame(event) for event in page)
            if loop.time() >= next_tick:
                next_tick = loop.time() + TICK_S
                yield _tick(services, task_id)


def _frame(event: Event) -> str:
    return f"id: {event.seq}\nevent: {event.type}\ndata: {event.wire}\n\n"


def _tick(services: Services, task_id: str) -> str:
    task = services.journal.live.get(task_id)
    if task is None:
        return ": \n\n"
    return f"event: progress\ndata: {progress_event(services, task)}\n\n"
