"""A replay: past tasks come again, under given settings, on virtual time.

The scheduler, the limiters, the quotas and the states are those of the service. In place of the
executor stands a call that lasts as long as a measured one. What a provider refuses is not known,
so it refuses nothing that the limits of the settings allow.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from asyncsvc.config.settings import Settings
from asyncsvc.errors import QueueFull, RequestError, TaskTimeout
from asyncsvc.intake.quotas import Quotas
from asyncsvc.journal.counters import TaskCounters
from asyncsvc.journal.journal import Change
from asyncsvc.limits.account import Permit
from asyncsvc.providers.registry import Catalogue
from asyncsvc.providers.upstream import Upstream
from asyncsvc.rehearsal.memory_log import MemoryLog
from asyncsvc.rehearsal.past import CallTimes, Part, PastTask, Run
from asyncsvc.rehearsal.virtual_loop import VirtualLoop
from asyncsvc.routing.router import Router
from asyncsvc.scheduling.cache import Answer, Cache
from asyncsvc.scheduling.candidates import PASSED_ON, AccountSlot, Chooser
from asyncsvc.scheduling.dispatcher import Dispatcher
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.scheduling.timers import Timers
from asyncsvc.tasks.state import Cause, Draft, EventType, State, Task, status

LONGEST_S = 30 * 86_400.0
"""So long after the last arrival a replay ends, whatever still waits."""
TIMEOUT = TaskTimeout("the task took longer than its time").as_dict()
TURNS = 50
"""The clock of a replay stands for no more turns of the loop than that; see `VirtualLoop`."""


@dataclass(slots=True)
class TaskOutcome:
    """What became of a task in a replay."""

    one: PastTask
    wait_s: float | None = None
    """Seconds until its first start; None: it never started."""
    done_s: float | None = None
    """Seconds until its end; None: it has not ended."""
    ended: str | None = None
    """Its state at the end, or the code of its error."""
    refused: str | None = None
    """The code with which the service would have refused it."""


@dataclass(slots=True)
class AccountUse:
    """How an account was used."""

    model: str
    concurrency: int
    limit: int
    span_s: float
    tokens_limit: int
    calls: int = 0
    busy_s: float = 0.0
    most_at_once: int = 0
    most_in_window: int = 0
    most_tokens: int = 0
    waited_s: Counter[str] = field(default_factory=Counter)
    """Seconds that its tasks have waited, by reason."""


@dataclass(slots=True)
class Replayed:
    """The outcome of a replay."""

    tasks: list[TaskOutcome]
    accounts: dict[str, AccountUse]
    lacking: dict[str, str]
    """Why models of the settings took no part."""
    span_s: float
    """From the first arrival to the last end."""
    unknown: frozenset[str]
    """Models whose call times are those of others."""


def replay(
    past: Sequence[PastTask],
    times: CallTimes,
    settings: Settings,
    environ: Mapping[str, str],
    learned: Mapping[str, Any],
    start_ms: int,
) -> Replayed:
    """Let the tasks come again from `start_ms` on. Raises SettingsError. Not within a loop."""
    loop_factory = partial(VirtualLoop, start_ms, TURNS)
    with asyncio.Runner(loop_factory=loop_factory, debug=False) as runner:
        return runner.run(_replayed(past, times, settings, environ, learned))


async def _replayed(
    past: Sequence[PastTask],
    times: CallTimes,
    settings: Settings,
    environ: Mapping[str, str],
    learned: Mapping[str, Any],
) -> Replayed:
    found = Rehearsal(times, settings, environ, learned)
    times.unknown.clear()
    async with found:
        await found.arrivals(past)
    return found.replayed()


class Rehearsal:
    """A service without providers, storage and clients, on the running virtual loop."""

    def __init__(
        self,
        times: CallTimes,
        settings: Settings,
        environ: Mapping[str, str],
        learned: Mapping[str, Any],
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.times = times
        self.outcomes: dict[str, TaskOutcome] = {}
        self._settings = settings
        self._catalogue = Catalogue(settings, environ)
        self._catalogue.learned(dict(learned))
        self._counters = TaskCounters([])
        self.log = MemoryLog(loop.wall_ms, self._changed)
        self._quotas = Quotas(settings, self._counters, self.log.now)
        self.scheduler = self._scheduler()
        self.accounts = {
            slot.gate.name: AccountUse(
                slot.upstream.name,
                slot.gate.concurrency,
                slot.gate.window.limit,
                slot.gate.window.span_s,
                slot.gate.budget.limit,
            )
            for slot in self.scheduler.account_slots
        }
        self.calls: dict[str, RehearsedCall] = {}
        """The calls under way, by task id."""
        self._running: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None
        """A fault of ours, which ends the replay."""
        self._seen: set[str] = set()
        """Keys of answers that are in the cache, or have been asked for."""
        self._first_at = 0.0
        """When the first task came, by the loop's clock."""

    def _scheduler(self) -> Scheduler:
        settings, catalogue = self._settings, self._catalogue
        router = Router(settings.models, settings.routes)
        slots = [AccountSlot(upstream) for upstream in catalogue.upstreams]
        chooser = Chooser(slots, router, settings.routing.balance)
        dispatcher = Dispatcher(slots, chooser, catalogue.lacking, settings.queue.weights)
        cache = Cache(settings.cache, catalogue.upstreams, self.log.now)
        catalogue.listener.on_room = dispatcher.match_soon
        return Scheduler(self.log, dispatcher, Timers(self.log.now), settings, cache)

    async def __aenter__(self) -> "Rehearsal":
        for slot in self.scheduler.account_slots:
            self.start(self._serve(slot))
        return self

    async def __aexit__(self, *_: object) -> None:
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.scheduler.close()

    def start(self, work: Any) -> "asyncio.Task[None]":
        """Run a coroutine beside the caller, until the end of the replay."""
        running = asyncio.create_task(work)
        self._running.add(running)
        running.add_done_callback(self._ended)
        return running

    def _ended(self, running: "asyncio.Task[None]") -> None:
        self._running.discard(running)
        if not running.cancelled() and (fault := running.exception()) is not None:
            self._fault = fault
            self.log.empty.set()

    # Arrivals -----------------------------------------------------------------------------------

    async def arrivals(self, past: Sequence[PastTask]) -> None:
        """Let all tasks come at their time, and wait until they have ended."""
        if past:
            self._first_at = max((past[0].at - self.loop.start_ms) / 1000, 0.0)
        for one in past:
            left = (one.at - self.loop.start_ms) / 1000 - self.loop.time()
            if left > 0:
                await asyncio.sleep(left)
            self._arrive(one)
        try:
            async with asyncio.timeout(LONGEST_S):
                while self.log.live and self._fault is None:
                    await self.log.empty.wait()
        except TimeoutError:
            pass  # they count as not ended
        if self._fault is not None:
            raise self._fault

    def _arrive(self, one: PastTask) -> None:
        request = one.task.request
        outcome = self.outcomes[request.id] = TaskOutcome(one)
        try:
            self._check(one)
        except RequestError as error:
            outcome.refused = error.code
            return
        self._quotas.submitted(request.owner, 1)
        task = self.log.create(request)
        if one.task.state is State.CANCELLED and one.task.finished_at is not None:
            left = (one.task.finished_at - one.at) / 1000
            self.loop.call_later(max(left, 0.0), self._cancel, task.id)
        self._know_answer(task, one)
        self.scheduler.enqueue(task)

    def _check(self, one: PastTask) -> None:
        """Raises RequestError where the service would not take the task."""
        request = one.task.request
        kind = "embedding" if request.type == "embedding" else "chat"
        self._catalogue.require(request.model, kind)
        held, most = len(self.log.live), self._settings.queue.max_length
        if held >= most:
            raise QueueFull(f"the queue holds {held} tasks, of {most} allowed")
        self._quotas.check(request.owner, 1)

    def _know_answer(self, task: Task, one: PastTask) -> None:
        """An answer that was in the cache before the time of the replay is there again."""
        key = self.scheduler.cache.key(task)
        if key is not None and key not in self._seen:
            self._seen.add(key)
            if one.task.cached:
                self.keep_answer(key, one.task.name or "", one.task.model or "")

    def keep_answer(self, key: str, name: str, model: str) -> None:
        """Put an answer into the cache."""
        self._seen.add(key)
        cache = self.scheduler.cache
        text = Answer([], "-", {"model": model, "name": name, "usage": None}).text()
        cache.keep(cache.entries(key, text))

    def _cancel(self, task_id: str) -> None:
        """A client cancels a task, as long after it came as it did."""
        task = self.log.live.get(task_id)
        if task is None:
            return
        if (call := self.calls.get(task_id)) is not None:
            call.leave(task_id)
        self.end(task_id, Cause.CANCELLED)

    # Accounts -----------------------------------------------------------------------------------

    async def _serve(self, slot: AccountSlot) -> None:
        """Wait for a permit and a task for it, again and again."""
        while True:
            permit = await slot.gate.acquire()
            try:
                claim = await self.scheduler.claim(slot, permit)
            except BaseException:
                permit.release()
                raise
            if claim is None:
                permit.release()
            elif claim is not PASSED_ON:
                self._begin(slot, permit, claim.task_id, claim.route)

    def _begin(
        self, slot: AccountSlot, permit: Permit, task_id: str, route: Mapping[str, Any]
    ) -> None:
        task = self.log.live.get(task_id)
        if task is None or task.state is not State.PENDING:
            permit.release()
            return
        call = RehearsedCall(self, slot.upstream, permit, task)
        sharing = self.scheduler.start_call(task, call.join)
        if not sharing:
            permit.release()
            return
        self.accounts[slot.gate.name].waited_s.update(route.get("waited", {}))
        for each in sharing:
            call.join(each)
        call.running = self.start(call.run())

    # Ends ---------------------------------------------------------------------------------------

    def end(self, task_id: str, cause: Cause, error: Mapping[str, Any] | None = None) -> None:
        """A task ends."""
        task = self.log.live.get(task_id)
        if task is None:
            return
        facts = {} if error is None else {"error": dict(error)}
        self.scheduler.finish(self.log.change(_change(task_id, cause, task.state, **facts)))

    def retry(self, task_id: str, delay_s: float) -> None:
        """A task waits for its next attempt."""
        if (task := self.log.live.get(task_id)) is not None:
            when = self.log.now() + round(delay_s * 1000)
            change = _change(task_id, Cause.RETRYING, task.state, next_run_at=when)
            self.scheduler.enqueue(self.log.change(change), delay_s)

    def _changed(self, before: Task | None, after: Task) -> None:
        self._counters.changed(before, after)
        found = self.outcomes[after.id]
        if found.wait_s is None and after.started_at is not None:
            found.wait_s = max(after.started_at - after.queued_at, 0) / 1000
        if after.finished:
            found.ended = after.error["code"] if after.error else after.state.value
            due = max(found.one.at, after.request.run_at or 0, self.loop.start_ms)
            found.done_s = max(self.log.now() - due, 0) / 1000

    def replayed(self) -> Replayed:
        """What has come of it."""
        return Replayed(
            list(self.outcomes.values()),
            self.accounts,
            dict(self._catalogue.disabled),
            self.loop.time() - self._first_at,
            frozenset(self.times.unknown),
        )


