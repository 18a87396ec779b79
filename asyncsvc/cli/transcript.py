"""One task's event stream: `TaskView` gathers events, `Transcript` prints them as text.

Stdout holds nothing but the answer; all else goes to stderr. A new attempt voids the text before
it and starts on a new line. The note of waiting shows on terminals only. Of an agent the text of
its last step is the answer: what it says before it calls tools goes to stdout at a terminal only.
"""

from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from asyncsvc.cli.agent_lines import AgentLines, call_text, how_to_decide, wait_text
from asyncsvc.cli.answer_writer import writer_for
from asyncsvc.cli.client import Api
from asyncsvc.cli.failures import FAILED, INTERRUPTED, Failure
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
    step: int | None = None
    """Of an agent."""
    doing: str | None = None
    """The tool that runs, in a few words."""
    asked: dict[str, Any] | None = None
    """The call of a tool that waits for a person; see `waits`."""
    _calls: dict[str, str] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        """Whether the task goes on only when a person has decided about `asked`."""
        return self.asked is not None and self.status == "paused"

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
            case kind:
                self._of_agent(kind, data)

    def _of_agent(self, kind: str, data: dict[str, Any]) -> None:
        match kind:
            case "step":
                self.step, self.text, self.thoughts = data["number"], "", ""
            case "tool_call" if self.step is not None:
                name = call_text(data["name"], data.get("arguments"), most=60)
                self._calls[data["id"]] = name
            case "tool_started":
                self.doing = self._calls.get(data["id"])
            case "tool_result":
                self.doing = None
            case "approval":
                self.asked = None if "decision" in data else data

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
            self.rate = self.doing = None
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
    """A task's events as text; `exit_code` counts after the last. `out` None: no answer.

    `asks`: the reader is asked for decisions, and needs no hint how to make them. `names_model`:
    say which model answers, and why. `markdown`: render the answer at a terminal.
    """

    def __init__(
        self,
        out: TextIO | None,
        err: TextIO,
        *,
        asks: bool = False,
        names_model: bool = False,
        markdown: bool = False,
    ) -> None:
        self.view = TaskView()
        self.seq = 0
        """Number of the latest event."""
        self.named: tuple[str, str] = "", ""
        """The model that was named last, and why it answers."""
        self._out = out
        self._err = err
        self._writer = None if out is None else writer_for(out, markdown=markdown)
        self._asks = asks
        self._names_model = names_model
        self._noting = styled(err)
        self._noted = False
        self._written = False
        self._agent: AgentLines | None = None
        self._held: list[str] | None = None
        """The text of an agent's step, while it is not known whether it is the last."""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.view.status, FAILED)

    def take(self, event: dict[str, Any]) -> None:
        """Write the text that the event adds."""
        kind, data = event["type"], event["data"]
        self.seq = event.get("seq") or self.seq
        if kind in ("attempt", "step") and self._written:
            what = f"{kind} {data['number']}"
            self.say(f"{what}: the text so far is void, starting over")
            self._written = False
        self.view.take(event)
        match kind:
            case "chunk":
                self._write(data["text"])
            case "attempt" if self._names_model:
                self._name_model(data)
            case "retry":
                why = data.get("why") or {}
                delay = data.get("delay_s")
                when = f"in {delay:.1f} s" if delay else "as soon as the model allows"
                self.say(f"trying again {when}: {why.get('code')}: {why.get('message')}")
            case "status" if self.view.waits:
                self._wait_for_decision()
            case "status" if self.view.status == "paused":
                self.say("paused; it goes on after `resume`")
            case "status" if self.view.ended:
                self._end()
            case "step":
                self._begin_step(data)
            case _ if self._agent is not None:
                self._take_of_agent(self._agent, kind, data)
            case _:
                self._note()

    def _name_model(self, data: dict[str, Any]) -> None:
        """Say which model answers, where that is not the one of the answer before."""
        shown = self.view.name or "", str(data.get("why") or "")
        if shown != self.named:
            self.named = shown
            model = f" ({self.view.model})" if self.view.model else ""
            self._line(f"{shown[0]}{model}{': ' if shown[1] else ''}{shown[1]}", True)

    def _begin_step(self, data: dict[str, Any]) -> None:
        if self._agent is None:
            self._agent = AgentLines(self._line)
        self._held = None if self._out is None or self._out.isatty() else []
        self._agent.take("step", data)
        self._note()

    def _take_of_agent(self, agent: AgentLines, kind: str, data: dict[str, Any]) -> None:
        if kind == "message":
            self._written = False  # the step is whole: nothing voids it any more
        elif kind == "tool_call" and self._held:
            # It was not the answer, so stdout does not get it.
            for line in "".join(self._held).splitlines():
                self._line(line, False)
            self._held = []
        agent.take(kind, data)
        self._note()

    def _line(self, line: str, dim: bool) -> None:
        """Write a line about the answer to stderr; what only accompanies it is indented."""
        self._fresh_line()
        if not dim:
            say(line, self._err)
            return
        if self._noting:
            control(self._err, DIM)
        say(f"  {line}", self._err)
        if self._noting:
            control(self._err, NORMAL)

    def _wait_for_decision(self) -> None:
        asked = self.view.asked or {}
        self.say(wait_text(asked))
        for line in str(asked.get("diff") or "").splitlines():
            self._line(line, True)
        if not self._asks:
            self.say(how_to_decide(asked, self.view.task_id))

    def say(self, line: str) -> None:
        """Write a line for people to stderr; unfinished text is ended first."""
        self._fresh_line()
        say(f"[{line}]", self._err)

    def _end(self) -> None:
        view = self.view
        held, self._held = self._held, None
        self._write("".join(held or ()))
        if view.error:
            self.say(f"{view.status}: {view.error['code']}: {view.error['message']}")
        elif view.status != "completed":
            self.say(view.status)
        else:
            self._fresh_line()

    def _write(self, text: str) -> None:
        if self._writer is None or not text:
            return
        if self._held is not None:
            self._held.append(text)
            return
        self._erase()
        self._writer.write(text)
        self._written = True

    def _fresh_line(self) -> None:
        self._erase()
        if self._writer is not None:
            self._writer.end_line()

    def _note(self) -> None:
        if not self._noting or (self._writer is not None and self._writer.mid_line):
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
        step = f"step {view.step}, " if view.step else ""
        if view.doing:
            return f"{step}{view.doing} …"
        return f"{step}{'thinking' if view.thoughts else 'running'}{where}{done} …"
    if view.waits and view.asked:
        return wait_text(view.asked)
    place = f", position {view.position}" if view.position else ""
    eta = f", about {view.eta_s:.0f} s" if view.eta_s else ""
    reason = f" ({view.reason})" if view.reason else ""
    return f"{view.status}{place}{eta}{reason} …"


