"""A call to a provider, the executions that share it, and the chunk writer of each.

The state of a call only changes along the table. Each execution that leaves a call carries its own
outcome; an execution that joins late gets the text so far and then goes on with the others. A
`Call` is also the sink into which the client writes the pieces of the answer.

A chunk writer turns text into events as fast as the disk takes them: one append of the attempt is
under way at most, and text that arrives meanwhile becomes the next event. So there is a chunk per
token while there is time, fewer and larger ones under load, and no timer. What the disk refuses
is offered again in its place with the next piece, so the text never has a hole.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from asyncsvc.errors import (
    GateClosed,
    IllegalTransition,
    ProviderError,
    StorageUnavailable,
    TaskNotFound,
)
from asyncsvc.execution.outcome import Completed, Deferred, Failed, Outcome, Retried, Stopped
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.limits.account import Permit
from asyncsvc.providers.answers.delta import Delta, Deltas, cut, drafts
from asyncsvc.providers.answers.pieces import add
from asyncsvc.providers.tokens import total
from asyncsvc.providers.upstream import Upstream
from asyncsvc.tasks.state import Cause, Draft, EventType, Task

ROOM = 1 << 16
"""How many characters may wait for the disk before the client is to pause. They go into one commit,
for which submits wait: beside four endless answers with four times as many 55 ms (p95), with these
25, and the answers come as fast."""


class ChunkWriter:
    """Writes the text of one attempt of one task: `write` pieces, then `settled` and `rest`."""

    def __init__(self, journal: Journal, task: Task) -> None:
        self._journal = journal
        self._task = task
        self._waiting: list[Delta] = []
        self.waiting_chars = 0
        """Characters that wait for the disk. Above `ROOM`, no more should be written."""
        self._offered: list[Delta] = []
        self._parts: list[str] = []
        self._append: asyncio.Future[list[Task]] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._error: BaseException | None = None
        self._closed = False
        self._step: int | None = None
        self.pieces = 0
        """Deltas so far; providers send about one a token."""

    @property
    def text(self) -> str:
        """All answer text so far, on the disk or not."""
        return "".join(self._parts)

    def write(self, delta: Delta) -> None:
        """Take a piece; it is appended as soon as the piece before is on the disk."""
        self.pieces += 1
        if not delta.reasoning:
            add(self._parts, delta.text)
        size = len(delta.text) if delta.call is None else delta.size
        self.waiting_chars += size
        self._waiting += [delta] if size <= ROOM else cut(delta, ROOM)
        if self._append is None and not self._closed:
            self._flush()

    async def begin_step(self, number: int) -> None:
        """The text from now on is that of a step of an agent; the text before it is on the disk.
        Raises what the journal raised."""
        await self.drained()
        self.step(number)

    def step(self, number: int, parts: Sequence[str] = ()) -> None:
        """The text is that of a step of an agent; `parts` of it are on the disk already."""
        self._step, self._parts = number, list(parts)

    async def drained(self) -> None:
        """Wait until all text is on the disk. Raises what the journal raised."""
        await self._idle.wait()
        if self._error is not None:
            raise self._error

    async def settled(self) -> None:
        """Append nothing more but what is too long for the closing append, and wait for that."""
        self._closed = True
        await self._idle.wait()

    def rest(self) -> list[Draft]:
        """The events that are still to be written, to go into one append with the closing one."""
        return self._drafts(self._waiting)

    def _drafts(self, deltas: list[Delta]) -> list[Draft]:
        found = drafts(deltas)
        if self._step is not None:
            for draft in found:
                draft.data["step"] = self._step
        return found

    def _flush(self) -> None:
        task = self._task
        if self.waiting_chars <= ROOM:
            self._offered, self._waiting, self.waiting_chars = self._waiting, [], 0
        else:
            self._offered = self._first()
        change = Change(task.request.id, self._drafts(self._offered), epoch=task.epoch + 1)
        self._idle.clear()
        self._append = self._journal.append(change)
        self._append.add_done_callback(self._appended)

    def _first(self) -> list[Delta]:
        """What goes into the next commit: the rest goes on waiting."""
        count = taken = 0
        while count < len(self._waiting):
            size = self._waiting[count].size
            if count and taken + size > ROOM:
                break
            count, taken = count + 1, taken + size
        first, self._waiting = self._waiting[:count], self._waiting[count:]
        self.waiting_chars -= taken
        return first

    def _appended(self, append: "asyncio.Future[list[Task]]") -> None:
        self._append = None
        self._error = None if append.cancelled() else append.exception()
        if self._error is not None:
            self._waiting = self._offered + self._waiting
            self.waiting_chars += sum(delta.size for delta in self._offered)
        self._offered = []
        goes_on = not self._closed or self.waiting_chars > ROOM
        if self._waiting and self._error is None and goes_on:
            self._flush()
        else:
            self._idle.set()


RECORDED_WITHIN_S = 30.0
"""How long a stop waits for its record. A disk that refuses answers; one that hangs does not."""


class CallState(StrEnum):
    """How far a call has come."""

    PREPARED = "prepared"
    """It has a permit; nothing is written yet."""
    STARTED = "started"
    """The starts of its tasks are written, or being written; the provider has not accepted it."""
    STREAMING = "streaming"
    """The provider has begun to answer, or may have begun."""
    CLOSING = "closing"
    """It was cancelled and its connection is being closed; no execution can join."""
    CLOSED = "closed"
    """It has ended, or is no longer waited for."""


TRANSITIONS: dict[CallState, frozenset[CallState]] = {
    CallState.PREPARED: frozenset({CallState.STARTED, CallState.CLOSING, CallState.CLOSED}),
    CallState.STARTED: frozenset({CallState.STREAMING, CallState.CLOSING, CallState.CLOSED}),
    # Back to started: the provider never began after all, or is called anew.
    CallState.STREAMING: frozenset({CallState.STARTED, CallState.CLOSING, CallState.CLOSED}),
    CallState.CLOSING: frozenset({CallState.CLOSED}),
    CallState.CLOSED: frozenset(),
}
"""state → the states that may follow it."""
OPEN = frozenset({CallState.PREPARED, CallState.STARTED, CallState.STREAMING})


@dataclass(eq=False)
class Execution:
    """One task under way: its share of a call, its deadline and its outcome.

    `started`, `deadline` and `left_at` are by the loop's clock, in seconds.
    """

    call: "Call"
    task: Task
    chunk_writer: ChunkWriter
    started: float
    deadline: float
    outcome: Outcome | None = None
    """Set where the task leaves the call before its end, or because the call is cancelled."""
    left_at: float = 0.0
    alarm: asyncio.TimerHandle | None = None
    """The timer of the deadline."""
    start: "asyncio.Future[list[Task]] | None" = None
    """The append of the start. It may still succeed after the task has left the call."""
    live: bool = False
    """The start is on the disk: the task gets the text as it comes."""
    recorded: Task | None = None
    """The task as its closing event left it; it may have moved on since."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """The execution is over and recorded."""
    reported: asyncio.Event = field(default_factory=asyncio.Event)
    """The execution is over, or the disk has refused its record at least once."""

    @property
    def epoch(self) -> int:
        """The number of the run: one more than that of the task which waited for it."""
        return self.task.epoch + 1

    def forgive(self) -> None:
        """A step of an agent has ended: the attempts before count no more against its retries."""
        self.task = replace(self.task, forgiven=self.task.attempts)

    def end(self) -> None:
        """Mark the execution as over and stop its timer."""
        if self.alarm is not None:
            self.alarm.cancel()
        self.ended.set()
        self.reported.set()

    async def until_recorded(self) -> None:
        """Wait until the execution is over. Raises StorageUnavailable as soon as the disk
        refuses the record, which is offered again until the disk takes it."""
        why = "the disk refuses writes"
        try:
            async with asyncio.timeout(RECORDED_WITHIN_S):
                await self.reported.wait()
        except TimeoutError:
            why = f"the disk has not answered for {RECORDED_WITHIN_S:g} s"
        if not self.ended.is_set():
            raise StorageUnavailable(
                f"{why}; the call upstream is cut, and what was asked will be recorded as soon as "
                "the disk is back: ask again to be sure"
            )

    def begin(self, start: "asyncio.Future[list[Task]]") -> None:
        """Take the append of the start; the text flows once it is on the disk."""
        self.start = start
        start.add_done_callback(self._begun)

    def _begun(self, start: "asyncio.Future[list[Task]]") -> None:
        if self.outcome is not None or start.cancelled() or start.exception() is not None:
            return
        self.live = True
        self.started = asyncio.get_running_loop().time()
        for delta in self.call.received:
            self.chunk_writer.write(delta)

    async def settled(self) -> None:
        """Wait until no append of the execution is under way; none follows."""
        if self.start is not None:
            await asyncio.wait({self.start})
        await self.chunk_writer.settled()


@dataclass(eq=False)
class Call:
    """One call to a provider. `leader` is the task for which the worker came, `executions`
    those that share the call now, by task id. Times are by the loop's clock, in seconds."""

    leader: Task
    upstream: Upstream
    permit: Permit
    model_id: str
    started: float
    route: dict[str, Any]
    """Why this model was chosen."""
    state: CallState = CallState.PREPARED
    reached: CallState = CallState.PREPARED
    """The last open state: how far the call had come when it was closed."""
    executions: dict[str, Execution] = field(default_factory=dict)
    received: Deltas = field(default_factory=Deltas)
    waited_s: float = 0.0
    """How much of the time since `started` went to waiting for the rate between two requests."""
    warnings: list[str] = field(default_factory=list)
    """Which parameters are not passed on as asked."""
    session_key: str | None = None
    """The name under which the provider can be asked for the call's status."""
    repeats: int = 0
    """Attempts that followed within this call."""
    trace: dict[str, str] | None = None
    """The headers by which the provider's trace joins that of the task; None: none."""
    heard_at: float | None = None
    """The provider's last sign of life; None while no answer is awaited."""
    asking: bool = True
    """Whether a request is under way; of an agent False while its tools run."""
    first_at: float | None = None
    """When the first piece of the answer came."""
    spent: dict[str, Any] | None = None
    """The usage of an agent's steps so far."""
    _scope: "asyncio.Task[Outcome | ProviderError] | None" = None
    _closed: asyncio.Event = field(default_factory=asyncio.Event)

    # States -----------------------------------------------------------------------------------

    def move(self, state: CallState) -> None:
        """Change the state. Raises RuntimeError where the table has no such transition."""
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"a call cannot go from {self.state} to {state}")
        self.state = state
        if state in OPEN:
            self.reached = state

    @property
    def open(self) -> bool:
        """Whether the call is neither over nor being cancelled, so that executions may join."""
        return self.state in OPEN and not (self._scope is not None and self._scope.done())

    @property
    def begun(self) -> bool:
        """Whether the provider has begun to answer, or may have begun."""
        return self.reached is CallState.STREAMING

    def presume_begun(self) -> None:
        """The provider may be at work already, for an earlier attempt."""
        if self.state is CallState.STARTED:
            self.move(CallState.STREAMING)

    def expect_anew(self) -> None:
        """The provider is not at work: what follows counts as not begun."""
        if self.state is CallState.STREAMING:
            self.move(CallState.STARTED)

    def cancel(self) -> None:
        """Cancel the request; `make` returns when its connection is closed."""
        assert self._scope is not None
        self.move(CallState.CLOSING)
        self._scope.cancel()

    def close(self) -> None:
        """Stop waiting for the request, be it over or not."""
        if self.state is not CallState.CLOSED:
            self.move(CallState.CLOSED)
        self._closed.set()

    def _ended(self, scope: "asyncio.Task[Outcome | ProviderError]") -> None:
        """Close the call; a cancelled request forgets its exception.

        Its frames hold all the text of the call, and by `asyncio.timeout` the asyncio task that
        holds the exception: a cycle that would wait for the garbage collector, perhaps for hours.
        """
        if scope.cancelled():
            with suppress(asyncio.CancelledError):
                scope.result()
        self.close()

    async def make(
        self, attempt: Coroutine[Any, Any, Outcome | ProviderError]
    ) -> Outcome | ProviderError:
        """Run the attempt in an asyncio task of its own, which can be cancelled without the
        worker; how it ended."""
        scope = asyncio.create_task(attempt, name=f"call {self.leader.id}")
        self._scope = scope
        scope.add_done_callback(self._ended)
        try:
            await self._closed.wait()
        except asyncio.CancelledError:
            if self.state in OPEN:
                self.move(CallState.CLOSING)
            scope.cancel()
            await self._closed.wait()
            raise
        if scope.done() and not scope.cancelled():
            return scope.result()
        outcomes = (execution.outcome for execution in self.executions.values())
        return next((o for o in outcomes if o is not None), Stopped(Cause.INTERRUPTED))

    # Facts ------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """All answer text so far."""
        return "".join(self.received.texts(reasoning=False))

    @property
    def usage(self) -> dict[str, Any]:
        """The usage of an agent's steps so far, for its closing event."""
        return {} if self.spent is None else {"usage": self.spent}

    def silent_s(self, now: float) -> float:
        """Seconds since the provider's last sign of life; 0 while no answer is awaited."""
        return 0.0 if self.heard_at is None else now - self.heard_at

    def attempt(self, task: Task) -> Draft:
        """The `attempt` event of a task that shares the call."""
        notes = (task.request.route or {}).get("warnings", [])
        warnings = [*notes, *self.warnings]
        facts: dict[str, Any] = {"warnings": warnings} if warnings else {}
        if self.session_key is not None:
            facts["session_key"] = self.session_key
        route = self.route
        if task.id == self.leader.id:
            why = route["why"]
        else:  # the leader's waiting time is not this task's
            why = "shares the call of an equal task"
            route = {k: v for k, v in route.items() if k not in ("waited", "gate")}
        return Draft(
            EventType.ATTEMPT,
            {
                "number": task.starts + 1 + self.repeats,
                "model": self.model_id,
                "name": self.upstream.name,
                "why": why,
                "route": route | facts,
                **facts,
            },
        )

    def report(self, ending: Outcome | ProviderError) -> None:
        """Pass the ending on to the account's limiter."""
        if not self.asking:
            return  # no request has ended
        gate = self.upstream.gate
        if isinstance(ending, Completed):
            self.permit.used(total(ending.usage, self.leader.request.tokens))
            gate.statistics.spent(ending.usage)
            began, seconds = self.started + self.waited_s, gate.time() - self.started
            if self.first_at is not None and self.leader.request.type == "chat":
                first_s = max(self.first_at - began, 0.0)
                gate.statistics.streamed(first_s, seconds - self.waited_s, ending.usage)
            gate.succeeded(seconds - self.waited_s)
        elif isinstance(ending, Failed) and ending.error.slow_down:
            pass  # the task's time was over; the limiter knows of the refusal already
        elif isinstance(ending, Failed | Retried | Deferred):
            gate.failed(ending.error, self.permit, self.leader.id)
        elif isinstance(ending, ProviderError) and not isinstance(ending, GateClosed):
            gate.failed(ending, self.permit, self.leader.id)

    # The client's sink ------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether a chunk writer holds so much that the client waits for `drained`."""
        for execution in self.executions.values():
            if execution.chunk_writer.waiting_chars > ROOM:
                return True
        return False

    def alive(self) -> None:
        """Note a sign of life of the provider."""
        self.heard_at = asyncio.get_running_loop().time()

    def head(self, accepted: bool) -> None:
        """The head of the response is there; `accepted`: with a status of success."""
        self.alive()
        if accepted:
            self.presume_begun()
        self.permit.head(accepted)

    def write(self, delta: Delta) -> None:
        """Pass a piece of the answer on to the chunk writers of all live executions."""
        if self.first_at is None:
            self.first_at = asyncio.get_running_loop().time()
        self.upstream.gate.statistics.pieces += 1
        self.received.add(delta)
        for execution in self.executions.values():
            if execution.live:
                execution.chunk_writer.write(delta)

    @property
    def returns(self) -> bool:
        """Whether the service stops, so that the next process asks for the call's status."""
        outcomes = [execution.outcome for execution in self.executions.values()]
        return any(isinstance(o, Stopped) and o.cause is Cause.INTERRUPTED for o in outcomes)

    async def drained(self) -> None:
        """Wait for all chunk writers; the wait does not count as silence of the provider.
        Raises what the journal raised, unless only a task that is gone is concerned."""
        self.heard_at = None
        for execution in list(self.executions.values()):
            try:
                await execution.chunk_writer.drained()
            except (IllegalTransition, TaskNotFound):
                execution.live = False
                if not any(other.live for other in self.executions.values()):
                    raise
        self.alive()
