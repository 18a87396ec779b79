"""Agents out as lines and in again: their history, and what is believed of one that comes."""

import hashlib
import os
from base64 import b64encode
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from asyncsvc.agents.history import History, history
from asyncsvc.cli.transfer import TaskCount
from asyncsvc.errors import InvalidRequest, StorageUnavailable
from asyncsvc.journal.journal import Change
from asyncsvc.storage import export_agents
from asyncsvc.storage.export import Packed, Record, WorkspacePiece, lines
from asyncsvc.tasks.state import Cause, Draft, EventType, State, status
from asyncsvc.web.admin.transfer import workspace_archive
from tests.agents.waiting import answered, asked, ended, placed, result, started, step, waits
from tests.builders import Commits
from tests.engine_services import EngineServices
from tests.virtual_time import virtual

LIFE = [
    *step(1, "I wr"),
    Draft(EventType.CHUNK, {"text": "ite", "step": 1}),
    *ended(1, asked("c1"), asked("c2")),
    started("c1", "000001-call-9"),
    result("c1", output="half"),
    started("c2"),
    Draft(EventType.TOOL_OUTPUT, {"id": "c2", "text": "live only"}),
    result("c2", ok=False, exit_code=2),
    Draft(EventType.STEP, {"number": 2}),
    Draft(EventType.REASONING, {"text": "hm", "step": 2}),
    Draft(EventType.CHUNK, {"text": "done", "step": 2}),
    *ended(2, finish_reason="stop"),
    answered(usage={"total_tokens": 20}, finish_reason="stop"),
]


def places(folder: Path) -> tuple[EngineServices, EngineServices]:
    found = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        tools = {"workspace": str(folder / name / "workspaces")}
        found.append(EngineServices(folder / name, tools=tools))
    return found[0], found[1]


async def line_of(services: EngineServices, task_id: str) -> dict[str, Any]:
    found = [orjson.loads(line) async for line in lines(services.services.journal.store)]
    return next(line for line in found if line["task_id"] == task_id)


async def history_of(services: EngineServices, task_id: str) -> History:
    journal = services.services.journal
    return await history(journal, await journal.task(task_id))


@virtual
async def test_the_history_of_an_agent_comes_along(tmp_path: Path) -> None:
    one, two = places(tmp_path)
    async with one, two:
        task_id = await placed(one.services, LIFE, text="done")
        line = await line_of(one, task_id)
        assert "tool_calls" not in line
        taken = await two.services.importer.take([Record.of(line)])
        assert (taken.finished, taken.queued) == (1, 0)
        before, after = await history_of(one, task_id), await history_of(two, task_id)
        for call in before.calls:
            call.checkpoint = None  # it stays where the workspace was
        names = ("id", "name", "state", "result", "started_at", "ended_at", "checkpoint")
        assert [[getattr(c, n) for n in names] for c in after.calls] == [
            [getattr(c, n) for n in names] for c in before.calls
        ]
        assert after.messages() == before.messages()
        assert (after.usage, after.generation) == (before.usage, 0)
        task = await two.task(task_id)
        assert (task.steps, task.tool_calls, task.usage) == (2, 2, {"total_tokens": 20})
        assert await two.result(task_id) == "done"
        assert await two.streamed(task_id) == "done"
        second = await line_of(two, task_id)
        assert second == line


@virtual
async def test_what_came_before_a_retry_by_hand_stays_behind(tmp_path: Path) -> None:
    one, two = places(tmp_path)
    async with one, two:
        task_id = await placed(one.services, [*step(1, "first"), *ended(1), answered()])
        again = [
            status(Cause.RERUN, State.COMPLETED),
            status(Cause.STARTED, State.PENDING),
            *step(1, "second"),
            *ended(1),
            answered(),
        ]
        await one.services.journal.append(Change(task_id, again, result="second"))
        await two.services.importer.take([Record.of(await line_of(one, task_id))])
        assert [one.text for one in (await history_of(two, task_id)).steps] == ["second"]


