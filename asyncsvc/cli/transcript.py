"""One task's event stream: `TaskView` gathers events, `Transcript` prints them as text.

Stdout holds nothing but the answer; all else goes to stderr. A new attempt voids the text before
it and starts on a new line. The note of waiting shows on terminals only.
"""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from asyncsvc.cli.client import Api, follow
from asyncsvc.cli.options import FAILED, INTERRUPTED, Failure
from asyncsvc.cli.terminal import control, one_line, say, styled

KEPT_CHARS = 20_000
"""Text kept of one task; a screen shows the end of it."""
ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass
class TaskView:
    """State of a task by its event stream; `rate` is in tokens a second, `latency` in seconds."""

    task_id: str = ""
    status: str = "pending"
    name: str | None = None
    model: str | None = None
    text: str = ""
    thoughts: str = ""
    tokens: int | None = None
    rate: float | None = None
    position: int | None = None
    eta_s: float | None = None
    reason: str | None = None
    latency: float | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def take(self, event: dict[str, Any]) -> None:
        """Apply one event."""
        data = event["data"]
        match event["type"]:
            case "chunk":
                self.text = (self.text + data["text"])[-KEPT_CHARS:]
            case "reasoning":
                self.thoughts = (self.thoughts + data["text"])[-KEPT_CHARS:]
            case "attempt":
                self.name, self.model = data.get("name"), data.get("model")
                self.text = self.thoughts = ""
                self.tokens = self.rate = None
            case "progress" if not self.ended:
                self._progress(data)
            case "status":
                self._status(data)

    def _progress(self, data: dict[str, Any]) -> None:
        self.tokens = data.get("tokens", self.tokens)
        self.rate = data.get("tokens_per_s", self.rate)
        self.position, self.eta_s = data.get("position"), data.get("eta_s")
        self.reason = data.get("reason")

    def _status(self, data: dict[str, Any]) -> None:
        self.status = data["status"]
        self.error = data.get("error")
        self.position = self.eta_s = self.reason = None
        self.name = data.get("name") or self.name
        self.model = data.get("model") or self.model
        if self.status != "running":
            self.rate = None
        if self.ended:
            self.latency = data.get("latency")
            self.usage = data.get("usage") or {}
            self.tokens = self.usage.get("completion_tokens", self.tokens)

    @property
    def mean_rate(self) -> float | None:
        """Tokens a second over the whole attempt, once it is over."""
        tokens = self.usage.get("completion_tokens")
        return tokens / self.latency if tokens and self.latency else None


EXIT_CODES = {"completed": 0, "failed": FAILED, "cancelled": INTERRUPTED}
ERASE, DIM, NORMAL = "\r\x1b[K", "\x1b[2m", "\x1b[0m"


class Transcript:
    """A task's events as text; `exit_code` counts after the last. `out` None: no answer."""

    def __init__(self, out: TextIO | None, err: TextIO) -> None:
        self.view = TaskView()
        self._out = out
        self._err = err
        self._noting = styled(err)
        self._noted = False
        self._written = False
        self._mid_line = False

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.view.status, FAILED)

    def take(self, event: dict[str, Any]) -> None:
        """Write the text that the event adds."""
        kind, data = event["type"], event["data"]
        if kind == "attempt" and self._written:
            self.say(f"attempt {data['number']}: the text so far is void, starting over")
            self._written = False
        self.view.take(event)
        match kind:
            case "chunk":
                self._write(data["text"])
            case "retry":
                why = data.get("why") or {}
                delay = data.get("delay_s")
                when = f"in {delay:.1f} s" if delay else "as soon as the model allows"
                self.say(f"trying again {when}: {why.get('code')}: {why.get('message')}")
            case "status" if self.view.status == "paused":
                self.say("paused; it goes on after `resume`")
            case "status" if self.view.ended:
                self._end()
            case _:
                self._note()

    def say(self, line: str) -> None:
        """Write a line for people to stderr; unfinished text is ended first."""
        self._fresh_line()
        say(f"[{line}]", self._err)

    def _end(self) -> None:
        view = self.view
        if view.error:
            self.say(f"{view.status}: {view.error['code']}: {view.error['message']}")
        elif view.status != "completed":
            self.say(view.status)
        else:
            self._fresh_line()

    def _write(self, text: str) -> None:
        if self._out is None or not text:
            return
        self._erase()
        self._out.write(text)
        self._out.flush()
        self._written, self._mid_line = True, not text.endswith("\n")

    def _fresh_line(self) -> None:
        self._erase()
        if self._mid_line and self._out is not None:
            self._out.write("\n")
            self._out.flush()
            self._mid_line = False

    def _note(self) -> None:
        if not self._noting or self._mid_line:
            return
        self._erase()
        control(self._err, DIM)
        self._err.write(one_line(waiting(self.view)))
        control(self._err, NORMAL)
        self._noted = True

    def _erase(self) -> None:
        if self._noted:
            control(self._err, ERASE)
            self._noted = False


def waiting(view: TaskView) -> str:
    """Return what a task is waiting for, in a few words."""
    if view.status == "running":
        done = f", {view.tokens} tokens" if view.tokens else ""
        where = f" on {view.name}" if view.name else ""  # known from the event after the start
        return f"{'thinking' if view.thoughts else 'running'}{where}{done} …"
    place = f", position {view.position}" if view.position else ""
    eta = f", about {view.eta_s:.0f} s" if view.eta_s else ""
    reason = f" ({view.reason})" if view.reason else ""
    return f"{view.status}{place}{eta}{reason} …"


async def stream(api: Api, task_id: str, transcript: Transcript) -> None:
    """Write one task's events into the transcript, across restarts of the service."""

    def lost(why: str) -> None:
        if not breaks:
            transcript.say(f"connection lost ({why}); looking for the service again")
            breaks.append(why)

    breaks: list[str] = []
    async with aclosing(follow(api.address, task_id, lost=lost)) as events:
        async for event in events:
            breaks.clear()
            transcript.take(event)


def stream_or_cancel(api: Api, task_id: str, transcript: Transcript) -> bool:
    """Stream a task until it ends; True where Ctrl-C has cancelled it."""
    try:
        asyncio.run(stream(api, task_id, transcript))
    except KeyboardInterrupt:
        with suppress(Failure):  # it ended at this very moment
            api.command(task_id, "cancel")
        transcript.say("cancelled")
        return True
    return False
