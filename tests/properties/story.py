"""A story played on a real service: what is asked, what crashes, and how the oracle judges it.

Owns the service of a story and everybody who asks something of it. Promises that a story always
comes to its end in virtual time, and that at the end faults are over and everything that was
held back is let go. Never judges: that is the oracle's.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from asyncsvc.app import drain
from tests.engine_services import EngineServices, model
from tests.properties.asking import LONG_S, MOST_RETRIES, ROOM, SHORT_S, Asking
from tests.properties.lives import TTL_MS, Broken, law
from tests.properties.oracle import CONCURRENCY, RPM, SPAN_S, Oracle
from tests.properties.provider import Provider
from tests.properties.steps import (
    Crash,
    Do,
    Fault,
    Hold,
    How,
    Repeat,
    Restart,
    Step,
    Story,
    Submit,
    Tick,
    Turn,
)
from tests.properties.still_database import Disk

MODELS = {
    "a": model(concurrency=CONCURRENCY["a"]),
    "b": model(concurrency=CONCURRENCY["b"], rpm=RPM, rpm_window_s=SPAN_S),
}
SECTIONS: dict[str, Any] = {
    "timeouts": {"short_s": SHORT_S, "long_s": LONG_S, "first_token_s": 9, "idle_s": 9},
    "retry": {"max_retries": MOST_RETRIES, "base_s": 1.0, "max_s": 5.0},
    "breaker": {"failures": 3, "cooldown_s": 5},
    "queue": {"max_length": ROOM, "ttl_s": TTL_MS / 1000},
}
LEFT_BEHIND_TURNS = 2
"""How far a client comes that hangs up."""


class Telling:
    """One story. `happened` counts what is rare."""

    def __init__(self, folder: Path, story: Story, disk: Disk) -> None:
        self.happened: Counter[str] = Counter()
        self._folder = folder
        self._story = story
        self._disk = disk
        self._processes = 0
        self.provider = Provider()
        self.oracle = Oracle(self.provider)
        self.services = self._new_service()
        self._asking = Asking(self.oracle, lambda: self.services.services, self.happened)
        self._others: set[asyncio.Task[None]] = set()
        """Those who have not been answered yet."""
        self._client: asyncio.Task[None] | None = None
        self._received: dict[int, tuple[str, int, str]] = {}
        """What a client that follows everything has received, by id."""

    def _new_service(self) -> EngineServices:
        folder = self._folder / str(self._processes)
        folder.mkdir()
        return EngineServices(folder, MODELS, self.provider, **SECTIONS)

    @property
    def _path(self) -> Path:
        return Path(self.services.settings.storage.path)

    async def tell(self) -> None:
        """From the first step to the end of everything. Raises Broken."""
        await self._open()
        try:
            for step in self._story.steps:
                await self._step(step)
                self.oracle.look()
            await self._end()
        finally:
            self.oracle.close()
            with suppress(Broken):
                await self._silence()
            if hasattr(self.services, "services"):
                await self.services.crash()

    async def _open(self) -> None:
        self.oracle.open(self._path)
        await self.services.reopen()
        self._client = asyncio.create_task(self._listen())

    async def _step(self, step: Step) -> None:
        self.happened[type(step).__name__] += 1
        match step:
            case Tick(seconds=seconds):
                await asyncio.sleep(seconds)
            case Turn(times=times):
                for _ in range(times):
                    await asyncio.sleep(0)
            case Fault(kind=kind, count=count):
                self.provider.temper.extend([kind] * count)
            case Submit() | Repeat() | Do() | Hold():
                await self._let(step.how, self._asking.ask(step))
            case Crash(power=power):
                await self._crash(power)
            case Restart(grace_s=grace_s):
                await self._restart(grace_s)

    async def _let(self, how: How, asking: Coroutine[Any, Any, None]) -> None:
        """Ask, and wait for the answer or not."""
        task = asyncio.create_task(asking)
        if how == "wait":
            await task
            return
        self._others.add(task)
        task.add_done_callback(self._others.discard)
        if how == "leave":
            for _ in range(LEFT_BEHIND_TURNS):
                await asyncio.sleep(0)
            self.happened["hung up"] += not task.done()
            task.cancel()

    # Listening ------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """A client that follows everything, from where it was cut off."""
        after = max(self._received, default=0)
        async for page in self.services.services.journal.feed.follow(after):
            for event in page:
                law(event.id > after, f"event {event.id} was sent after {after}")
                after = event.id
                self._received[after] = (event.task_id, event.seq, event.type)

    # Ends -----------------------------------------------------------------------------------

    async def _silence(self) -> None:
        """No client asks or listens any more."""
        waiting = [*self._others, *([self._client] if self._client else [])]
        for task in waiting:
            task.cancel()
        await _over(waiting)

    async def _answers(self) -> None:
        await _over(list(self._others))

    async def _crash(self, power: bool) -> None:
        self.oracle.look()
        self.happened["crash in a call"] += any(True for _ in self.provider.under_way())
        self.happened["crash in a question"] += bool(self._others)
        old, path = self.services, self._path
        self.oracle.close()
        self._processes += 1
        self.services = self._new_service()
        self._disk.copy(path, self._path, power)
        await old.crash()  # before anything else: not a step of it is taken any more
        await self._silence()
        if power:
            self._received.clear()  # it has received text that is gone
        # Judged on a copy: the first that opens the file mends it.
        judged = self._path.with_name("judged.db")
        self._disk.copy(self._path, judged, False)
        self.oracle.reborn(judged, power)
        await self._open()

    async def _restart(self, grace_s: float) -> None:
        services = self.services.services
        self.happened["stopped in a call"] += any(True for _ in self.provider.under_way())
        self._asking.stopping = True
        await drain(services, grace_s, asyncio.Event())
        await self._answers()
        self.oracle.look()
        law(not list(self.provider.under_way()), "a call goes on after the stop")
        self.oracle.close()
        await self.services.close()
        await self._silence()
        self.oracle.look(alive=False)  # what it wrote while it closed belongs to its own time
        self.oracle.close()
        self._asking.stopping = False
        await self._open()

    async def _end(self) -> None:
        """Faults are over: all is finished but what is paused, and then that as well."""
        await self._answers()
        await asyncio.sleep(1)  # what was asked for and not waited for is carried out all the same
        self.provider.temper.clear()
        for name in MODELS:
            await self._asking.ask(Hold(name, free=True))
        await self._settle()
        for life in list(self.oracle.lives.values()):
            if life.state == "paused":
                await self._asking.ask(Do("resume", self._place(life.id)))
        await self._settle()
        stuck = [life.story() for life in self.oracle.lives.values() if not life.finished]
        law(not stuck, "stuck:\n" + "\n".join(stuck))
        await asyncio.sleep(1)  # what has ended is being put away
        self._check_idle()
        self._check_client()
        await self._crash(False)
        self.oracle.look()
        self._count()

    def _place(self, task_id: str) -> int:
        known = sorted(self.oracle.ids.items())
        return [found for _, found in reversed(known)].index(task_id)

    def _count(self) -> None:
        """What became of the tasks, to show what the stories reach."""
        self.happened["played"] += 1
        for life in self.oracle.lives.values():
            self.happened.update(f"-> {cause}" for cause in life.causes)
            self.happened[f"failed: {life.code}"] += life.code is not None
            self.happened["cached"] += life.cached
        self.happened["calls"] += len(self.provider.calls)
        self.happened["calls cut"] += sum(call.cancelled for call in self.provider.calls)
        prompts = Counter(
            life.request.content for life in self.oracle.lives.values() if life.starts
        )
        self.happened["shared"] += sum(count - 1 for count in prompts.values())

    async def _settle(self) -> None:
        """Wait until no task is left that could still get on."""
        for _ in range(40):
            self.oracle.look()
            lives = self.oracle.lives.values()
            held = {life.request.session for life in lives if life.state == "paused"}
            free = [
                life
                for life in lives
                if not life.finished
                and life.state != "paused"
                and (life.request.session is None or life.request.session not in held)
            ]
            if not free:
                return
            await asyncio.sleep(50)
        raise Broken("stuck:\n" + "\n".join(life.story() for life in free))

    def _check_idle(self) -> None:
        """Nothing is left of anything."""
        services = self.services.services
        law(len(services.scheduler) == 0, f"{len(services.scheduler)} are left in the lanes")
        law(
            not services.executor.executions,
            f"{list(services.executor.executions)} are left in the executor",
        )
        for upstream in services.catalogue.upstreams:
            busy = (upstream.gate.busy, upstream.gate.long_busy, upstream.gate.under_way)
            law(not any(busy), f"gate {upstream.name} is left with {busy}")

    def _check_client(self) -> None:
        """A client that follows everything has received everything, and nothing else."""
        self.oracle.look()
        lives = self.oracle.lives.values()
        stored_here = {e.id: (life.id, e.seq, e.type) for life in lives for e in life.events}
        here = {life.id for life in lives}
        received = {i: event for i, event in self._received.items() if event[0] in here}
        law(
            received == stored_here,
            f"received {received.items() - stored_here.items()}, "
            f"not {stored_here.items() - received.items()}",
        )


async def _over(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for them; raises what they raised, but that they were cancelled."""
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(found, Exception):
            raise found
