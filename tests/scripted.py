"""A client that plays scripts instead of speaking to providers.

Owns what the pretended providers answer and a record of every call. Has the signatures of
`asyncsvc.providers.client.Client`. Times are the running loop's.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self

from asyncsvc.config.settings import Limits, Timeouts
from asyncsvc.execution.call import Call as ProviderCall
from asyncsvc.providers.agents import RunState, RunStatus
from asyncsvc.providers.answers.answer import Answer
from asyncsvc.providers.answers.delta import Delta, Sink
from asyncsvc.providers.answers.embeddings import Embeddings
from asyncsvc.providers.upstream import Upstream
from asyncsvc.tasks.submission import last_user_text


class Mark(Enum):
    """A step that is neither text nor waiting."""

    HEAD = "the provider begins to answer"
    HANG = "nothing more ever comes"


HEAD, HANG = Mark.HEAD, Mark.HANG

Step = str | Delta | float | BaseException | Mark | dict[str, Any]
"""Text, reasoning, seconds of silence, a fault, a mark, or a tool call."""
Script = Sequence[Step]


@dataclass(eq=False)
class Call:
    """One call: what it asked, and when."""

    prompt: str
    name: str
    model_id: str
    params: dict[str, Any]
    started: float
    ended: float | None = None
    cancelled: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    trace: dict[str, str] | None = None


class ScriptedClient:
    """The n-th call with a prompt plays the n-th script given for it, then the last again."""

    def __init__(self, default: Script = ("ok",)) -> None:
        self.default = default
        self.of_model: dict[str, Script] = {}
        """What a model answers to a prompt for which there is no script."""
        self.calls: list[Call] = []
        self.before: Callable[[Call], None] = lambda call: None
        """Called at the beginning of each call."""
        self.fates: list[RunStatus] = []
        self.asked: list[str] = []
        self.aborted: list[str] = []
        """Session keys of agents' runs, in the order in which they were asked for and ended."""
        self.keys: list[str] = []
        """Those under which they were begun."""
        self.usage: dict[str, Any] | None = None
        self.timeouts: Timeouts | None = None
        """Those of the last reload."""
        self.watched = False
        """Whether a script's silence is a provider's silence, and not just time that passes."""
        self._scripts: dict[str, list[Script]] = {}
        self._turns: dict[str, list[Script]] = {}

    def on(self, prompt: str, *scripts: Script) -> None:
        self._scripts[prompt] = list(scripts)

    def on_turns(self, prompt: str, *scripts: Script) -> None:
        """The n-th turn of a conversation with that prompt plays the n-th script, however often it
        is asked for."""
        self._turns[prompt] = list(scripts)

    def of(self, prompt: str) -> list[Call]:
        return [call for call in self.calls if call.prompt == prompt]

    @property
    def prompts(self) -> list[str]:
        """The prompts in the order in which they arrived."""
        return [call.prompt for call in self.calls]

    @property
    def running(self) -> list[str]:
        return [call.prompt for call in self.calls if call.ended is None]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def chat(
        self,
        upstream: Upstream,
        messages: list[dict[str, Any]],
        params: dict[str, Any],
        sink: Sink,
        session_key: str | None = None,
        trace: dict[str, str] | None = None,
    ) -> Answer:
        self.keys += [session_key] if session_key else []
        answer = Answer()
        answer.usage = self.usage
        call = self._arrived(upstream, last_user_text(messages), params)
        call.messages, call.trace = messages, trace
        try:
            await self._play(call, sink, answer)
        except asyncio.CancelledError:
            call.cancelled = True
            raise
        finally:
            call.ended = asyncio.get_running_loop().time()
        sink.head(True)
        answer.done = True
        answer.check(upstream.preset.empty_answers)
        return answer

    def apply(self, timeouts: Timeouts, limits: Limits) -> None:
        self.timeouts = timeouts

    async def run_status(self, upstream: Upstream, key: str) -> RunStatus:
        """What `fates` say, one after the other; the last again. Without any it is lost."""
        self.asked.append(key)
        if not self.fates:
            return RunStatus(RunState.LOST, detail="not there")
        return self.fates[min(len(self.asked), len(self.fates)) - 1]

    async def abort(self, upstream: Upstream, key: str) -> str:
        self.aborted.append(key)
        return "aborted"

    async def embed(
        self,
        upstream: Upstream,
        texts: str | list[str],
        params: dict[str, Any],
        on_head: Callable[[bool], None],
        trace: dict[str, str] | None = None,
    ) -> Embeddings:
        rows = [texts] if isinstance(texts, str) else texts
        call = self._arrived(upstream, rows[0], params)
        try:
            for step in self._script(call):
                await _pass(step)
        finally:
            call.ended = asyncio.get_running_loop().time()
        on_head(True)
        return Embeddings([[float(len(text))] for text in rows], self.usage)

    def _arrived(self, upstream: Upstream, prompt: str, params: dict[str, Any]) -> Call:
        now = asyncio.get_running_loop().time()
        call = Call(prompt, upstream.name, upstream.model_id, params, now)
        self.calls.append(call)
        self.before(call)
        return call

    def _script(self, call: Call) -> Script:
        if (turns := self._turns.get(call.prompt)) is not None:
            before = [one for one in call.messages if one["role"] == "assistant"]
            return turns[len(before)]
        scripts = self._scripts.get(call.prompt)
        if scripts is None:
            return self.of_model.get(call.name, self.default)
        return scripts[min(len(self.of(call.prompt)), len(scripts)) - 1]

    async def _play(self, call: Call, sink: Sink, answer: Answer) -> None:
        for step in self._script(call):
            if not self.watched and isinstance(sink, ProviderCall):
                sink.heard_at = None
            if step is HEAD:
                sink.head(True)
            elif isinstance(step, str | Delta):
                delta = Delta(step) if isinstance(step, str) else step
                sink.head(True)
                answer.text(delta.text) if delta.text and not delta.reasoning else None
                sink.write(delta)
                if sink.full:
                    await sink.drained()
            elif isinstance(step, dict):
                for delta in answer.take({"choices": [{"delta": {"tool_calls": [step]}}]}, ()):
                    sink.write(delta)
            else:
                await _pass(step)


async def _pass(step: Step) -> None:
    """A step that says nothing."""
    if isinstance(step, BaseException):
        raise step
    if step is HANG:
        await asyncio.get_running_loop().create_future()
    elif isinstance(step, int | float):
        await asyncio.sleep(step)
