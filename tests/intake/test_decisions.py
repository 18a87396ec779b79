"""A person's decisions on calls of tools: what each appends, and which are refused."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import orjson
import pytest

from asyncsvc.agents.history import CallState, history
from asyncsvc.errors import IllegalTransition, StorageUnavailable, TaskNotFound
from asyncsvc.journal.journal import Change
from asyncsvc.storage.entries import EventRow
from asyncsvc.tasks.state import State
from tests.agents.waiting import BEGUN, answered, asked, ended, placed, started, step, waits
from tests.builders import Commits
from tests.engine_services import MOMENT, EngineServices
from tests.virtual_time import virtual

ASKED = [*step(1, "I write"), *ended(1, asked("c1"), asked("c2"))]


def engine(folder: Path) -> EngineServices:
    return EngineServices(folder, tools={"workspace": str(folder / "workspaces")})


async def call_of(services: EngineServices, task_id: str, place: int = 0) -> Any:
    journal = services.services.journal
    return (await history(journal, await journal.task(task_id))).calls[place]


@virtual
async def test_an_approved_call_is_asked_again(tmp_path: Path) -> None:
    async with engine(tmp_path) as services:
        task_id = await placed(services.services, [*ASKED, *waits("c1")])
        assert (await services.task(task_id)).waiting_for == "approval"
        task = await services.services.decisions.approve(task_id)
        assert (task.state, task.error, task.waiting_for) == (State.PENDING, None, None)
        call = await call_of(services, task_id)
        assert (call.state, call.decision) == (CallState.ASKED, "approved")
        assert (await services.kinds(task_id))[-2:] == ["approval", "resumed"]
        assert services.services.scheduler.depth("a") == 1


@virtual
async def test_a_denied_call_keeps_the_reason(tmp_path: Path) -> None:
    async with engine(tmp_path) as services:
        task_id = await placed(services.services, [*ASKED, *waits("c1")])
        task = await services.services.decisions.deny(task_id, "not there", "c1")
        assert task.state is State.PENDING
        call = await call_of(services, task_id)
        assert (call.state, call.reason) == (CallState.DENIED, "not there")


@virtual
@pytest.mark.parametrize("decision", ["rerun", "skip"])
async def test_a_review_ends_with_a_decision(tmp_path: Path, decision: str) -> None:
    async with engine(tmp_path) as services:
        drafts = [*ASKED, started("c1"), *waits("c1", review=True)]
        task_id = await placed(services.services, drafts)
        assert (await services.task(task_id)).waiting_for == "review"
        task = await services.services.decisions.decide(task_id, decision)
        assert task.state is State.PENDING
        assert (await call_of(services, task_id)).decision == decision


@virtual
async def test_a_review_may_end_the_task(tmp_path: Path) -> None:
    async with engine(tmp_path) as services:
        drafts = [*ASKED, started("c1"), *waits("c1", review=True)]
        task_id = await placed(services.services, drafts, session_id="s")
        behind = await services.submit("x", session_id="s", model="a")
        task = await services.services.decisions.decide(task_id, "fail")
        assert task.state is State.FAILED
        assert task.error is not None
        assert task.error["code"] == "interrupted_unknown"
        assert "c1 of write_file" in task.error["message"]
        assert await services.result(task_id) == "I write"
        # The task behind it in its session is next.
        await services.services.holds.resume("a")
        assert (await services.finished(behind)).state is State.COMPLETED


@virtual
async def test_what_does_not_wait_is_refused_with_what_to_send(tmp_path: Path) -> None:
    async with engine(tmp_path) as services:
        parts = services.services
        approval = await placed(parts, [*ASKED, *waits("c1")])
        review = await placed(parts, [*ASKED, started("c1"), *waits("c1", review=True)])
        running = await placed(parts, ASKED)
        ended_one = await placed(parts, [*step(1, "yes"), *ended(1), answered()])
        chat = await services.submit("x", model="a")
        before = [await services.kinds(i) for i in (approval, review, running, ended_one, chat)]
        for refused, words in (
            (parts.decisions.decide(approval, "rerun"), "send /approve or /deny"),
            (parts.decisions.approve(approval, "c2"), "call 'c2' does not wait; 'c1'"),
            (parts.control.resume(approval), "cannot be resumed: .* send /approve or /deny"),
            (parts.control.resume(review), '"decision": "rerun"'),
            (parts.decisions.approve(review), "cannot be approved: .* /resume"),
            (parts.decisions.deny(review), "cannot be denied: .* /resume"),
            (parts.decisions.decide(review, "skip", "c9"), "'c9' does not wait"),
            (parts.decisions.approve(running), "running cannot be approved: no call"),
            (parts.decisions.deny(ended_one), "completed cannot be denied: no call"),
            (parts.decisions.decide(chat, "fail"), "no call of it waits for a review"),
        ):
            with pytest.raises(IllegalTransition, match=words):
                await refused
        with pytest.raises(TaskNotFound):
            await parts.decisions.approve("none")
        after = [await services.kinds(i) for i in (approval, review, running, ended_one, chat)]
        assert after == before


@virtual
async def test_of_two_decisions_at_once_one_counts(tmp_path: Path) -> None:
    async with engine(tmp_path) as services:
        decisions = services.services.decisions
        task_id = await placed(services.services, [*ASKED, *waits("c1")])
        both = await asyncio.gather(
            decisions.approve(task_id), decisions.deny(task_id), return_exceptions=True
        )
        assert sum(isinstance(one, IllegalTransition) for one in both) == 1
        kinds = await services.kinds(task_id)
        assert kinds.count("approval") == 2
        assert kinds[-1] == "resumed"


@virtual
async def test_a_decision_that_comes_too_late_is_not_for_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(tmp_path) as services:
        parts = services.services
        task_id = await placed(parts, [*ASKED, *waits("c1")])
        read, free = parts.journal.store.texts.events_of, asyncio.Event()

        async def held_up(*given: Any) -> list[EventRow]:
            rows = await read(*given)
            await free.wait()
            return rows

        with monkeypatch.context() as patched:
            patched.setattr(parts.journal.store.texts, "events_of", held_up)
            late = asyncio.create_task(parts.decisions.approve(task_id))
            await asyncio.sleep(MOMENT)
        await parts.decisions.approve(task_id)
        await parts.control.pause(task_id)
        await parts.journal.append(Change(task_id, [*BEGUN, started("c1"), *waits("c2")]))
        free.set()
        with pytest.raises(IllegalTransition, match="another decision was faster"):
            await late
        call = await call_of(services, task_id, 1)
        assert (call.id, call.state) == ("c2", CallState.NEEDS_APPROVAL)


@virtual
async def test_a_decision_that_cannot_be_stored_changes_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path) as services:
        task_id = await placed(services.services, [*ASKED, *waits("c1")])
        commits = Commits(services.services.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await services.services.decisions.approve(task_id)
        assert (await services.task(task_id)).waiting_for == "approval"


@virtual
async def test_a_restart_keeps_the_wait(tmp_path: Path) -> None:
    async with engine(tmp_path) as services:
        task_id = await placed(services.services, [*ASKED, *waits("c1")])
        await services.restart()
        assert (await services.task(task_id)).waiting_for == "approval"
        assert (await services.services.decisions.approve(task_id)).state is State.PENDING


async def waiting(services: EngineServices, task_id: str, call_id: str) -> None:
    """Wait until the call waits for a person."""
    async with aclosing(services.services.journal.follow(task_id)) as pages:
        async for page in pages:
            if any(one.type == "approval" and one.data["id"] == call_id for one in page):
                return


@virtual
async def test_an_agent_goes_on_after_each_decision(tmp_path: Path) -> None:
    def write(path: str) -> dict[str, Any]:
        text = orjson.dumps({"path": path, "content": "x"}).decode()
        function = {"name": "write_file", "arguments": text}
        return {"index": 0, "id": path, "type": "function", "function": function}

    async with engine(tmp_path) as services:
        decisions = services.services.decisions
        services.client.on_turns("mend it", [write("a")], [write("b")], ["done"])
        fields: dict[str, Any] = {"type": "agent", "content": "mend it"}
        task_id = await services.submit_fields(approve=["write_file"], **fields)
        await waiting(services, task_id, "a")
        await decisions.approve(task_id, "a")
        await waiting(services, task_id, "b")
        await decisions.deny(task_id, "one is enough")
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert await services.result(task_id) == "done"
        last = services.client.calls[-1].messages[-1]
        assert "one is enough" in last["content"]
        assert len(services.client.calls) == 3  # no step is paid for twice
        async with services.services.workspaces.look(task_id, 0) as workspace:
            assert [item.path for item in workspace.items("")] == ["a"]
