"""Agents: steps of model and tools, each paid once, each effect once."""

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import Field

from asyncsvc.agents.conversation import WARNING
from asyncsvc.agents.history import CallState, history
from asyncsvc.errors import (
    ContextTooLong,
    SandboxUnavailable,
    UpstreamOverloaded,
)
from asyncsvc.journal.journal import Change
from asyncsvc.providers.answers.delta import Delta
from asyncsvc.providers.tokens import ANSWER, of_prompt
from asyncsvc.tasks.state import Cause, Draft, EventType, State, status
from asyncsvc.tools.files import FILE_TOOLS
from asyncsvc.tools.registry import Toolbox
from asyncsvc.tools.tool import Effects, Parameters, Result, Surroundings, Tool
from tests.engine_services import EngineServices, model
from tests.scripted import HANG, Script
from tests.virtual_time import loop, virtual

ASK = "mend it"


def call(name: str, call_id: str | None = None, index: int = 0, **arguments: Any) -> dict[str, Any]:
    """A call of a tool, as a provider streams it."""
    text = orjson.dumps(arguments).decode()
    return {
        "index": index,
        "id": call_id or f"id-{name}-{index}",
        "type": "function",
        "function": {"name": name, "arguments": text},
    }


def write(path: str, content: str, call_id: str = "w", index: int = 0) -> dict[str, Any]:
    return call("write_file", call_id, index, path=path, content=content)


class Note(Parameters):
    text: str = ""
    seconds: float = Field(0.0, ge=0)


class Noting(Tool[Note]):
    """A tool that notes when it begins and ends, takes its time, and adds a line to a file."""

    parameters = Note
    description = "Notes."
    log: list[str]

    async def run(self, given: Note, around: Surroundings) -> Result:
        self.log.append(f"{self.name} {given.text}".strip())
        around.emit(f"{given.text} begins\n")
        await asyncio.sleep(given.seconds)
        if self.effects is Effects.WORKSPACE:
            before = around.workspace.read("log", 10_000) if _has(around, "log") else b""
            around.workspace.write("log", before + given.text.encode() + b"\n")
        self.log.append("end")
        return Result(True, f"{given.text} done")


def _has(around: Surroundings, name: str) -> bool:
    return any(item.path == name for item in around.workspace.items("."))


def noting(name: str, effects: Effects, log: list[str]) -> Callable[[], Tool[Note]]:
    kind = type(name, (Noting,), {"name": name, "effects": effects, "log": log})
    return kind


