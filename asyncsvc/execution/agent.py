"""The loop of an agent: ask the model, run the tools that it calls, until it calls none.

Owns the steps of one execution. The events of the task say how far the agent has come, so each
execution goes on where the one before ended: a step that has ended is never asked for again. The
account's permit is given back while tools run, and the next call goes before waiting tasks.
"""

import sys
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import orjson

from asyncsvc.agents.conversation import STOPPED, WARNING, Repeats, Verdict, fitted
from asyncsvc.agents.history import GENERATIONS, Step, arguments_of, history
from asyncsvc.agents.textual import TextualSink, described
from asyncsvc.config.settings import Settings
from asyncsvc.errors import ContextTooLong, FieldRefused, InternalError, MaxSteps, NotFound
from asyncsvc.execution.call import Call
from asyncsvc.execution.outcome import Completed, Outcome, Waiting
from asyncsvc.execution.records import Records
from asyncsvc.execution.request import count_request, without_refused_fields
from asyncsvc.execution.tool_runner import ARGUMENTS_MOST, ToolRunner, disk_faults
from asyncsvc.journal.journal import Journal
from asyncsvc.providers.answers.answer import MESSAGE, Answer
from asyncsvc.providers.answers.delta import Delta, SinkBefore
from asyncsvc.providers.answers.tool_calls import put_together
from asyncsvc.providers.client import Client
from asyncsvc.providers.tokens import (
    ANSWER,
    MARGIN,
    completed_usage,
    of_prompt,
    room_of_answer,
    total,
)
from asyncsvc.providers.tools import function_name
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.tasks.state import Draft, EventType
from asyncsvc.tools.registry import Toolbox
from asyncsvc.tools.task_workspaces import CheckpointDamaged, TaskWorkspaces
from asyncsvc.tools.tool import Tool

STEPS = 25
"""The most calls of the model where the task does not say."""
SMALLER = 0.6
"""Of a conversation that a model finds too long, what is tried next."""
TRIES = 3
"""How often a step is tried with a shorter conversation."""
KNOWN = frozenset({"id", "type", "index", "function"})
"""The fields of a call that its event holds in another form."""


class Agents:
    """`run` an execution of an agent; `client` asks the models."""

    def __init__(
        self,
        journal: Journal,
        client: Client,
        scheduler: Scheduler,
        toolbox: Toolbox,
        workspaces: TaskWorkspaces,
        settings: Settings,
    ) -> None:
        self._journal = journal
        self._client = client
        self._scheduler = scheduler
        self._toolbox = toolbox
        self._workspaces = workspaces
        self._settings = settings

    async def run(self, call: Call, body: dict[str, Any]) -> Outcome:
        """Go on with the agent whose start is written; how the execution ends. Raises
        ProviderError, and what the journal raises."""
        call.asking, call.heard_at = False, None
        task, settings = call.leader, self._settings.tools
        found = await history(self._journal, task)
        call.spent = found.usage
        await self._open_workspace(task.id, found.generation, body)
        tools = await self._tools(body.get("tools"))
        records = Records(self._journal, call.executions[task.id], found)
        runner = ToolRunner(
            records,
            self._toolbox,
            self._workspaces,
            allowed=[tool.name for tool in tools],
            approve={*settings.approve, *(body.get("approve") or ())},
            max_output_bytes=settings.max_output_bytes,
        )
        model = Model(self._journal, self._client, self._scheduler, call, records, body, tools)
        return await Loop(call, records, model, runner, body).run()

    async def _open_workspace(self, task_id: str, generation: int, body: dict[str, Any]) -> None:
        """Have the workspace of the generation alone, as the ones before have left it or as the
        task begins. Raises InternalError where the workspace of a fork is lost."""
        checkpoint = (body.get("forked_from") or {}).get("checkpoint")
        with disk_faults("made"):
            if checkpoint is not None and generation and not generation % GENERATIONS:
                try:  # a retry by hand: the files were copied from another task
                    await self._workspaces.restore(task_id, generation - 1, checkpoint)
                except CheckpointDamaged as damage:
                    raise InternalError(f"the workspace of the fork is lost: {damage}") from None
            await self._workspaces.begin(task_id, generation, body.get("files") or {})
            await self._workspaces.settle(task_id, generation)

    async def _tools(self, names: Collection[str] | None) -> list[Tool[Any]]:
        """The agent's tools; those that are gone are left out."""
        if names is None:
            return self._toolbox.tools
        found = []
        for name in dict.fromkeys(names):
            try:
                found.append(await self._toolbox.find(name))
            except NotFound:
                continue
        return found