@virtual
async def test_an_unfinished_agent_begins_anew(tmp_path: Path) -> None:
    one, two = places(tmp_path)
    async with one, two:
        await two.services.holds.pause("a")
        drafts = [*step(1), *ended(1, asked("c1")), *waits("c1")]
        task_id = await placed(one.services, drafts, files={"a": "b"}, tools=["write_file"])
        line = await line_of(one, task_id)
        assert "history" not in line
        await two.services.importer.take([Record.of(line)])
        task = await two.task(task_id)
        assert (task.state, task.steps, task.waiting_for) == (State.PAUSED, 0, None)
        body = orjson.loads(await two.services.journal.store.body(task.n))
        assert (body["files"], body["tools"]) == ({"a": "b"}, ["write_file"])


@virtual
async def test_long_outputs_are_shortened_to_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = places(tmp_path)
    async with one:
        drafts = [*step(1), *ended(1, asked("c1")), started("c1"), result("c1", output="x" * 9000)]
        task_id = await placed(one.services, [*drafts, answered()])
        monkeypatch.setattr(export_agents, "HISTORY_BYTES", 4000)
        found = (await line_of(one, task_id))["history"]
        (last,) = [data for kind, _, data in found if kind == "tool_result"]
        assert (len(last["output"]), last["truncated"]) == (2000, True)
        monkeypatch.setattr(export_agents, "HISTORY_BYTES", 400)
        assert "history" not in await line_of(one, task_id)


@pytest.mark.parametrize(
    "event",
    [
        ["status", 1, {"cause": "rerun", "status": "pending"}],
        ["rollback", 1, {"id": "c1", "checkpoint": "x"}],
        ["attempt", 1, {}],
        ["step", 1, {}],
        ["step", 1, {"number": -1}],
        ["step", 1, {"number": 1, "more": 1}],
        ["chunk", 1, {"text": 1, "step": 1}],
        ["chunk", 1, {"text": "x"}],
        ["chunk", -1, {"text": "x", "step": 1}],
        ["chunk", 1 << 60, {"text": "x", "step": 1}],
        ["message", 1, {}],
        ["tool_call", 1, {"id": "", "name": "n", "arguments": {}, "step": 1}],
        ["tool_call", 1, {"id": "c", "name": "n", "arguments": [], "step": 1}],
        ["tool_started", 1, {"id": "c", "checkpoint": "../../x"}],
        ["tool_result", 1, {"id": "c", "name": "n", "ok": "yes", "output": ""}],
        ["tool_result", 1, {"id": "c", "name": "n", "ok": True, "output": None}],
        ["approval", 1, {"id": "c", "decision": "maybe"}],
        ["approval", 1, {}],
        ["step", 1],
        "step",
    ],
)
def test_a_history_that_no_run_could_have_is_refused(event: Any) -> None:
    line = {
        "task_id": "01890000-0000-7000-8000-000000000000",
        "status": "completed",
        "type": "agent",
        "content": "x",
        "created_at": "2026-11-20T21:48:17.783Z",
        "history": [event],
    }
    with pytest.raises(ValidationError):
        Record.of(line)
    assert Record.of(line | {"history": [["step", 1, {"number": 1}]]}).history


@virtual
async def test_events_in_any_order_are_read_without_a_fault(tmp_path: Path) -> None:
    one, two = places(tmp_path)
    async with one, two:
        line = await line_of(one, await placed(one.services, LIFE, text="done"))
        line["history"].reverse()
        await two.services.importer.take([Record.of(line)])
        assert (await history_of(two, line["task_id"])).steps
        times = [row.ts for row in await two.services.journal.store.events(1, 0)]
        assert times == sorted(times)


async def filled(services: EngineServices, **more: bytes) -> str:
    """A finished agent with a workspace after a rollback."""
    parts = services.services
    task_id = await placed(parts, LIFE, text="done")
    await parts.workspaces.begin(task_id, 0, {"a/b.txt": "text"})
    async with parts.workspaces.look(task_id, 0) as workspace:
        for name, data in more.items():
            workspace.write(name, data)
    return task_id


async def carried(services: EngineServices, task_id: str) -> tuple[list[dict[str, Any]], Record]:
    """(the lines of the workspace, the task)."""
    archive = partial(workspace_archive, services.services)
    store = services.services.journal.store
    found = [orjson.loads(line) async for line in lines(store, archive=archive)]
    task = next(line for line in found if line.get("task_id") == task_id)
    return [line for line in found if line.get("workspace_of") == task_id], Record.of(task)


