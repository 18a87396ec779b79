"""Webhook deliveries of finished tasks: where they go, when, and how often.

Owns the deliveries under way, their retries and their counts; how many are under way to each
host, and which hosts need a rest. Promises that what is
owed is sent at least once, over any number of restarts, until it is taken, refused for good or
given up; that a slow receiver holds up neither a task nor another receiver; that the id of a
delivery is the same in each try; that one host takes at most its share of the deliveries, and
one that fails again and again is asked rarely, by one delivery at a time. Never keeps a
list of what is owed: that is in the database.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from asyncsvc.config.settings import Webhooks as Rules
from asyncsvc.errors import InvalidRequest, StorageUnavailable
from asyncsvc.journal.journal import Journal
from asyncsvc.limits.backoff import retry_after
from asyncsvc.net.egress import Egress, Refused
from asyncsvc.net.pinned import Lookup, Resolver
from asyncsvc.net.signing import Signer
from asyncsvc.storage.entries import DeliveriesBounded, DeliveriesShifted, Delivery, Owed, Tried
from asyncsvc.tasks.state import Task
from asyncsvc.tasks.trace import passed_on, task_span
from asyncsvc.webhooks.posting import Answer, post

log = logging.getLogger(__name__)

STORAGE_PAUSE_S = 0.5
LOOK_AGAIN_S = 60.0
"""While something is owed: a wall clock that was set is noticed by then."""
SET_BACK_MS = 1000
"""A clock that is set back by less is only corrected."""
REST_OF_LOOKS = 9
"""A tenth of the time at most goes into looking for what is due."""
LONGEST_REST_S = 1.0
LARGE = 256 * 1024
LARGE_BYTES = 32 * 1024 * 1024
"""What all large tasks under way may hold together: sixteen of ten MB would not fit."""
SKIPPED = 500
"""Large deliveries without room that are passed over in search of small ones."""
GONE = 410
FAILURES = 5
"""Failures in a row, of whatever tasks, after which a host is given a rest."""
REST_S = 5.0
LONGEST_S = 300.0
REMEMBERED = 10_000
"""Hosts whose failures are known at most; the one that failed longest ago is forgotten."""

View = Callable[[Task], Awaitable[dict[str, Any]]]
"""A task as `GET /tasks/{id}` shows it."""


@dataclass(slots=True)
class _Trouble:
    failures: int = 0
    until: float = 0.0


class Receivers:
    """Times are the event loop's, in seconds."""

    def __init__(self, per_host: int) -> None:
        self.per_host = per_host
        self._under_way: Counter[str] = Counter()
        self.troubles: dict[str, _Trouble] = {}

    def has_room(self, host: str, now: float) -> bool:
        """Whether one more delivery may go there."""
        trouble = self.troubles.get(host)
        if trouble is not None and trouble.failures >= FAILURES:
            return trouble.until <= now and not self._under_way[host]
        return self._under_way[host] < self.per_host

    def shut(self, now: float) -> list[str]:
        """The hosts that have no room."""
        known = set(self._under_way) | set(self.troubles)
        return [host for host in known if not self.has_room(host, now)]

    def opens(self, now: float) -> float | None:
        """When the first rest is over that is not yet."""
        ends = [one.until for one in self.troubles.values() if one.until > now]
        return min(ends, default=None)

    def begin(self, host: str) -> None:
        self._under_way[host] += 1

    def end(self, host: str) -> None:
        self._under_way[host] -= 1
        if not self._under_way[host]:
            del self._under_way[host]

    def answered(self, host: str) -> None:
        """It took a delivery, or refused one for good: it works."""
        self.troubles.pop(host, None)

    def failed(self, host: str, now: float) -> None:
        trouble = self.troubles.pop(host, None) or _Trouble()
        trouble.failures += 1
        if trouble.failures >= FAILURES:
            rest = REST_S * 2.0 ** min(trouble.failures - FAILURES, 10)
            trouble.until = now + min(rest, LONGEST_S)
        self.troubles[host] = trouble
        if len(self.troubles) > REMEMBERED:
            self.troubles.pop(next(iter(self.troubles)))


