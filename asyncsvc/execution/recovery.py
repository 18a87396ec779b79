"""After a cut: what became of a run that an agent gateway may have gone on with.

Owns the steps between a call that was cut and its outcome: ask the gateway, wait for a run that
it goes on with or takes up again, end what is still at work. Promises that an answer which the
gateway has is delivered once; that nothing is called again while the gateway may be at it; that
each step is a `recovery` event. Concerns only presets that act; what follows where nothing is
found is for `outcome.py` to say. Never calls a model.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import orjson

from asyncsvc.errors import InternalError, InterruptedUnknown, ProviderError
from asyncsvc.execution.call import Run
from asyncsvc.execution.chunk_writer import ChunkWriter
from asyncsvc.execution.outcome import Completed, cut_off
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.providers.answers.answer import Delta
from asyncsvc.providers.client import Client
from asyncsvc.providers.openclaw.sessions import RunStatus
from asyncsvc.providers.openclaw.sessions import State as Found
from asyncsvc.providers.tokens import estimated_usage
from asyncsvc.tasks.state import Cause, Draft, EventType, State, Task

POLL_S = 1.0
LEAVING_S = 3.0
"""How long ending a run may take when nobody waits for it any more."""
AWAY_S = 180.0
"""A restart takes 9 to 25 s. A gateway that is away longer is not waited for."""


class Recovery:
    """`prepare` a run before its start is written, then `call`."""

    def __init__(self, journal: Journal, client: Client) -> None:
        self._journal = journal
        self._client = client

    async def prepare(self, run: Run) -> None:
        """Name the call, or find the one that was cut off when a process ended.

        Raises InterruptedUnknown where that was with another model: there it may be at work.
        """
        task, upstream = run.lead, run.upstream
        run.session_key = upstream.session_key(task.id, task.starts + 1)
        before = (task.route or {}).get("session_key") if task.starts else None
        if not isinstance(before, str):
            return
        causes = {orjson.loads(row)["cause"] for row in await self._journal.store.ends(task.n)}
        here = upstream.preset.acts and task.name == upstream.name
        if Cause.RERUN in causes:
            # Whoever asks for it anew wants this one, and no other beside it.
            if here:
                await self._client.abort(upstream, before)
        elif Cause.INTERRUPTED in causes and here:
            run.session_key, run.cut = before, True
        elif Cause.INTERRUPTED in causes and not task.request.retry_unsafe:
            raise InterruptedUnknown(
                f"asyncsvc was stopped while an agent of {task.name} worked on it, which may have "
                "acted; submit with retry_unsafe to let another model do it"
            )

    async def call(self, run: Run, ask: Callable[[], Awaitable[Completed]]) -> Completed:
        """The answer, be it of this call or of one that was cut. Raises ProviderError."""
        if run.cut:
            run.begun = True
            fault: ProviderError = InternalError("asyncsvc itself was stopped in mid-run")
            if (found := await self._inquire(run, fault)) is not None:
                return found
            if run.begun and not _all_allow(run):
                raise fault
            await self._begin_anew(run, "nothing is at work any more: called again")
            run.begun = False
        try:
            return await ask()
        except ProviderError as fault:
            if not (run.upstream.preset.acts and run.begun and cut_off(fault)):
                raise
            if (found := await self._inquire(run, fault)) is not None:
                return found
            raise

    async def _inquire(self, run: Run, fault: ProviderError) -> Completed | None:
        """What became of it; None where there is no answer, nor will be one. `run.begun` is
        false after that where it never began. Whoever stops waiting ends the gateway's run."""
        try:
            return await self._found(run, fault)
        except asyncio.CancelledError:
            if run.session_key is not None and not run.returns:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LEAVING_S):
                        await self._client.abort(run.upstream, run.session_key)
            raise

    async def _found(self, run: Run, fault: ProviderError) -> Completed | None:
        key = run.session_key
        assert key is not None
        await self._tell(run, "asking", detail=str(fault))
        seen: Found | None = None
        away_since: float | None = None
        while True:
            run_status = await self._client.run_status(run.upstream, key)
            run.alive()
            now = asyncio.get_running_loop().time()
            away_since = (away_since or now) if run_status.state is Found.AWAY else None
            if run_status.state is not seen:
                seen = run_status.state
                await self._tell(run, seen.value, detail=run_status.detail)
            if run_status.state is Found.ANSWERED:
                return await self._deliver(run, run_status)
            if run_status.state is Found.NEVER and not run.heard:
                run.begun = False
                return None
            late = away_since is not None and now - away_since > AWAY_S
            if late or run_status.state in (Found.LOST, Found.NEVER):
                said = await self._client.abort(run.upstream, key)
                await self._tell(run, "aborted", detail=said)
                return None
            await asyncio.sleep(POLL_S)

    async def _deliver(self, run: Run, run_status: RunStatus) -> Completed:
        """The rest of the answer; all of it as a new attempt where it is another one."""
        if not run_status.text.startswith(run.text):
            await self._begin_anew(run, "the gateway ran it again by itself")
        run.write(Delta(run_status.text[len(run.text) :]))
        await run.drained()
        usage = run_status.usage or estimated_usage("", run_status.text)
        return Completed(run.text, usage, finish_reason="stop")

    async def _begin_anew(self, run: Run, why: str) -> None:
        """What was said is void: say so, and begin a new chunk writer."""
        run.anew += 1
        if run.cut:
            run.cut = False
            run.session_key = run.upstream.session_key(run.lead.id, run.lead.starts + 1 + run.anew)
        run.route = run.route | {"why": why}
        for participant in list(run.participants.values()):
            await participant.chunk_writer.drained()
            participant.chunk_writer = ChunkWriter(self._journal, participant.task.id)
        run.heard.clear()
        await self._append(run, lambda task: run.attempt(task))

    async def _tell(self, run: Run, step: str, *, detail: str) -> None:
        """A step, to all who are aboard."""
        await run.drained()
        data: dict[str, Any] = {"step": step, "session_key": run.session_key, "detail": detail}
        await self._append(run, lambda _: Draft(EventType.RECOVERY, data))

    async def _append(self, run: Run, draft: Callable[[Task], Draft]) -> None:
        changes = [
            Change(participant.task.id, [draft(participant.task)], source=State.RUNNING)
            for participant in run.participants.values()
            if participant.live
        ]
        if changes:
            await asyncio.shield(self._journal.append(*changes))


def _all_allow(run: Run) -> bool:
    return all(participant.task.request.retry_unsafe for participant in run.participants.values())
