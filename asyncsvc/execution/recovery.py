"""Recovery: what became of a run that an agent gateway may have gone on with after a cut.

Owns the steps between a call that was cut and its outcome: ask the gateway for the run's status,
wait for a run that it goes on with or takes up again, abort what is still at work. Promises that
an answer which the gateway has is delivered once; that nothing is called again while the gateway
may be at work; that each step is a `recovery` event. Concerns only presets that act; what
follows where nothing is found is decided by `outcome.after_fault`. Never calls a model.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from asyncsvc.errors import InternalError, InterruptedUnknown, ProviderError
from asyncsvc.execution.call import Call, ChunkWriter
from asyncsvc.execution.outcome import Completed, cut_off
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.providers.agents import Runs, RunState, RunStatus
from asyncsvc.providers.answers.delta import Delta
from asyncsvc.providers.tokens import estimated_usage
from asyncsvc.tasks.state import Cause, Draft, EventType, State, Task

POLL_S = 1.0
ABORT_WITHIN_S = 3.0
"""How long aborting a run may take when its execution has ended."""
AWAY_S = 180.0
"""A restart of a gateway takes 9 to 25 s. One that is away longer is not waited for."""


class Recovery:
    """`prepare` a call before its start is written; `resume` a run that an earlier process
    began; look for the answer `after_cut`."""

    def __init__(self, journal: Journal, runs: Runs) -> None:
        self._journal = journal
        self._runs = runs

    async def prepare(self, call: Call) -> bool:
        """Name the call; whether it is to `resume` a run that was cut when a process ended.

        Raises InterruptedUnknown where that run was another model's, which may be at work.
        """
        task, upstream = call.leader, call.upstream
        call.session_key = upstream.session_key(task.id, task.starts + 1)
        before = (task.route or {}).get("session_key") if task.starts else None
        if not isinstance(before, str):
            return False
        causes = {
            orjson.loads(row)["cause"]
            for row in await self._journal.store.since_attempt(task.n, "status")
        }
        here = upstream.preset.acts and task.name == upstream.name
        if Cause.RERUN in causes:
            # A retry by hand replaces the earlier run; both must not go on side by side.
            if here:
                await self._runs.abort(upstream, before)
        elif Cause.INTERRUPTED in causes and here:
            call.session_key = before
            return True
        elif Cause.INTERRUPTED in causes and not task.request.retry_unsafe:
            raise InterruptedUnknown(
                f"asyncsvc was stopped while an agent of {task.name} worked on it, which may have "
                "acted; submit with retry_unsafe to let another model do it"
            )
        return False

    async def resume(self, call: Call) -> Completed | None:
        """The answer of the run that was cut; None where the call is to be made anew. Raises
        ProviderError where the run may have acted and its answer is lost."""
        call.presume_begun()
        stopped = "asyncsvc itself was stopped in mid-run"
        if (found := await self._inquire(call, InternalError(stopped))) is not None:
            return found
        if call.begun and not _all_allow(call):
            raise InternalError(stopped)
        call.session_key = call.upstream.session_key(
            call.leader.id, call.leader.starts + 2 + call.repeats
        )
        await self._begin_anew(call, "nothing is at work any more: called again")
        call.expect_anew()
        return None

    async def after_cut(self, call: Call, fault: ProviderError) -> Completed | None:
        """The answer of a call that ended with that fault, if the provider goes on with its run;
        None where there is none."""
        if not (call.upstream.preset.acts and call.begun and cut_off(fault)):
            return None
        return await self._inquire(call, fault)

    async def _inquire(self, call: Call, fault: ProviderError) -> Completed | None:
        """The run's answer; None where there is none, nor will be one. `call.begun` is false
        after that where the run never began. A wait that is cancelled aborts the run."""
        try:
            return await self._found(call, fault)
        except asyncio.CancelledError:
            if call.session_key is not None and not call.returns:
                with suppress(TimeoutError):
                    async with asyncio.timeout(ABORT_WITHIN_S):
                        await self._runs.abort(call.upstream, call.session_key)
            raise

    async def _found(self, call: Call, fault: ProviderError) -> Completed | None:
        key = call.session_key
        assert key is not None
        await self._publish(call, "asking", detail=str(fault))
        seen: RunState | None = None
        away_since: float | None = None
        while True:
            run_status = await self._runs.run_status(call.upstream, key)
            call.alive()
            now = asyncio.get_running_loop().time()
            away_since = (away_since or now) if run_status.state is RunState.AWAY else None
            if run_status.state is not seen:
                seen = run_status.state
                await self._publish(call, seen.value, detail=run_status.detail)
            if run_status.state is RunState.ANSWERED:
                return await self._deliver(call, run_status)
            if run_status.state is RunState.NEVER and not call.received:
                call.expect_anew()
                return None
            late = away_since is not None and now - away_since > AWAY_S
            if late or run_status.state in (RunState.LOST, RunState.NEVER):
                reply = await self._runs.abort(call.upstream, key)
                await self._publish(call, "aborted", detail=reply)
                return None
            await asyncio.sleep(POLL_S)

    async def _deliver(self, call: Call, run_status: RunStatus) -> Completed:
        """The rest of the answer; all of it as a new attempt where the text is another one."""
        if not run_status.text.startswith(call.text):
            await self._begin_anew(call, "the gateway ran it again by itself")
        call.write(Delta(run_status.text[len(call.text) :]))
        await call.drained()
        usage = run_status.usage or estimated_usage("", run_status.text)
        return Completed(call.text, usage, finish_reason="stop")

    async def _begin_anew(self, call: Call, why: str) -> None:
        """Begin a new attempt with new chunk writers: the text so far is void."""
        call.repeats += 1
        call.route = call.route | {"why": why}
        for execution in list(call.executions.values()):
            await execution.chunk_writer.drained()
            execution.chunk_writer = ChunkWriter(self._journal, execution.task)
        call.received.clear()
        await self._append(call, call.attempt)

    async def _publish(self, call: Call, step: str, *, detail: str) -> None:
        """Append a `recovery` event to all tasks that share the call."""
        await call.drained()
        data: dict[str, Any] = {"step": step, "session_key": call.session_key, "detail": detail}
        await self._append(call, lambda _: Draft(EventType.RECOVERY, data))

    async def _append(self, call: Call, draft: Callable[[Task], Draft]) -> None:
        changes = [
            Change(
                execution.task.id,
                [draft(execution.task)],
                source=State.RUNNING,
                epoch=execution.epoch,
            )
            for execution in call.executions.values()
            if execution.live
        ]
        if changes:
            await asyncio.shield(self._journal.append(*changes))


def _all_allow(call: Call) -> bool:
    return all(execution.task.request.retry_unsafe for execution in call.executions.values())
