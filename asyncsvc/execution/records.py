"""What an execution of an agent writes: its events, and the output of its tools while they run.

Promises that the history follows what is on the disk, event by event, and that the output of a tool
is whole on the disk before its result is.
"""

import asyncio
from typing import Any

from asyncsvc.agents.history import History
from asyncsvc.execution.call import Execution
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.storage.entries import EventRow, event_json
from asyncsvc.tasks.state import Draft, EventType, Task


class Records:
    """`append` events of an execution; `history` is the agent's, which follows them."""

    def __init__(self, journal: Journal, execution: Execution, history: History) -> None:
        self.history = history
        self.execution = execution
        self._journal = journal

    async def append(
        self, *drafts: Draft, durable: bool = False, call: str | None = None, tokens: int = 0
    ) -> None:
        """Write events after all text before them. `durable`: with a sync of the disk; `call`: the
        account whose rate counts one more call, of so many tokens. Raises what the journal
        raises."""
        await self.execution.chunk_writer.drained()
        change = self._change(drafts, durable=durable, call=call, tokens=tokens)
        task = (await asyncio.shield(self._journal.append(change)))[0]
        at, first = self._journal.now(), task.seq - len(drafts) + 1
        for seq, draft in enumerate(drafts, first):
            data = event_json(draft.data)
            self.history.take(EventRow(0, task.n, seq, draft.type.value, at, data))

    def output(self, call_id: str) -> "Output":
        """A writer for the output of a call."""
        return Output(self, call_id)

    def write_output(self, call_id: str, text: str) -> "asyncio.Future[list[Task]]":
        """Append output of a call that runs."""
        draft = Draft(EventType.TOOL_OUTPUT, {"id": call_id, "text": text})
        return self._journal.append(self._change([draft]))

    def _change(self, drafts: Any, **facts: Any) -> Change:
        execution = self.execution
        return Change(execution.task.id, list(drafts), epoch=execution.epoch, **facts)


class Output:
    """Writes the output of one call as it comes: one append is under way at most, and what comes
    meanwhile becomes the next event."""

    def __init__(self, records: Records, call_id: str) -> None:
        self._records = records
        self._call_id = call_id
        self._waiting: list[str] = []
        self._append: asyncio.Future[list[Task]] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._error: BaseException | None = None

    def write(self, text: str) -> None:
        """Take a piece of output."""
        if not text:
            return
        self._waiting.append(text)
        if self._append is None and self._error is None:
            self._flush()

    async def drained(self) -> None:
        """Wait until all output is on the disk. Raises what the journal raised."""
        await self._idle.wait()
        if self._error is not None:
            raise self._error

    def _flush(self) -> None:
        text, self._waiting = "".join(self._waiting), []
        self._idle.clear()
        self._append = self._records.write_output(self._call_id, text)
        self._append.add_done_callback(self._appended)

    def _appended(self, append: "asyncio.Future[list[Task]]") -> None:
        self._append = None
        self._error = None if append.cancelled() else append.exception()
        if self._waiting and self._error is None:
            self._flush()
        else:
            self._idle.set()
