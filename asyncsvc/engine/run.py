"""One attempt under way.

Owns what is known of it from the permit to the outcome. Promises that whoever stops it says
why, in `stop`, so that the reason is never guessed from a CancelledError. Never decides
anything; it is also the sink into which the client puts the answer's pieces.
"""

import asyncio
from dataclasses import dataclass, field

from asyncsvc.engine.outcome import Outcome
from asyncsvc.engine.tape import Tape
from asyncsvc.providers.deltas import Delta
from asyncsvc.providers.gate import Permit
from asyncsvc.providers.upstream import Upstream
from asyncsvc.tasks.task import Cause, Task


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
    stop: Cause | None = None
    begun: bool = False
    scope: "asyncio.Task[Outcome] | None" = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def full(self) -> bool:
        return self.tape.full

    def head(self) -> None:
        self.begun = True
        self.permit.head()

    def write(self, delta: Delta) -> None:
        self.tape.write(delta)

    async def drained(self) -> None:
        await self.tape.drained()