class Loop:
    """`run` the steps that are left."""

    def __init__(
        self, call: Call, records: Records, model: "Model", runner: ToolRunner, body: dict[str, Any]
    ) -> None:
        self._call = call
        self._history = records.history
        self._execution = records.execution
        self._model = model
        self._runner = runner
        self._max_steps = body.get("max_steps") or STEPS
        self._token_budget = body.get("token_budget")

    async def run(self) -> Completed | Waiting:
        """Raises MaxSteps where the agent may go no further, and what the parts raise."""
        if ended := self._history.ended:
            self._execution.chunk_writer.step(ended[-1].number, ended[-1].parts)
        while True:
            ended = self._history.ended
            last = ended[-1] if ended else None
            if last is not None and not last.calls:
                return self._completed(last)
            if last is not None and not last.complete:
                self._call.permit.release()
                waiting = await self._runner.run(last.calls)
                if waiting is not None:
                    return waiting
            self._check_budgets(ended)
            await self._model.ask(len(ended) + 1)
            self._execution.forgive()

    def _check_budgets(self, ended: Sequence[Step]) -> None:
        if len(ended) >= self._max_steps:
            raise MaxSteps(
                f"the agent has asked its model {len(ended)} times without coming to an end; "
                "max_steps allows no more"
            )
        spent = total(self._history.usage, 0)
        if self._token_budget is not None and spent >= self._token_budget:
            raise MaxSteps(
                f"the agent has used {spent:,} tokens of its token_budget of "
                f"{self._token_budget:,} without coming to an end"
            )

    def _completed(self, last: Step) -> Completed:
        usage = self._history.usage
        return Completed(last.text, usage, False, last.finish_reason, last.finish_reason_raw)


class Model:
    """`ask` the model of an agent for one step."""

    def __init__(
        self,
        journal: Journal,
        client: Client,
        scheduler: Scheduler,
        call: Call,
        records: Records,
        body: dict[str, Any],
        tools: Sequence[Tool[Any]],
    ) -> None:
        self._journal = journal
        self._client = client
        self._scheduler = scheduler
        self._call = call
        self._records = records
        self._body = body
        self._names = Names([tool.name for tool in tools])
        self._functions = [
            {
                "type": "function",
                "function": tool.function() | {"name": self._names.sent(tool.name)},
            }
            for tool in tools
        ]

    async def ask(self, number: int) -> None:
        """Ask for the step of that number: afterwards its message and calls are on the disk, and
        the permit is given back. Raises ProviderError."""
        call = self._call
        textual = call.upstream.textual
        params = dict(self._body["params"])
        if self._functions and not textual:
            params["tools"] = self._functions
        # In the text the tools take about as much as in the parameter.
        counted = params | ({"tools": self._functions} if self._functions else {})
        fit = partial(fitted, *self._conversation(), count=partial(of_prompt, params=counted))
        messages, tries = fit(self._room(params)), 1
        while True:
            sent = described(messages, self._functions) if textual else messages
            size = of_prompt(sent, params)
            if tries == 1:
                await self._begin(number, size + ANSWER)
            else:
                await count_request(call, self._journal)
            sink = AgentSink(call)
            try:
                answer = await self._answer(sent, params, sink, textual)
                break
            except ContextTooLong:
                shorter = fit(int(size * SMALLER))
                if tries == TRIES or shorter == messages:
                    raise
                messages, tries = shorter, tries + 1
        await self._end(number, answer, sink, sent)

    def _conversation(self) -> tuple[list[dict[str, Any]], int]:
        """The conversation so far, and how many messages of it are the task's own. Raises MaxSteps
        where the agent repeats itself although it was warned."""
        given, after, repeats = self._body, list[dict[str, Any]](), Repeats()
        own = given.get("messages") or [{"role": "user", "content": given["content"]}]
        begun = len(own)
        if "forked_from" in given:  # the rest of them is another agent's history
            own = [self._names.renamed(message) for message in own]
            begun = next((n for n, one in enumerate(own) if one["role"] == "assistant"), begun)
        for step in self._records.history.ended:
            after += map(self._names.renamed, step.messages())
            repeats.add(step.calls)
            if repeats.verdict is Verdict.WARN:
                after[-1] |= {"content": f"{after[-1]['content']}\n\n{WARNING}"}
        if repeats.verdict is Verdict.STOP:
            raise MaxSteps(STOPPED)
        return [*own, *after], begun

    def _room(self, params: dict[str, Any]) -> int:
        """Tokens that the conversation may have; any number where the model's context is not known,
        until the provider finds one too long."""
        context = self._call.upstream.settings.context
        room = context - max(room_of_answer(params), ANSWER)
        return max(int(room / MARGIN), 1) if context else sys.maxsize

    async def _begin(self, number: int, tokens: int) -> None:
        """Wait for the account, and write down the step and that its call counts."""
        call, records = self._call, self._records
        if call.permit.released:
            call.permit = await self._scheduler.next_call(call.leader, call.upstream, tokens)
        call.permit.confirm()
        await records.execution.chunk_writer.begin_step(number)
        call.received.clear()
        call.expect_anew()
        gate = call.upstream.gate.name if call.upstream.settings.counted else None
        step = Draft(EventType.STEP, {"number": number})
        await records.append(step, call=gate, tokens=tokens)
        call.permit.confirm()
        call.permit.sent()
        call.started, call.waited_s, call.asking = call.upstream.gate.time(), 0.0, True
        call.alive()

    async def _answer(
        self,
        messages: list[dict[str, Any]],
        params: dict[str, Any],
        sink: "AgentSink",
        textual: bool,
    ) -> Answer:
        call = self._call
        into = TextualSink(sink, self._functions) if textual and self._functions else None
        ask = partial(
            self._client.chat, call.upstream, messages, params, into or sink, None, call.trace
        )
        try:
            answer = await ask()
        except FieldRefused as refusal:
            answer = await without_refused_fields(call, self._journal, ask, refusal.fields)
        if into is not None:
            into.finish()
        return answer

    async def _end(
        self, number: int, answer: Answer, sink: "AgentSink", messages: list[dict[str, Any]]
    ) -> None:
        """Give the permit back, then write down what the model has answered and asked for."""
        call, written = self._call, "".join(delta.written for delta in self._call.received)
        asked = orjson.dumps([one.get("content") for one in messages]).decode()
        usage = completed_usage(answer.usage, asked, written + sink.arguments)
        call.report(Completed(call.text, usage))
        call.asking, call.heard_at = False, None
        call.permit.release()
        raw = answer.ending.word if answer.ending else None
        ended = {
            "step": number,
            "usage": usage,
            "finish_reason": answer.finish_reason,
            "finish_reason_raw": raw,
        }
        step = self._records.history.steps[-1]
        step.parts = call.received.texts(reasoning=False)
        step.thoughts = call.received.texts(reasoning=True)
        drafts = [Draft(EventType.MESSAGE, sink.fields | ended)]
        drafts += self._calls(number, sink)
        await self._records.append(*drafts, durable=True)
        call.spent = self._records.history.usage

    def _calls(self, number: int, sink: "AgentSink") -> list[Draft]:
        """The events of the calls that the model asks for, each with an id of its own."""
        drafts, taken = [], set[str]()
        for place, asked in enumerate(put_together(sink.pieces), 1):
            function = asked["function"]
            text = function.get("arguments") or ""
            call_id = self._records.history.new_id(asked["id"], number, place)
            if call_id in taken:
                call_id = f"{call_id}_{number}_{place}"
            taken.add(call_id)
            data = {
                "id": call_id,
                "name": self._names.own(str(function.get("name") or "")),
                "arguments": (
                    arguments_of(text)
                    if len(text) <= ARGUMENTS_MOST
                    else text[: ARGUMENTS_MOST + 1]
                ),
                "step": number,
            }
            extra = {name: value for name, value in asked.items() if name not in KNOWN}
            more = {k: v for k, v in function.items() if k not in ("name", "arguments")}
            if more:
                extra["function"] = more
            drafts.append(Draft(EventType.TOOL_CALL, data | ({"extra": extra} if extra else {})))
        return drafts


