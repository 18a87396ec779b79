"""One attempt under way.

Owns what is known of it from the permit to the outcome. Promises that whoever stops it says
why, in `stop`, so that the reason is never guessed from a CancelledError. Never decides
anything; it is also the sink into which the client puts the answer's pieces.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from asyncsvc.engine.outcome import Outcome
from asyncsvc.engine.tape import Tape
from asyncsvc.providers.deltas import Delta
from asyncsvc.providers.gate import Permit
from asyncsvc.providers.upstream import Upstream
from asyncsvc.tasks.task import Cause, Draft, EventType, Task


@dataclass(eq=False)
class Run:
    """`started` and `deadline` are by the loop's clock."""

    task: Task
    upstream: Upstream
    permit: Permit
    tape: Tape
    model_id: str
    started: float
    deadline: float
    route: dict[str, Any]
    """How the model was chosen."""
    stop: Cause | None = None
    begun: bool = False
    scope: "asyncio.Task[Outcome] | None" = None
    start: "asyncio.Future[list[Task]] | None" = None
    """The append of the start. Whoever ends the run waits for it: it may still become true."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def full(self) -> bool:
        return self.tape.full

    def attempt(self) -> Draft:
        """The event that tells of it."""
        return Draft(
            EventType.ATTEMPT,
            {
                "number": self.task.starts + 1,
                "model": self.model_id,
                "name": self.upstream.name,
                "why": self.route["why"],
                "route": self.route,
            },
        )

    def head(self, accepted: bool) -> None:
        self.begun |= accepted
        self.permit.head()

    def write(self, delta: Delta) -> None:
        self.tape.write(delta)

    async def drained(self) -> None:
        await self.tape.drained()

    async def settled(self) -> None:
        """Wait until no append of the run is under way; none follows."""
        if self.start is not None:
            await asyncio.wait({self.start})
        await self.tape.settled()
