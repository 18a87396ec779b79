"""Requests that are held open for their tasks.

A client that hangs up cancels the task that its request has created, and its call to the provider
at once; a stop of the service cancels no task; each answer names its task. The shape of an answer
is not known here.
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from itertools import chain, repeat
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from asyncsvc.access import Caller
from asyncsvc.errors import AsyncsvcError, IllegalTransition, StorageUnavailable, TaskNotFound
from asyncsvc.intake.admission import Aside
from asyncsvc.intake.intake import Also
from asyncsvc.journal.journal import Event
from asyncsvc.limits.headers import written as duration
from asyncsvc.tasks.state import State, Task
from asyncsvc.tasks.trace import Trace, of_headers
from asyncsvc.web.http.body import ReceivedBody, as_object
from asyncsvc.web.http.errors import answer
from asyncsvc.web.http.large_answers import deliver
from asyncsvc.web.http.resources import caller
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.http.streaming import Watched, cut, unless_left
from asyncsvc.web.openai.errors import TASK_ID, Failure, failure, of_task, refusal
from asyncsvc.web.openai.requests import Call
from asyncsvc.web.tasks.sse import pages

HEAD_S = 2.0
"""How long a stream's status is held back: a failure by then has a status of its own."""
COMMENT_S = 10.0
"""Between two comments on a silent stream; proxies close after 30 to 60 s of silence."""
LONGEST_WAIT_S = 60.0
"""The longest Retry-After that the SDK obeys."""


class Held:
    """A task that a request of the author waits for. `owned`: the request has created it and
    cancels it on leaving; `after` is the number of the last event that is of no interest to the
    request."""

    def __init__(
        self, services: Services, author: Caller, task: Task, owned: bool, after: int = 0
    ) -> None:
        self.services = services
        self._author = author
        self.task_id = task.id
        self.created = task.request.created_at // 1000
        self.known = task.seq
        """The task's last event before the request."""
        self._owned = owned
        self._after = after

    def headers(self, name: str | None = None) -> dict[str, str]:
        """The headers of an answer; with the limits of the model of that name, where it has any."""
        sent = {TASK_ID: self.task_id, "x-request-id": self.task_id}
        return sent | (_limits(self.services, name) if name else {})

    def waiting(self) -> str:
        """A comment for a stream that has nothing else to send: why the task waits."""
        task = self.services.journal.live.get(self.task_id)
        if task is None or task.state is not State.PENDING:
            return ": waiting\n\n"
        forecast = self.services.eta_estimator.of(task)
        why = "" if forecast.reason is None else f" {' '.join(forecast.reason.split())}"
        start = "" if forecast.eta_s is None else f", start in about {forecast.eta_s:.0f} s"
        return f": waiting:{why}{start}\n\n" if why else ": waiting\n\n"

    async def events(
        self, ticks: tuple[float, float] | None = None, replay: bool = False
    ) -> AsyncGenerator[Event | None]:
        """The task's events until it is finished; with `replay` from the first on. With `ticks`,
        None after so many seconds of silence: the first number once, then the second. A deleted
        task has no more events. Raises Unauthorized once the author may no longer come in."""
        waits = chain(ticks[:1], repeat(ticks[1])) if ticks else repeat(None)
        after = 0 if replay else self._after
        following = pages(self.services, self._author, self.task_id, after, partial(next, waits))
        async with aclosing(following):
            async for page in following:
                for event in page or (None,):
                    yield event

    async def ended(self) -> tuple[Task | None, Failure | None]:
        """(the task once its events have ended, the failure unless it has completed)."""
        try:
            task = await self.services.journal.followed(self.task_id)
        except TaskNotFound as error:
            return None, refusal(error)
        if task.state is State.COMPLETED:
            return task, None
        if not task.finished:
            message = f"the service is stopping; task {task.id} goes on when it is back"
            return task, failure("shutting_down", message)
        return task, of_task(task, _retry_after(self.services, task.name))

    async def finished(self) -> tuple[Task | None, Failure | None]:
        """`ended`, after waiting for the end."""
        async for _ in self.events():
            pass
        return await self.ended()

    async def give_up(self) -> None:
        """Cancel the task if the request has created it, unless the service stops."""
        if self._owned and not self.services.intake.closed:
            with suppress(IllegalTransition, TaskNotFound, StorageUnavailable):
                await self.services.control.cancel(self.task_id)