class AgentSink(SinkBefore):
    """The sink of one step: text and thinking go on to the call, calls of tools and further fields
    are kept until the step has ended."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.pieces: list[dict[str, Any]] = []
        self.fields: dict[str, Any] = {}
        """Of the model's message, for the next turn."""

    @property
    def arguments(self) -> str:
        """All arguments as the model has written them."""
        return "".join(piece["function"].get("arguments", "") for piece in self.pieces)

    def write(self, delta: Delta) -> None:
        if delta.call is not None:
            self.pieces.append(delta.call)
        elif delta.event is not None and delta.event[0] == MESSAGE:
            self.fields |= delta.event[1]
        else:
            self._sink.write(delta)


class Names:
    """The names of tools as providers take them: letters, digits, _ and -. A tool of an MCP server,
    `time.now`, is sent as `time__now`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._sent = {name: _wire_name(name) for name in names}
        self._own = {sent: name for name, sent in self._sent.items()}

    def sent(self, name: str) -> str:
        """The name for the provider."""
        return self._sent.get(name) or _wire_name(name)

    def own(self, name: str) -> str:
        """The tool's own name."""
        return self._own.get(name, name)

    def renamed(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message of the history with the names for the provider."""
        calls = message.get("tool_calls")
        if not isinstance(calls, list):
            return message
        return message | {"tool_calls": [self._renamed(call) for call in calls]}

    def _renamed(self, call: Any) -> Any:
        """A call with the name for the provider; what a client has sent as a call and is none
        stays as it is."""
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(name := function.get("name"), str):
            return call
        return call | {"function": function | {"name": self.sent(name)}}


def _wire_name(name: str) -> str:
    server, dot, rest = name.partition(".")
    return function_name(rest, server) if dot else name