async def stage(services: EngineServices, pieces: list[dict[str, Any]]) -> None:
    for piece in pieces:
        await services.services.importer.staging.add(WorkspacePiece.model_validate(piece))


@virtual
async def test_the_workspace_of_an_agent_comes_along(tmp_path: Path) -> None:
    one, two = places(tmp_path)
    async with one, two:
        data = os.urandom(1_500_000)
        task_id = await filled(one, large=data)
        pieces, record = await carried(one, task_id)
        assert len(pieces) > 2
        assert record.workspace is not None
        await stage(two, pieces)
        assert (await two.services.importer.take([record])).finished == 1
        async with two.services.workspaces.look(task_id, 0) as workspace:
            assert workspace.read("a/b.txt", 99) == b"text"
            assert workspace.read("large", 2_000_000) == data
        incoming = tmp_path / "two" / "workspaces" / "incoming"
        assert os.listdir(incoming) == []
        # Known by now: the workspace is left alone, and what has come is removed.
        await stage(two, pieces)
        assert (await two.services.importer.take([record])).skipped == 1
        assert os.listdir(incoming) == []


@virtual
async def test_a_workspace_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    one, two = places(tmp_path)
    async with one, two:
        task_id = await filled(one, large=os.urandom(1_500_000))
        pieces, record = await carried(one, task_id)
        importer = two.services.importer
        with pytest.raises(InvalidRequest, match="is missing: its lines"):
            await importer.take([record])
        await stage(two, pieces[:-1])
        with pytest.raises(InvalidRequest, match="is not whole"):
            await importer.take([record])
        for wrong in (pieces[0] | {"offset": 7}, pieces[1]):
            with pytest.raises(InvalidRequest, match="from its beginning"):
                await stage(two, [wrong])
        other = b64encode(b"not an archive").decode()
        await stage(two, [{"workspace_of": task_id, "offset": 0, "data": other}])
        digest = hashlib.sha256(b"not an archive").hexdigest()
        claimed = record.model_copy(update={"workspace": Packed(bytes=14, sha256=digest)})
        with pytest.raises(InvalidRequest, match="is refused: it is no archive"):
            await importer.take([claimed])
        assert await two.services.journal.store.known([task_id]) == set()
        assert os.listdir(tmp_path / "two" / "workspaces" / "tasks") == []
        await stage(two, pieces)  # from its beginning
        assert (await importer.take([record])).finished == 1


@virtual
async def test_an_import_that_cannot_be_stored_leaves_no_workspace(tmp_path: Path) -> None:
    one, two = places(tmp_path)
    async with one, two:
        pieces, record = await carried(one, await filled(one))
        await stage(two, pieces)
        commits = Commits(two.services.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await two.services.importer.take([record])
        assert os.listdir(tmp_path / "two" / "workspaces" / "tasks") == []
        commits.refusal = None
        assert (await two.services.importer.take([record])).finished == 1


@pytest.mark.parametrize(
    "piece",
    [
        {"workspace_of": "../../etc/passwd", "offset": 0, "data": ""},
        {"workspace_of": 1, "offset": 0, "data": ""},
        {"workspace_of": "01890000-0000-7000-8000-000000000000", "offset": -1, "data": ""},
        {"workspace_of": "01890000-0000-7000-8000-000000000000", "offset": 0, "data": "%%"},
        {"workspace_of": "01890000-0000-7000-8000-000000000000", "offset": 0},
    ],
)
def test_a_piece_that_is_none_is_refused(piece: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WorkspacePiece.model_validate(piece)


@pytest.mark.parametrize("size", [1, 3, 14, 15, 16, 1000])
def test_the_command_line_counts_tasks_and_no_pieces(size: int) -> None:
    piece = b'{"workspace_of":"x","data":"' + b"a" * 100 + b'"}\n'
    data = b'{"task_id":"1"}\n' + piece + piece + b'{"task_id":"2"}\n{"a":1}\n'
    tasks = TaskCount()
    for start in range(0, len(data), size):
        tasks.look(data[start : start + size])
    assert tasks.count == 3