@asynccontextmanager
async def received(request: Request) -> AsyncGenerator[tuple[dict[str, Any], Aside]]:
    """(the JSON object of a request's body, `aside` of `ReceivedBody`). Raises RequestError."""
    parts = services(request)
    limit = parts.settings.queue.max_task_bytes
    async with ReceivedBody(request, limit, parts.bodies) as (data, aside):
        yield await aside(as_object, data), aside


async def hold(
    services: Services,
    call: Call,
    author: Caller,
    aside: Aside | None = None,
    also: Also | None = None,
    background: bool = False,
    trace: Trace | None = None,
) -> list[Held]:
    """Submit the tasks of a call, all or none, and hold them. Raises RequestError.

    The same Idempotency-Key finds the same task, under way or finished; a cancelled one, such as
    that of a client which hung up and calls again, starts anew. A task in the background is never
    cancelled by its client's leaving.
    """
    if len(call.submissions) == 1:
        one = await services.intake.submit(
            call.submissions[0], author.owner, call.key, aside, also, trace
        )
        accepted = [one]
    else:
        accepted = await services.intake.submit_all(
            call.submissions, author.owner, call.key, aside, also, trace
        )
    held = []
    for one in accepted:
        task, after, owned = await services.journal.task(one.task_id), 0, not one.repeated
        if one.repeated and task.state is State.CANCELLED:
            task, after, owned = await services.control.retry(task.id), task.seq, True
        held.append(Held(services, author, task, owned and not background, after))
    return held


async def submitted(
    request: Request, parse: Callable[[dict[str, Any], Headers], Call]
) -> tuple[Call, list[Held]]:
    """(the call of a request, its tasks). Raises RequestError."""
    async with received(request) as (body, aside):
        call = parse(body, request.headers)
        trace = of_headers(request.headers)
        return call, await hold(services(request), call, caller(request), aside, trace=trace)


async def give_up(held: Sequence[Held]) -> None:
    """Cancel the tasks that the request has created."""
    for one in held:
        await one.give_up()


def once(answering: Callable[[], Awaitable[Response]]) -> ASGIApp:
    """An ASGI application that sends the response that it has awaited."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await deliver(await answering(), scope, receive, send)

    return application


class HeldResponse(Response):
    """The answer to a held request: `application` sends it, unless the client hangs up before."""

    def __init__(self, held: Sequence[Held], application: ASGIApp) -> None:
        super().__init__()
        self._held = held
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watched = Watched(send)
        if not await unless_left(receive, self._answer(scope, receive, watched)):
            await give_up(self._held)

    async def _answer(self, scope: Scope, receive: Receive, send: Watched) -> bool:
        """Answer, and be done. An exception before the answer has begun becomes an error response;
        a known one later cuts the answer."""
        try:
            await self._application(scope, receive, send)
        except Exception as error:
            if not send.begun:
                await answer(scope, error)(scope, receive, send)
            elif isinstance(error, AsyncsvcError):
                cut(scope, error)
            else:
                raise
        return True


def _limits(services: Services, name: str) -> dict[str, str]:
    """OpenAI's headers on the limits of a model, over all its keys, as they are now."""
    accounts = [upstream.gate for upstream in services.catalogue.of(name)]
    windows = {"requests": [one.window for one in accounts]}
    windows["tokens"] = [one.budget for one in accounts]
    found = {}
    for what, several in windows.items():
        if several and all(window.limit for window in several):
            now = accounts[0].time()
            left = sum(max(window.limit - window.used(now), 0) for window in several)
            found[f"x-ratelimit-limit-{what}"] = str(sum(window.limit for window in several))
            found[f"x-ratelimit-remaining-{what}"] = str(left)
            whole = max(window.whole(now) for window in several)
            if math.isfinite(whole):
                found[f"x-ratelimit-reset-{what}"] = duration(whole)
    return found


def _retry_after(services: Services, name: str | None) -> float | None:
    """Seconds until a key of the model may be called again; None where nothing says so."""
    waits = (upstream.gate.wait() for upstream in services.catalogue.of(name or ""))
    return min(min(waits, default=0.0), LONGEST_WAIT_S) or None