class Webhooks:
    """`check` a URL when a task comes; `run` delivers until it is cancelled."""

    def __init__(
        self,
        journal: Journal,
        rules: Rules,
        environ: Mapping[str, str],
        lookup: Lookup | None = None,
        draw: Callable[[], float] = random.random,
        tracing: bool = False,
    ) -> None:
        self.delivered = 0
        self.failures = 0
        """Tries that were not taken."""
        self.given_up = 0
        self._journal = journal
        self._rules = rules
        self._signer = Signer.of(rules.secret_env, environ)
        self._egress = Egress(rules.allow)
        self._receivers = Receivers(rules.per_host)
        self._names = Resolver("webhook-names")
        self._lookup: Lookup = lookup or self._names
        self._draw = draw
        self._tracing = tracing
        """Whether spans are recorded, so that a receiver's span is below that of the task."""
        self._under_way: dict[int, tuple[Owed, asyncio.Task[None]]] = {}
        self._ahead_ms = 0.0
        """By how much the wall clock is ahead of the loop's, as far as what is owed goes by it."""

    @property
    def under_way(self) -> int:
        """Deliveries that are being made at this moment."""
        return len(self._under_way)

    def check(self, url: str | None) -> None:
        """Raises InvalidRequest for a callback that could never be delivered."""
        if url is None:
            return
        if not self._signer:
            # A receiver could not tell an unsigned callback from a forged one.
            raise InvalidRequest(
                f"callback_url: {self._rules.secret_env} must hold the secret that callbacks are "
                "signed with before any can be asked for",
                param="callback_url",
            )
        try:
            self._egress.target(url)
        except Refused as error:
            raise InvalidRequest(f"callback_url: {error}", param="callback_url") from None

    async def run(self, view: View) -> None:
        """Deliver what is owed, from this process or an earlier one, until cancelled."""
        try:
            if not self._signer:
                await self._idle()
            await self._bound()
            while True:
                self._journal.owed.clear()  # before looking: what ends meanwhile sets it again
                began = self._now()
                try:
                    await self._follow_the_clock()
                    await self._begin_due(view)
                    wait_s = await self._pause()
                except StorageUnavailable:
                    wait_s = STORAGE_PAUSE_S
                # Behind many that wait for a host at rest a look takes long: it must stay rare.
                await asyncio.sleep(min(REST_OF_LOOKS * (self._now() - began), LONGEST_REST_S))
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._journal.owed.wait()
        finally:
            await self._cut()

    async def _bound(self) -> None:
        """What an earlier process owes waits no longer than its own delay from now on."""
        while not self._journal.closing:
            try:
                if await self._journal.store.deliveries.pending():
                    await self._journal.append(DeliveriesBounded(self._journal.now()))
                break
            except StorageUnavailable:
                await asyncio.sleep(STORAGE_PAUSE_S)
        self._ahead_ms = self._journal.now() - self._now() * 1000

    async def _follow_the_clock(self) -> None:
        """Delays are durations: where the wall clock was set back, they are set back with it."""
        ahead = self._journal.now() - self._now() * 1000
        back = round(self._ahead_ms - ahead)
        if back > SET_BACK_MS:
            await self._journal.append(DeliveriesShifted(-back))
        if back > SET_BACK_MS or back < 0:
            self._ahead_ms = ahead

    async def _idle(self) -> None:
        owed = await self._journal.store.deliveries.pending()
        if owed:
            log.warning(
                "%d callbacks are owed but cannot be signed: %s is not set",
                owed,
                self._rules.secret_env,
            )
        await asyncio.Event().wait()

    async def _cut(self) -> None:
        """What is cut here is made again by the next process."""
        tasks = [task for _, task in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._names.close()

    async def _begin_due(self, view: View) -> None:
        """Begin as many as there is room for. Each round fills the room or shuts a host."""
        skipped: set[int] = set()
        while (room := self._rules.at_once - len(self._under_way)) > 0 and len(skipped) <= SKIPPED:
            shut = self._receivers.shut(self._now())
            busy = skipped | self._under_way.keys()
            found = await self._journal.store.deliveries.due(self._journal.now(), busy, shut, room)
            if not found:
                return
            for owed in found:
                if not self._fits(owed):
                    skipped.add(owed.task_n)
                elif self._receivers.has_room(owed.host, self._now()):
                    self._begin(owed, view)

    def _fits(self, owed: Owed) -> bool:
        """Small ones always; of the large ones one at least."""
        if owed.size <= LARGE:
            return True
        held = sum(other.size for other, _ in self._under_way.values() if other.size > LARGE)
        return not held or held + owed.size <= LARGE_BYTES

    def _begin(self, owed: Owed, view: View) -> None:
        self._receivers.begin(owed.host)
        task = asyncio.create_task(self._deliver(owed, view), name="webhook")
        self._under_way[owed.task_n] = owed, task
        task.add_done_callback(partial(self._ended, owed))

    def _ended(self, owed: Owed, _: object) -> None:
        self._under_way.pop(owed.task_n)
        self._receivers.end(owed.host)
        self._journal.owed.set()

    async def _pause(self) -> float | None:
        """How long there is nothing to do unless something ends; None: until then."""
        if len(self._under_way) >= self._rules.at_once:
            return None
        waits = []
        now = self._journal.now()
        if (at := await self._journal.store.deliveries.next_due(now)) is not None:
            waits.append(min(max(at - now, 1) / 1000, LOOK_AGAIN_S))
        if (opens := self._receivers.opens(self._now())) is not None:
            waits.append(opens - self._now())
        return min(waits, default=None)

    async def _deliver(self, owed: Owed, view: View) -> None:
        """One try and its record; raises nothing but CancelledError."""
        try:
            answer = await self._try(owed, view)
        except StorageUnavailable:
            await asyncio.sleep(STORAGE_PAUSE_S)
            return
        except Exception:
            text = "the delivery of task %s failed by a fault of ours"
            log.exception(text, owed.task_id, extra={"task_id": owed.task_id})
            answer = Answer(error="a fault of the service; its log says more")
        if answer is not None:
            await self._record(self._judge(owed, answer))

    async def _try(self, owed: Owed, view: View) -> Answer | None:
        """None where the task has been deleted, or begun anew, in between."""
        store = self._journal.store
        task = await store.task(owed.task_id)
        url = task.request.callback_url if task is not None else None
        if task is None or url is None:
            return None
        body = orjson.dumps(await view(task))
        if not await store.deliveries.still_pending(owed.task_n, owed.seq):
            return None
        headers = self._signer.headers(
            f"{owed.task_id}-{owed.seq}", self._journal.now() // 1000, body
        )
        span = task_span(task.id, task.marks) if self._tracing else None
        kept = task.request.traceparent, task.request.tracestate
        headers |= passed_on(task.request.trace_id, *kept, span) or {}
        return await post(self._egress, url, body, headers, self._rules.timeout_s, self._lookup)

    def _judge(self, owed: Owed, answer: Answer) -> Tried:
        """What follows from an answer; counts it."""
        attempts, status = owed.attempts + 1, answer.status
        if status is not None and 200 <= status < 300:
            self.delivered += 1
            self._receivers.answered(owed.host)
            return self._tried(owed, Delivery.DELIVERED, attempts, answer, None)
        self.failures += 1
        if status is None or status == 429 or status >= 500:
            self._receivers.failed(owed.host, self._now())
        else:
            self._receivers.answered(owed.host)
        if answer.refused or status == GONE or attempts > len(self._rules.retry_s):
            self.given_up += 1
            text, fields = "callback of task %s given up: %s", {"task_id": owed.task_id}
            log.warning(text, owed.task_id, _reason(answer), extra=fields)
            return self._tried(owed, Delivery.FAILED, attempts, answer, None)
        now = self._journal.now()
        delay = self._rules.retry_s[attempts - 1] * (0.8 + 0.4 * self._draw())
        delay = max(delay, retry_after(answer.retry_after, now) or 0.0)
        return self._tried(owed, Delivery.PENDING, attempts, answer, now + round(delay * 1000))

    def _tried(
        self, owed: Owed, state: Delivery, attempts: int, answer: Answer, next_at: int | None
    ) -> Tried:
        error = None if state is Delivery.DELIVERED else _reason(answer)
        return Tried(owed.task_n, owed.seq, state, attempts, answer.status, error, next_at)

    async def _record(self, tried: Tried) -> None:
        """Write it down, however long the disk takes to come back: else it were sent again."""
        while not self._journal.closing:
            try:
                await self._journal.append(tried)
                return
            except StorageUnavailable:
                await asyncio.sleep(STORAGE_PAUSE_S)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _reason(answer: Answer) -> str:
    if answer.error is not None:
        return answer.error
    if answer.status is not None and 300 <= answer.status < 400:
        return f"answered {answer.status}; redirects are not followed"
    return f"answered {answer.status}"