async def stream(api: Api, task_id: str, transcript: Transcript, *, until_asked: bool) -> None:
    """Write one task's events into the transcript, from the latest that it has, across restarts of
    the service; to the last one, or until a person is to decide."""

    def lost(why: str) -> None:
        if not breaks:
            transcript.say(f"connection lost ({why}); looking for the service again")
            breaks.append(why)

    from asyncsvc.cli.following import follow  # imported while the task is under way already

    breaks: list[str] = []
    transcript.view.task_id = task_id
    async with aclosing(follow(api.address, task_id, transcript.seq, lost)) as events:
        async for event in events:
            breaks.clear()
            transcript.take(event)
            if until_asked and transcript.view.waits:
                return


def stream_or_cancel(
    api: Api, task_id: str, transcript: Transcript, *, until_asked: bool = False
) -> bool:
    """Stream a task until it ends, or until a person is to decide; True where Ctrl-C has cancelled
    it."""
    import asyncio

    try:
        asyncio.run(stream(api, task_id, transcript, until_asked=until_asked))
    except KeyboardInterrupt:
        cancel(api, task_id, transcript)
        return True
    return False


def cancel(api: Api, task_id: str, transcript: Transcript) -> None:
    """Cancel a task, as Ctrl-C asks for."""
    with suppress(Failure):  # it ended at this very moment
        api.command(task_id, "cancel")
    transcript.say("cancelled")