class Broken(Tool[Note]):
    name = "broken"
    description = "Raises."
    effects = Effects.NONE
    parameters = Note

    async def run(self, given: Note, around: Surroundings) -> Result:
        if given.text == "sandbox":
            raise SandboxUnavailable("there is none here")
        raise KeyError("an engineer's slip")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the tools `look`, `change` and `send` have done, beside the tools of files."""
    log: list[str] = []
    more = [
        noting("look", Effects.NONE, log),
        noting("change", Effects.WORKSPACE, log),
        noting("send", Effects.OUTSIDE, log),
        Broken,
    ]
    monkeypatch.setattr("asyncsvc.app.FILE_TOOLS", [*FILE_TOOLS, *more])
    return log


def steps(services: EngineServices, *scripts: Script) -> None:
    services.client.on(ASK, *scripts)


async def agent(services: EngineServices, **fields: Any) -> str:
    return await services.submit_fields(type="agent", content=ASK, **fields)


async def decided(
    services: EngineServices, task_id: str, call_id: str, decision: str, reason: str | None = None
) -> None:
    """A person decides about the call that waits."""
    data = {"id": call_id, "decision": decision, "reason": reason}
    drafts = [Draft(EventType.APPROVAL, data), status(Cause.RESUMED, State.PAUSED, error=None)]
    journal = services.services.journal
    (task,) = await journal.append(Change(task_id, drafts, source=State.PAUSED))
    services.services.scheduler.enqueue(task)


async def begun(services: EngineServices, task_id: str, text: str = "begins") -> None:
    """Wait until a tool has written that."""
    async for page in services.services.journal.follow(task_id):
        if any(one.type == EventType.TOOL_OUTPUT and text in one.text for one in page):
            return


async def until(
    services: EngineServices, task_id: str, state: State = State.PAUSED, times: int = 1
) -> None:
    """Wait until the task has been in that state so many times."""
    async for page in services.services.journal.follow(task_id):
        found = [one for one in page if one.type == EventType.STATUS]
        times -= sum(one.data["status"] == state for one in found)
        if times <= 0:
            return


async def file(services: EngineServices, task_id: str, path: str) -> str:
    parts = services.services
    found = await history(parts.journal, await services.task(task_id))
    async with parts.workspaces.use(task_id, found.generation) as workspace:
        return str(workspace.read(path, 100_000).decode())


async def results(services: EngineServices, task_id: str) -> list[str]:
    found = await history(services.services.journal, await services.task(task_id))
    return [str((one.result or {}).get("output")) for one in found.calls]


def given(services: EngineServices, number: int) -> list[Any]:
    """The contents of the messages of the n-th call of the model."""
    return [message.get("content") for message in services.client.calls[number].messages]


# Steps -------------------------------------------------------------------------------------------


@virtual
async def test_an_answer_without_a_call_ends_the_agent(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, ["all well"])
        task_id = await agent(services)
        task = await services.finished(task_id)
        assert (task.state, await services.result(task_id)) == (State.COMPLETED, "all well")
        assert await services.kinds(task_id) == [
            "submitted", "started", "attempt", "step", "chunk", "message", "completed",
        ]  # fmt: skip
        assert (task.steps, task.tool_calls, task.finish_reason) == (1, 0, "stop")


@virtual
async def test_a_tools_result_is_given_to_the_model(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, ["I write. ", write("a.txt", "hello")], ["done"])
        task_id = await agent(services)
        task = await services.finished(task_id)
        assert (await services.result(task_id), await services.streamed(task_id)) == (
            "done",
            "done",
        )
        assert await file(services, task_id, "a.txt") == "hello"
        assert await services.kinds(task_id) == [
            "submitted", "started", "attempt", "step", "chunk", "message", "tool_call",
            "tool_started", "tool_result", "step", "chunk", "message", "completed",
        ]  # fmt: skip
        second = services.client.calls[1].messages
        assert [one["role"] for one in second] == ["user", "assistant", "tool"]
        assert second[1]["content"] == "I write. "
        assert second[1]["tool_calls"][0]["function"]["name"] == "write_file"
        assert second[2]["tool_call_id"] == second[1]["tool_calls"][0]["id"]
        assert (task.steps, task.tool_calls) == (2, 1)


@virtual
async def test_usage_is_that_of_all_steps(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        steps(services, [write("a", "x")], ["done"])
        task = await services.finished(await agent(services))
        assert task.usage is not None
        assert task.usage["total_tokens"] == 20


@virtual
async def test_text_events_name_their_step(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, ["one", write("a", "x")], [Delta("hm", True), "two"])
        task_id = await agent(services)
        await services.finished(task_id)
        texts = [
            (kind, data["text"], data["step"])
            for kind, data in await services.events(task_id)
            if kind in ("chunk", "reasoning")
        ]
        assert texts == [("chunk", "one", 1), ("reasoning", "hm", 2), ("chunk", "two", 2)]


@virtual
async def test_a_workspace_begins_with_the_files_of_the_task(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, [call("read_file", path="src/a.py")], ["done"])
        task_id = await agent(services, files={"src/a.py": "print(1)\n"})
        await services.finished(task_id)
        assert (await results(services, task_id)) == ["print(1)\n"]


WRONG: list[tuple[dict[str, Any], str]] = [
    (call("rm_rf", path="/"), "there is no tool 'rm_rf'"),
    (call("exec_command", argv=["ls"]), "there is no tool 'exec_command'"),
    (call("write_file", path="a"), "content: field required"),
    (call("write_file", path="a", content="x", mode=7), "mode:"),
    (call("write_file", path="../a", content="x"), "leads out of the workspace"),
    (call("read_file", path="none"), "none"),
    ({"index": 0, "function": {"name": "write_file", "arguments": '{"path": '}}, "no JSON object"),
    ({"index": 0, "function": {"name": "write_file", "arguments": "[1]"}}, "no JSON object"),
    (call("write_file", path="a", content="x" * 100_001), "longer than 100,000 characters"),
    (call("broken"), "a fault of ours: KeyError"),
    (call("broken", text="sandbox"), "there is none here"),
]


@pytest.mark.parametrize(("asked", "words"), WRONG, ids=[words for _, words in WRONG])
@virtual
async def test_a_wrong_call_is_a_text_for_the_model(
    tmp_path: Path, ran: list[str], asked: dict[str, Any], words: str
) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, [asked], ["I see"])
        task_id = await agent(services, tools=["read_file", "write_file", "broken"])
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert words in given(services, 1)[-1]
        data = next(d for kind, d in await services.events(task_id) if kind == "tool_result")
        assert (data["ok"], data["exit_code"]) == (False, 1)


@virtual
async def test_an_agent_has_the_tools_that_the_task_names(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, ["done"])
        await services.finished(await agent(services, tools=["read_file"]))
        sent = services.client.calls[0].params["tools"]
        assert [tool["function"]["name"] for tool in sent] == ["read_file"]
        await services.finished(await agent(services))
        sent = services.client.calls[1].params["tools"]
        assert {"read_file", "exec_python", "git"} <= {tool["function"]["name"] for tool in sent}


@virtual
async def test_a_tool_that_is_gone_since_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, ["done"])
        await services.services.holds.pause("a")
        task_id = await agent(services, tools=["read_file", "git"])
        find = Toolbox.find

        async def found(self: Toolbox, name: str) -> Tool[Any]:
            return await find(self, "none" if name == "git" else name)

        monkeypatch.setattr(Toolbox, "find", found)
        await services.services.holds.resume("a")
        await services.finished(task_id)
        sent = services.client.calls[0].params["tools"]
        assert [tool["function"]["name"] for tool in sent] == ["read_file"]


@virtual
async def test_calls_that_only_read_run_at_once(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        look = [call("look", f"l{i}", i, text=str(i), seconds=10) for i in range(3)]
        steps(services, [*look, call("change", "c", 3, text="x", seconds=1)], ["done"])
        task_id = await agent(services)
        await services.finished(task_id)
        assert sorted(ran[:3]) == ["look 0", "look 1", "look 2"]
        assert ran[3:] == ["end", "end", "end", "change x", "end"]
        assert 11 <= loop().time() < 12
        answers = [one["content"] for one in services.client.calls[1].messages[2:]]
        assert answers == ["0 done", "1 done", "2 done", "x done"]


@virtual
async def test_calls_that_write_run_one_after_the_other(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        change = [call("change", f"c{i}", i, text=str(i), seconds=1) for i in range(2)]
        steps(services, [*change, call("look", "l", 2)], ["done"])
        await services.finished(await agent(services))
        assert ran == ["change 0", "end", "change 1", "end", "look", "end"]


@virtual
async def test_ids_of_calls_are_made_unlike(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        same = [write("a", "1", "x", 0), write("b", "2", "x", 1)]
        steps(services, [same[0]], [same[0] | {"id": "x"}], ["done"])
        task_id = await agent(services)
        await services.finished(task_id)
        found = await history(services.services.journal, await services.task(task_id))
        assert [one.id for one in found.calls] == ["x", "x_2_1"]
        assert all(one.state is CallState.FINISHED for one in found.calls)


@virtual
async def test_output_comes_while_a_tool_runs(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, [call("look", text="x", seconds=5)], ["done"])
        task_id = await agent(services)
        await begun(services, task_id)
        assert loop().time() < 1
        assert ran == ["look x"]
        await services.finished(task_id)
        kinds = await services.kinds(task_id)
        assert kinds.index("tool_output") < kinds.index("tool_result")


@virtual
async def test_what_a_provider_needs_back_is_sent_back(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        signed = write("a", "x") | {"extra_content": {"google": {"thought_signature": "s1"}}}
        details = Delta("", event=("message", {"reasoning_details": [{"id": 1}]}))
        steps(services, [signed, details], ["done"])
        await services.finished(await agent(services))
        message = services.client.calls[1].messages[1]
        assert message["reasoning_details"] == [{"id": 1}]
        assert message["tool_calls"][0]["extra_content"]["google"]["thought_signature"] == "s1"


# Bounds ------------------------------------------------------------------------------------------


@virtual
async def test_an_agent_ends_after_max_steps(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        scripts: list[Script] = [[f"step {n}", write("a", str(n))] for n in range(9)]
        steps(services, *scripts)
        task_id = await agent(services, max_steps=3)
        assert await services.code(task_id) == "max_steps"
        assert len(services.client.calls) == 3
        assert await file(services, task_id, "a") == "2"
        assert await services.result(task_id) == "step 2"
        assert (await services.task(task_id)).usage is not None


@virtual
async def test_an_agent_ends_when_its_tokens_are_used_up(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.usage = {"prompt_tokens": 70, "completion_tokens": 30, "total_tokens": 100}
        steps(services, *[[write("a", str(n))] for n in range(9)])
        task_id = await agent(services, token_budget=250)
        assert await services.code(task_id) == "max_steps"
        assert len(services.client.calls) == 3


@virtual
async def test_the_time_of_an_agent_holds_while_a_tool_runs(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, [call("look", seconds=1e6)], ["done"])
        task_id = await agent(services, timeout_s=60, max_retries=0)
        assert await services.code(task_id) == "timeout"
        assert 60 <= loop().time() < 62


@virtual
async def test_a_conversation_that_is_too_long_is_shortened(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path, {"a": model(context=100_000)}) as services:
        long = {"a.txt": "line\n" * 12_000}
        reads: list[Script] = [[call("read_file", path="a.txt")] for _ in range(3)]
        steps(services, [call("look", "l")], *reads, ["done"])
        steps(services, *reads, [ContextTooLong("too long")], ["done"])
        task_id = await agent(services, files=long)
        assert (await services.finished(task_id)).state is State.COMPLETED
        sizes = [len(orjson.dumps(one.messages)) for one in services.client.calls]
        assert sizes[4] < sizes[3]
        assert (await services.task(task_id)).steps == 4


@virtual
async def test_a_fork_of_a_long_run_is_shortened_too(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(context=20_000)}) as services:
        reads: list[Script] = [[call("read_file", path="a.txt", offset=n)] for n in range(6)]
        steps(services, *reads, ["done"])
        task_id = await agent(services, files={"a.txt": "line\n" * 5_000})
        task = await services.finished(task_id)
        services.client.on("and now", ["done"])
        made = await services.services.forks.fork(task, 6, "and now", None)
        assert (await services.finished(made.task_id)).state is State.COMPLETED
        last = services.client.calls[-1]
        assert of_prompt(last.messages, last.params) < 20_000
        assert (last.messages[0]["content"], last.messages[-1]["content"]) == (ASK, "and now")


@virtual
async def test_the_tools_of_a_model_without_tool_calling_take_room(tmp_path: Path) -> None:
    models = {"a": model(context=2_000, tool_calling=False)}
    async with EngineServices(tmp_path, models) as services:
        block = '```tool_call\n{"name": "read_file", "arguments": {"path": "a.txt"}}\n```'
        steps(services, [block])
        services.client.of_model["a"] = ("done",)
        await services.finished(await agent(services, files={"a.txt": "line\n" * 5_000}))
        assert of_prompt(services.client.calls[1].messages, {}) + ANSWER < 2_000


@virtual
async def test_an_agent_that_repeats_itself_is_warned_and_then_ends(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, [call("read_file", path="none")])
        task_id = await agent(services)
        assert await services.code(task_id) == "max_steps"
        contents = [given(services, number)[-1] for number in range(len(services.client.calls))]
        assert [WARNING in content for content in contents] == [False] * 3 + [True] * 2
        assert WARNING not in (await results(services, task_id))[-1]


@virtual
async def test_a_model_without_tool_calling_writes_its_calls(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(tool_calling=False)}) as services:
        block = (
            '```tool_call\n{"name": "write_file", "arguments": {"path": "a", "content": "x"}}\n```'
        )
        steps(services, ["I write.\n\n" + block[:20], block[20:]])
        services.client.of_model["a"] = ("done",)  # the last user message is a result then
        task_id = await agent(services)
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert await file(services, task_id, "a") == "x"
        first, second = services.client.calls
        assert "tools" not in first.params
        assert "write_file" in first.messages[0]["content"]
        assert [one["role"] for one in second.messages] == ["system", "user", "assistant", "user"]
        texts = [data["text"] for kind, data in await services.events(task_id) if kind == "chunk"]
        assert "".join(texts) == "I write.done"


# The account -------------------------------------------------------------------------------------


@virtual
async def test_the_permit_is_given_back_while_a_tool_runs(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, [call("look", seconds=100)], ["done"])
        task_id = await agent(services)
        other = await services.submit("other")
        await services.finished(other)
        assert loop().time() < 1
        await services.finished(task_id)
        assert services.client.prompts == [ASK, "other", ASK]


@virtual
async def test_the_next_call_goes_before_waiting_tasks(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, [call("look", seconds=15)], ["done"])
        services.client.default = (10.0, "ok")
        task_id = await agent(services)
        others = [await services.submit(f"other {n}", priority=9) for n in range(4)]
        await services.finished(task_id)
        await services.finished(others[-1])
        assert services.client.prompts.index(ASK, 1) == 3  # two were called while the tool ran


@virtual
async def test_each_step_counts_for_the_rate(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(rpm=2)}) as services:
        steps(services, *[[write("a", str(n))] for n in range(4)], ["done"])
        await services.finished(await agent(services))
        started = [one.started for one in services.client.calls]
        assert all(late - early >= 60 for early, late in zip(started, started[2:], strict=False))


@virtual
async def test_a_restart_knows_the_calls_of_all_steps(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path, {"a": model(rpm=2)}) as services:
        steps(services, [write("a", "1")], [call("look", seconds=5)], ["done"])
        task_id = await agent(services)
        await begun(services, task_id)
        await services.restart()
        await services.finished(task_id)
        started = [one.started for one in services.client.calls]
        assert started[2] - started[0] >= 60


@virtual
async def test_a_slot_that_a_tool_does_not_need_is_not_lost(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        for _ in range(3):
            steps(services, [call("look", seconds=5)], [call("send", seconds=5)], ["done"])
            services.client.calls.clear()
            await services.finished(await agent(services))
        gate = services.services.catalogue.upstreams[0].gate
        assert (gate.busy, gate.under_way) == (0, 0)
        await services.finished(await services.submit("other"))


# Faults and restarts -----------------------------------------------------------------------------


@virtual
async def test_a_failed_step_is_tried_again_and_no_other(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        steps(
            services,
            [write("a", "1")],
            ["half ", UpstreamOverloaded("503")],
            ["whole", write("b", "2", "w2")],
            ["done"],
        )
        task_id = await agent(services)
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert len(services.client.calls) == 4
        assert given(services, 3)[3] == "whole"
        assert await services.streamed(task_id) == "done"


@virtual
async def test_each_step_has_its_own_retries(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        fault: Script = [UpstreamOverloaded("503")]
        steps(services, fault, [write("a", "1")], fault, [write("a", "2")], fault, ["done"])
        task = await services.finished(await agent(services, max_retries=1))
        assert task.state is State.COMPLETED


def appends(services: EngineServices, stop_at: int) -> asyncio.Event:
    """An event that is set by the append of that number from now on; none follows it."""
    journal = services.services.journal
    append, reached = journal.append, asyncio.Event()
    count = 0

    def counted(*entries: Any) -> Any:
        nonlocal count
        count += 1
        if count > stop_at:
            reached.set()
            return asyncio.get_running_loop().create_future()
        return append(*entries)

    journal.append = counted  # type: ignore[method-assign, assignment]
    return reached


@pytest.mark.parametrize("stop_at", range(26))
@virtual
async def test_a_crash_at_each_event_does_nothing_twice(
    tmp_path: Path, ran: list[str], stop_at: int
) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on_turns(
            ASK,
            ["a", call("change", "c1", text="1")],
            ["b", call("change", "c2", text="2"), call("look", "l", 1)],
            ["c", call("change", "c3", text="3")],
            ["done"],
        )
        task_id = await agent(services)
        reached = appends(services, stop_at)
        ended = asyncio.ensure_future(services.finished(task_id))
        stopped = asyncio.ensure_future(reached.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.001)
        await services.restart()
        task = await services.finished(task_id)
        assert task.state is State.COMPLETED
        assert await file(services, task_id, "log") == "1\n2\n3\n"
        assert await services.result(task_id) == "done"
        found = await history(services.services.journal, task)
        assert [one.number for one in found.ended] == [1, 2, 3, 4]
        assert (await services.kinds(task_id)).count("message") == 4
        await asyncio.gather(ended, stopped, return_exceptions=True)


async def cut(services: EngineServices, task_id: str, name: str) -> None:
    """Crash while the tool runs, and start again."""
    await begun(services, task_id, name)
    await services.restart()


@virtual
async def test_a_reading_call_that_was_cut_runs_again(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on_turns(ASK, [call("look", text="x", seconds=5)], ["done"])
        task_id = await agent(services)
        await cut(services, task_id, "x")
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert ran == ["look x", "look x", "end"]
        assert "rollback" not in await services.kinds(task_id)


@virtual
async def test_a_writing_call_that_was_cut_is_undone_and_runs_again(
    tmp_path: Path, ran: list[str]
) -> None:
    async with EngineServices(tmp_path) as services:
        before, change = write("a", "old"), call("change", "c", text="x", seconds=5)
        services.client.on_turns(ASK, [before], [change], ["done"])
        task_id = await agent(services)
        await begun(services, task_id)
        parts = services.services
        async with parts.workspaces.use(task_id, 0) as workspace:
            workspace.write("a", b"half")  # what the call has done so far
            workspace.write("b", b"half")
        await services.restart()
        assert (await services.finished(task_id)).state is State.COMPLETED
        kinds = await services.kinds(task_id)
        assert kinds.count("rollback") == 1
        assert await file(services, task_id, "a") == "old"
        assert await file(services, task_id, "log") == "x\n"
        with pytest.raises(FileNotFoundError):
            await file(services, task_id, "b")


@virtual
async def test_a_call_with_effects_elsewhere_that_was_cut_waits_for_a_person(
    tmp_path: Path, ran: list[str]
) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on_turns(ASK, [call("send", "s", text="x", seconds=5)], ["done"])
        task_id = await agent(services)
        await cut(services, task_id, "x")
        await until(services, task_id)
        task = await services.task(task_id)
        assert task.error is not None
        assert task.error["code"] == "needs_review"
        await services.restart()
        assert await services.state(task_id) is State.PAUSED
        assert ran == ["send x"]


@pytest.mark.parametrize(
    ("decision", "times", "words"), [("rerun", 2, "x done"), ("skip", 1, "not to make it again")]
)
@virtual
async def test_a_person_decides_about_a_call_that_was_cut(
    tmp_path: Path, ran: list[str], decision: str, times: int, words: str
) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on_turns(ASK, [call("send", "s", text="x", seconds=5)], ["done"])
        task_id = await agent(services, approve=["send"])
        await until(services, task_id)
        await decided(services, task_id, "s", "approved")
        await cut(services, task_id, "x")
        await until(services, task_id, times=2)
        await decided(services, task_id, "s", decision)
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert ran.count("send x") == times
        assert words in (await results(services, task_id))[0]


@virtual
async def test_a_workspace_that_is_too_large_for_a_checkpoint_needs_a_review(
    tmp_path: Path, ran: list[str]
) -> None:
    async with EngineServices(tmp_path, tools={"checkpoint_mb": 1}) as services:
        big = {"big": "x" * 1_100_000}
        services.client.on_turns(ASK, [call("change", "c", text="x", seconds=5)], ["done"])
        task_id = await agent(services, files=big)
        await cut(services, task_id, "x")
        await until(services, task_id)
        task = await services.task(task_id)
        assert task.error is not None
        assert task.error["code"] == "needs_review"


@pytest.mark.parametrize(
    ("number", "state"), [(errno.ENOSPC, State.COMPLETED), (errno.EIO, State.FAILED)]
)
@virtual
async def test_a_result_waits_until_its_files_are_on_the_disk(
    tmp_path: Path, ran: list[str], number: int, state: State
) -> None:
    async with EngineServices(tmp_path) as services:
        workspaces = services.services.workspaces
        sync, refused = workspaces.sync, [number]

        async def refusing(task_id: str, generation: int) -> None:
            if refused:
                raise OSError(refused.pop() if number == errno.ENOSPC else number, "the disk")
            await sync(task_id, generation)

        workspaces.sync = refusing  # type: ignore[method-assign]
        services.client.on_turns(ASK, [call("change", "c", text="x")], ["done"])
        task_id = await agent(services, max_retries=0)
        task = await services.finished(task_id)
        assert task.state is state
        if state is State.COMPLETED:
            assert await file(services, task_id, "log") == "x\n"
            assert (await services.kinds(task_id)).count("rollback") == 1
        else:
            assert task.error is not None
            assert "the disk" in task.error["message"]


@virtual
async def test_a_stop_of_the_service_in_mid_call_is_no_attempt(
    tmp_path: Path, ran: list[str]
) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on_turns(ASK, [call("change", "c", text="x", seconds=5)], ["done"])
        task_id = await agent(services, max_retries=0)
        await begun(services, task_id)
        await services.services.executor.interrupt_all()
        await services.close()
        await services.reopen()
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert await file(services, task_id, "log") == "x\n"


# Persons -----------------------------------------------------------------------------------------


@virtual
async def test_a_call_waits_for_an_approval(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on_turns(ASK, [write("a", "new\n", "w")], ["done"])
        task_id = await agent(services, approve=["write_file"], files={"a": "old\n"})
        await until(services, task_id)
        task = await services.task(task_id)
        assert task.error is not None
        assert task.error["code"] == "needs_approval"
        asked = (await services.events(task_id))[-2]
        assert asked[0] == "approval"
        assert asked[1]["arguments"] == {"path": "a", "content": "new\n"}
        assert "-old" in asked[1]["diff"]
        assert "+new" in asked[1]["diff"]
        assert await file(services, task_id, "a") == "old\n"
        await services.restart()
        await decided(services, task_id, "w", "approved")
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert await file(services, task_id, "a") == "new\n"
        assert (await services.task(task_id)).error is None
        assert len(services.client.calls) == 2


@virtual
async def test_a_denied_call_is_a_text_for_the_model(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, tools={"approve": ["write_file"]}) as services:
        services.client.on_turns(ASK, [write("a", "x", "w")], ["as you like"])
        task_id = await agent(services)
        await until(services, task_id)
        await decided(services, task_id, "w", "denied", "not this file")
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert given(services, 1)[-1].endswith("a person has denied this call: not this file")
        found = await history(services.services.journal, await services.task(task_id))
        assert found.calls[0].state is CallState.DENIED


@virtual
async def test_each_call_of_a_step_waits_by_itself(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        both = [call("change", "c1", 0, text="1"), call("change", "c2", 1, text="2")]
        services.client.on_turns(ASK, both, ["done"])
        task_id = await agent(services, approve=["change"])
        for times, call_id in enumerate(("c1", "c2"), 1):
            await until(services, task_id, times=times)
            await decided(services, task_id, call_id, "approved")
        await services.finished(task_id)
        assert await file(services, task_id, "log") == "1\n2\n"


@virtual
async def test_a_task_that_waits_for_a_person_holds_no_slot(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on_turns(ASK, [write("a", "x", "w")], ["done"])
        task_id = await agent(services, approve=["write_file"])
        await until(services, task_id)
        await services.finished(await services.submit("other"))
        assert services.services.executor.executions == {}


# Steering ----------------------------------------------------------------------------------------


@virtual
async def test_a_paused_agent_goes_on_where_it_was(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on_turns(
            ASK, [write("a", "1")], [call("change", "c", text="x", seconds=5)], ["done"]
        )
        task_id = await agent(services)
        await begun(services, task_id)
        control = services.services.control
        assert (await control.pause(task_id)).state is State.PAUSED
        assert (await control.resume(task_id)).state is State.PENDING
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert len(services.client.calls) == 3
        assert await file(services, task_id, "log") == "x\n"


@virtual
async def test_a_cancelled_agent_stops_its_tool(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, [call("look", text="x", seconds=500)], ["done"])
        task_id = await agent(services)
        await begun(services, task_id)
        assert (await services.services.control.cancel(task_id)).state is State.CANCELLED
        await asyncio.sleep(1000)
        assert ran == ["look x"]
        assert len(services.client.calls) == 1


@virtual
async def test_a_cancelled_agent_leaves_the_line_for_its_next_call(
    tmp_path: Path, ran: list[str]
) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, [call("look", seconds=5)], ["done"])
        task_id = await agent(services)
        other = await services.submit_script("other", [50.0, "ok"])
        await asyncio.sleep(10)
        assert services.client.running == ["other"]
        await services.services.control.cancel(task_id)
        await services.finished(other)
        await services.finished(await services.submit("third"))
        assert services.client.prompts == [ASK, "other", "third"]


@virtual
async def test_a_retry_by_hand_begins_anew(tmp_path: Path, ran: list[str]) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on_turns(ASK, [call("change", "c", text="x")], ["done"])
        task_id = await agent(services, files={"a": "1"})
        await services.finished(task_id)
        await services.services.control.retry(task_id)
        task = await services.finished(task_id)
        assert (task.steps, task.tool_calls) == (2, 1)
        assert len(services.client.calls) == 4
        assert await file(services, task_id, "log") == "x\n"


@virtual
async def test_a_silent_model_is_cut_in_a_later_step_too(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.watched = True
        steps(services, [write("a", "x")], [HANG], ["done"])
        task = await services.finished(await agent(services))
        assert task.state is State.COMPLETED
        assert services.services.pool.watchdog.cut == 1


@virtual
async def test_an_agents_answer_is_never_shared(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        steps(services, [write("a", "x")], ["done"], [write("a", "x")], ["done"])
        for _ in range(2):
            task = await services.finished(
                await agent(services, params={"temperature": 0}, cache=True)
            )
            assert not task.cached
        assert len(services.client.calls) == 4


@virtual
async def test_a_fork_runs_in_the_workspace_of_the_step_also_after_a_retry_by_hand(
    tmp_path: Path,
) -> None:
    tools = {"workspace": str(tmp_path / "workspaces")}
    async with EngineServices(tmp_path, tools=tools) as services:
        steps(services, [write("a.txt", "second")], ["done"])
        files = {"a.txt": "first"}
        task = await services.finished(await agent(services, files=files))
        forks, look = services.services.forks, call("read_file", "r", path="a.txt")
        again = write("a.txt", "third", "v", 1)
        for number, text in ((0, "first"), (1, "second")):
            turns: list[Script] = [["not asked again"]] * number + [[look, again], ["done"]]
            services.client.on_turns(f"after {number}", *turns)
            made = await forks.fork(task, number, f"after {number}", None)
            for _ in range(2):  # at first, and after the retry by hand
                assert (await services.finished(made.task_id)).state is State.COMPLETED
                found = await history(services.services.journal, await services.task(made.task_id))
                assert found.calls[0].result is not None
                assert found.calls[0].result["output"].rstrip() == text
                await services.services.control.retry(made.task_id)
            await services.services.control.cancel(made.task_id)
