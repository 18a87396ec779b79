"""A request that is held open for its task.

Owns the tie between the two. Promises that whoever hangs up ends the task that he has asked for,
and its call upstream at once; that a stop of the service ends no task; that each answer names
its task. Never knows what is being answered.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from asyncsvc.errors import AsyncsvcError, IllegalTransition, StorageUnavailable, TaskNotFound
from asyncsvc.intake.admission import Accepted, Aside
from asyncsvc.journal.journal import Event
from asyncsvc.limits.account import AccountLimiter
from asyncsvc.limits.headers import written
from asyncsvc.limits.sliding_window import Window
from asyncsvc.tasks.state import State, Task
from asyncsvc.web.http.errors import answer
from asyncsvc.web.http.state import Services
from asyncsvc.web.http.streaming import Watched, cut
from asyncsvc.web.openai.asking import Call
from asyncsvc.web.openai.errors import TASK_ID, Failure, failure, of_task

HEAD_S = 2.0
"""How long a stream's status is held back: what fails by then has a status that says so."""
COMMENT_S = 10.0
"""Between two signs of life on a stream; proxies close after 30 to 60 s of silence."""
LONGEST_WAIT_S = 60.0
"""What the SDK heeds of Retry-After."""


class Held:
    """One request and its task. `mine`: the request has made it, so it ends with it."""

    def __init__(self, services: Services, task: Task, mine: bool, after: int = 0) -> None:
        self.services = services
        self.task_id = task.id
        self.created = task.request.created_at // 1000
        self.known = task.seq
        """Events up to here were there before the request came."""
        self._mine = mine
        self._after = after

    def headers(self, name: str | None = None) -> dict[str, str]:
        """Of every answer; with the limits of the model of that name, where it has any."""
        sent = {TASK_ID: self.task_id, "x-request-id": self.task_id}
        return sent | (_limits(self.services, name) if name else {})

    def waiting(self) -> str:
        """A comment for a stream that has nothing else to send: what the task waits for."""
        task = self.services.journal.live.get(self.task_id)
        if task is None or task.state is not State.PENDING:
            return ": waiting\n\n"
        forecast = self.services.eta_estimator.of(task)
        why = "" if forecast.reason is None else f" {' '.join(forecast.reason.split())}"
        start = "" if forecast.eta_s is None else f", start in about {forecast.eta_s:.0f} s"
        return f": waiting:{why}{start}\n\n" if why else ": waiting\n\n"

    async def events(
        self, ticks: tuple[float, float] | None = None
    ) -> AsyncGenerator[Event | None]:
        """What happens to the task until it is finished. With `ticks`, None after so many
        seconds of waiting: once the first, then again and again the second."""
        loop = asyncio.get_running_loop()
        due = loop.time() + ticks[0] if ticks else None
        async with aclosing(self.services.journal.follow(self.task_id, self._after)) as pages:
            ask = asyncio.ensure_future(anext(pages, None))
            try:
                while True:
                    timeout = None if due is None else max(due - loop.time(), 0.0)
                    await asyncio.wait({ask}, timeout=timeout)
                    if not ask.done():
                        yield None
                    elif (page := ask.result()) is None:
                        return
                    else:
                        for event in page:
                            yield event
                        ask = asyncio.ensure_future(anext(pages, None))
                    if ticks and due is not None:
                        due = loop.time() + ticks[1]
            finally:
                ask.cancel()
                await asyncio.gather(ask, return_exceptions=True)

    async def ended(self) -> tuple[Task | None, Failure | None]:
        """The task once its events have ended: with the failure, unless it has completed."""
        try:
            task = await self.services.journal.task(self.task_id)
        except TaskNotFound as error:
            return None, Failure(404, error.type, error.code, str(error), error.param)
        if task.state is State.COMPLETED:
            return task, None
        if not task.finished:
            message = f"the service is stopping; task {task.id} goes on when it is back"
            return task, failure("shutting_down", message)
        return task, of_task(task, _hold_back(self.services, task.name))

    async def finished(self) -> tuple[Task | None, Failure | None]:
        """The same, after waiting for it."""
        with suppress(TaskNotFound):
            async for _ in self.events():
                pass
        return await self.ended()

    async def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        if self._mine and not self.services.intake.closed:
            with suppress(IllegalTransition, TaskNotFound, StorageUnavailable):
                await self.services.control.cancel(self.task_id)


async def hold(
    services: Services, call: Call, owner: str | None, aside: Aside | None = None
) -> Held:
    """Submit it. Raises RequestError.

    The same Idempotency-Key finds the same task, under way or finished; one that was cancelled,
    as it is when a client hangs up and tries again, starts anew.
    """
    return await taken(
        services, await services.intake.submit(call.submission, owner, call.key, aside)
    )


async def taken(services: Services, accepted: Accepted) -> Held:
    """Hold a task that was submitted."""
    task = await services.journal.task(accepted.task_id)
    if not accepted.repeated:
        return Held(services, task, mine=True)
    if task.state is not State.CANCELLED:
        return Held(services, task, mine=False)
    return Held(services, await services.control.retry(task.id), mine=True, after=task.seq)


class Leaves(Protocol):
    """A task, or several, with the request that waits for them."""

    async def give_up(self) -> None: ...


Give = Callable[[Scope, Receive, Send], Awaitable[None]]


class PersistedValue(Response):
    """The answer to a held request: `give` sends it, unless the client hangs up before."""

    def __init__(self, held: Leaves, give: Give) -> None:
        super().__init__()
        self._held = held
        self._give = give

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watched = Watched(send)
        giving = asyncio.ensure_future(self._give(scope, receive, watched))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({giving, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if giving.done():
                failed = self._given(giving, watched.begun, scope)
                if failed is not None:
                    await failed(scope, receive, send)
                return
        finally:
            giving.cancel()
            leaving.cancel()
            await asyncio.gather(giving, leaving, return_exceptions=True)
        await self._held.give_up()

    def _given(self, giving: "asyncio.Future[None]", begun: bool, scope: Scope) -> Response | None:
        """The error response where the answer failed before it began; later it is cut."""
        try:
            giving.result()
        except Exception as error:
            if not begun:
                return answer(scope, error)
            if not isinstance(error, AsyncsvcError):
                raise
            cut(scope, error)
        return None


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _limits(services: Services, name: str) -> dict[str, str]:
    """OpenAI's headers on the limits of a model, over all its keys, as they are now."""
    gates = [upstream.gate for upstream in services.catalogue.of(name)]
    requests: list[Window] = [gate.window for gate in gates]
    tokens: list[Window] = [gate.budget for gate in gates]
    found = {}
    for what, logs in (("requests", requests), ("tokens", tokens)):
        if logs and all(log.limit for log in logs):
            now = gates[0].time()
            found[f"x-ratelimit-limit-{what}"] = str(sum(log.limit for log in logs))
            left = sum(max(log.limit - log.used(now), 0) for log in logs)
            found[f"x-ratelimit-remaining-{what}"] = str(left)
            whole = max(log.whole(now) for log in logs)
            if math.isfinite(whole):
                found[f"x-ratelimit-reset-{what}"] = written(whole)
    return found


def _hold_back(services: Services, name: str | None) -> float | None:
    """Seconds until a key of the model may be called again; None where nothing says so."""
    gates: list[AccountLimiter] = [upstream.gate for upstream in services.catalogue.of(name or "")]
    waits = [min(gate.wait(), LONGEST_WAIT_S) for gate in gates]
    return min(waits, default=0.0) or None
