"""One call under way, and the tasks that share it.

Owns what is known of it from the permit to the outcome. Promises that whoever takes a task out
of a call says how that ended for it, so that the reason is never guessed from a
CancelledError; that a task which joins late is given what was said so far and then goes on
with the others. Never decides anything; a `Run` is also the sink into which the client puts
the answer's pieces.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from asyncsvc.errors import (
    GateClosed,
    IllegalTransition,
    ProviderError,
    StorageUnavailable,
    TaskNotFound,
)
from asyncsvc.execution.chunk_writer import ChunkWriter
from asyncsvc.execution.outcome import Completed, Deferred, Failed, Outcome, Retried, Stopped
from asyncsvc.limits.permit import Permit
from asyncsvc.providers.answers.answer import Delta
from asyncsvc.providers.answers.events import joined
from asyncsvc.providers.tokens import total
from asyncsvc.providers.upstream import Upstream
from asyncsvc.tasks.state import Cause, Draft, EventType, Task

RECORDED_WITHIN_S = 30.0
"""How long whoever stops a run waits for its record. A disk that refuses says so; one that
hangs says nothing at all."""


@dataclass(eq=False)
class Participant:
    """A task's part in a call. `started` and `deadline` are by the loop's clock."""

    run: "Run"
    task: Task
    chunk_writer: ChunkWriter
    started: float
    deadline: float
    outcome: Outcome | None = None
    """How it ended for this task alone, while the call went on or because it was cut."""
    left: float = 0.0
    """When it was told to end, by the loop's clock."""
    alarm: asyncio.TimerHandle | None = None
    start: "asyncio.Future[list[Task]] | None" = None
    """The append of the start. Whoever ends it waits for this: it may still become true."""
    live: bool = False
    """Its start is on the disk: it gets the text as it comes."""
    closed: Task | None = None
    """The task as the record of its run left it: by now it may have moved on."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """It is over, or the disk has refused its record at least once."""

    def ended(self) -> None:
        self.over.set()
        self.news.set()

    async def recorded(self) -> None:
        """Wait until it is over. Raises StorageUnavailable as soon as the disk refuses the
        record, which is offered again until the disk takes it."""
        why = "the disk refuses writes"
        try:
            async with asyncio.timeout(RECORDED_WITHIN_S):
                await self.news.wait()
        except TimeoutError:
            why = f"the disk has not answered for {RECORDED_WITHIN_S:g} s"
        if not self.over.is_set():
            raise StorageUnavailable(
                f"{why}; the call upstream is cut, and what was asked will be recorded as soon as "
                "the disk is back: ask again to be sure"
            )

    def begin(self, start: "asyncio.Future[list[Task]]") -> None:
        self.start = start
        start.add_done_callback(self._begun)

    def _begun(self, start: "asyncio.Future[list[Task]]") -> None:
        if self.outcome is not None or start.cancelled() or start.exception() is not None:
            return
        self.live = True
        self.started = asyncio.get_running_loop().time()
        for delta in joined(self.run.heard):
            self.chunk_writer.write(delta)

    async def settled(self) -> None:
        """Wait until no append of its run is under way; none follows."""
        if self.start is not None:
            await asyncio.wait({self.start})
        await self.chunk_writer.settled()


@dataclass(eq=False)
class Run:
    """`participants` are those still aboard; `lead` is the task for which the worker came."""

    lead: Task
    upstream: Upstream
    permit: Permit
    model_id: str
    started: float
    route: dict[str, Any]
    """How the model was chosen."""
    participants: dict[str, Participant] = field(default_factory=dict)
    heard: list[Delta] = field(default_factory=list)
    begun: bool = False
    """The provider has begun to answer."""
    waited_s: float = 0.0
    """Of the time since `started`: spent waiting for the rate between two calls."""
    warnings: list[str] = field(default_factory=list)
    """What is not done as asked."""
    session_key: str | None = None
    """The name under which the upstream can be asked what became of the call."""
    cut: bool = False
    """It stands for an earlier attempt, cut off when this process or the one before ended."""
    anew: int = 0
    """Attempts that followed within this run."""
    starting: bool = False
    """The starts of the participants are being written, or have been."""
    over: bool = False
    """Nobody can come aboard any more: the call has ended, or is being cut."""
    scope: "asyncio.Task[Outcome | ProviderError] | None" = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """The call has ended, or is no longer waited for."""
    heard_at: float | None = None
    """The last sign of the provider, by the loop's clock; None: no call is being made."""

    def silent_s(self, now: float) -> float:
        """How long nothing has come although the provider alone has to speak."""
        return 0.0 if self.heard_at is None else now - self.heard_at

    async def make(
        self, attempt: Coroutine[Any, Any, Outcome | ProviderError]
    ) -> Outcome | ProviderError:
        """Make the call in a task of its own, so that it can be cut without the worker."""
        scope = self.scope = asyncio.create_task(attempt, name=f"run {self.lead.id}")
        scope.add_done_callback(lambda _: self.ended.set())
        try:
            await self.ended.wait()
        except asyncio.CancelledError:
            scope.cancel()
            await self.ended.wait()
            raise
        self.over = True
        if scope.done() and not scope.cancelled():
            return scope.result()
        left = [
            participant.outcome
            for participant in self.participants.values()
            if participant.outcome is not None
        ]
        return left[0] if left else Stopped(Cause.INTERRUPTED)

    @property
    def text(self) -> str:
        """All answer text so far."""
        return "".join(delta.text for delta in self.heard if not delta.reasoning)

    def attempt(self, task: Task) -> Draft:
        """The event that tells a task of it."""
        notes = (task.request.route or {}).get("warnings", [])
        warnings = [*notes, *self.warnings]
        said: dict[str, Any] = {"warnings": warnings} if warnings else {}
        shares = task.id != self.lead.id
        route = self.route
        if shares:  # what it has waited for is its own
            why = "shares the call of an equal task"
            route = {k: v for k, v in route.items() if k not in ("waited", "gate")}
        else:
            why = route["why"]
        known = {} if self.session_key is None else {"session_key": self.session_key}
        return Draft(
            EventType.ATTEMPT,
            {
                "number": task.starts + 1 + self.anew,
                "model": self.model_id,
                "name": self.upstream.name,
                "why": why,
                "route": route | said | known,
                **said,
                **known,
            },
        )

    def report(self, ending: Outcome | ProviderError) -> None:
        """Tell the gate how the call went."""
        gate = self.upstream.gate
        if isinstance(ending, Completed):
            self.permit.used(total(ending.usage, self.lead.request.tokens))
            gate.spent(ending.usage)
            gate.succeeded(gate.time() - self.started - self.waited_s)
        elif isinstance(ending, Failed) and ending.error.slow_down:
            pass  # its time was over: the refusal is one that the gate has heard of
        elif isinstance(ending, Failed | Retried | Deferred):
            gate.failed(ending.error, self.permit, self.lead.id)
        elif isinstance(ending, ProviderError) and not isinstance(ending, GateClosed):
            gate.failed(ending, self.permit, self.lead.id)

    # What the client needs of a sink ----------------------------------------------------------

    @property
    def full(self) -> bool:
        return any(participant.chunk_writer.full for participant in self.participants.values())

    def alive(self) -> None:
        self.heard_at = asyncio.get_running_loop().time()

    def head(self, accepted: bool) -> None:
        self.alive()
        self.begun |= accepted
        self.permit.head(accepted)

    def write(self, delta: Delta) -> None:
        self.heard.append(delta)
        for participant in self.participants.values():
            if participant.live:
                participant.chunk_writer.write(delta)

    @property
    def returns(self) -> bool:
        """The service stops: the next process asks what became of the call."""
        outcomes = [m.outcome for m in self.participants.values()]
        return any(isinstance(o, Stopped) and o.cause is Cause.INTERRUPTED for o in outcomes)

    async def drained(self) -> None:
        """Wait for all chunk writers, which is no silence of the provider. Raises what the journal
        raised, but a task that is no longer there keeps nothing from the others."""
        self.heard_at = None
        for participant in list(self.participants.values()):
            try:
                await participant.chunk_writer.drained()
            except (IllegalTransition, TaskNotFound):
                participant.live = False
                if not any(other.live for other in self.participants.values()):
                    raise
        self.alive()