class RehearsedCall:
    """A call that lasts as long as a measured one, and the tasks that share it."""

    def __init__(
        self, rehearsal: Rehearsal, upstream: Upstream, permit: Permit, leader: Task
    ) -> None:
        self.running: asyncio.Task[None] | None = None
        self._rehearsal = rehearsal
        self._upstream = upstream
        self._gate = upstream.gate
        self._permit = permit
        self._leader = leader
        self._open = True
        self._deadlines: dict[str, tuple[float, asyncio.TimerHandle]] = {}
        """When each task that shares the call must be done, and its timer."""

    def join(self, task: Task) -> bool:
        """A task starts, and shares the call; False where it is too late for that."""
        rehearsal, name = self._rehearsal, self._upstream.name
        if not self._open or task.state is not State.PENDING:
            return False
        deadline = rehearsal.scheduler.start(task)
        attempt = {"number": task.starts + 1, "model": self._upstream.model_id, "name": name}
        drafts = [status(Cause.STARTED, State.PENDING), Draft(EventType.ATTEMPT, attempt)]
        rehearsal.log.change(Change(task.id, drafts, source=State.PENDING))
        timer = rehearsal.loop.call_at(deadline, self._too_late, task.id)
        self._deadlines[task.id] = deadline, timer
        rehearsal.calls[task.id] = self
        return True

    def leave(self, task_id: str) -> None:
        """The call goes on without that task; without any it ends."""
        self._deadlines.pop(task_id)[1].cancel()
        del self._rehearsal.calls[task_id]
        if not self._deadlines and self._open and self.running is not None:
            self.running.cancel()

    def _too_late(self, task_id: str) -> None:
        self.leave(task_id)
        self._rehearsal.end(task_id, Cause.FAILED, TIMEOUT)

    async def run(self) -> None:
        """Make the call, and end the tasks that share it, or let them wait for the next try."""
        one = self._rehearsal.outcomes[self._leader.id].one
        scheduler, ended = self._rehearsal.scheduler, False
        try:
            if self._leader.request.type == "agent":
                await self._steps(one)
                last, failed = None, one.task.state is State.FAILED
            else:
                last, failed = await self._attempt(one)
            ended = True
        finally:
            self._open = False
            self._permit.release()
            if ended:
                self._end_all(one, last, failed)
            scheduler.finish_call(self._leader)
            scheduler.match()

    async def _attempt(self, one: PastTask) -> tuple[float | None, bool]:
        """One call; (seconds until the next try, or None, whether it fails)."""
        number = self._leader.tries
        again = number < len(one.failed)
        run = one.failed[number] if again else self._rehearsal.times.of(one, self._upstream.name)
        await self._call(run, one.tokens, not again)
        return run.again_s, run is one.last and one.task.state is State.FAILED

    async def _steps(self, one: PastTask) -> None:
        """The calls of an agent; between them its account is free for others."""
        leader, tokens = self._leader, self._leader.request.tokens
        parts = one.parts
        if not parts:
            run = self._rehearsal.times.of(one, self._upstream.name)
            parts = [Part(True, run.total_s)]
        for part in parts:
            if not part.calls:
                await asyncio.sleep(part.seconds)
                continue
            if self._permit.released:
                scheduler = self._rehearsal.scheduler
                self._permit = await scheduler.next_call(leader, self._upstream, tokens)
            await self._call(Run(part.seconds, part.seconds), tokens, True)
            self._permit.release()
            self._rehearsal.scheduler.match()

    async def _call(self, run: Run, tokens: int, answered: bool) -> None:
        """Hold the account for as long as the call lasts."""
        gate, loop = self._gate, self._rehearsal.loop
        use, began = self._rehearsal.accounts[gate.name], loop.time()
        self._permit.confirm()
        self._permit.sent()
        use.calls += 1
        use.most_at_once = max(use.most_at_once, gate.busy)
        use.most_in_window = max(use.most_in_window, gate.window.used(began))
        use.most_tokens = max(use.most_tokens, gate.budget.used(began))
        try:
            first_s = min(run.first_s, run.total_s)
            await asyncio.sleep(first_s)
            self._permit.head()
            await asyncio.sleep(run.total_s - first_s)
        finally:
            use.busy_s += loop.time() - began
        if answered:
            self._permit.used(tokens)
            gate.succeeded(run.total_s)

    def _end_all(self, one: PastTask, again_s: float | None, failed: bool) -> None:
        """What the end of the call means for each task that shares it."""
        rehearsal, now = self._rehearsal, self._rehearsal.loop.time()
        cache = rehearsal.scheduler.cache
        key = cache.key(self._leader)
        answered = again_s is None and not failed
        if key is not None and answered and cache.worth(self._leader, self._upstream):
            rehearsal.keep_answer(key, self._upstream.name, self._upstream.model_id)
        for task_id, (deadline, _) in list(self._deadlines.items()):
            self.leave(task_id)
            if answered:
                rehearsal.end(task_id, Cause.COMPLETED)
            elif again_s is None:
                rehearsal.end(task_id, Cause.FAILED, one.task.error or TIMEOUT)
            elif now + again_s >= deadline:
                rehearsal.end(task_id, Cause.FAILED, TIMEOUT)
            else:
                rehearsal.retry(task_id, again_s)


def _change(task_id: str, cause: Cause, source: State, **facts: Any) -> Change:
    return Change(task_id, [status(cause, source, **facts)], source=source)
