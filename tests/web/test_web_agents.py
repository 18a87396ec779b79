"""Agents over HTTP and WebSocket: what waits, decisions, the ledger, counts and filters."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.agents.waiting import (
    answered,
    asked,
    ended,
    placed,
    result,
    started,
    step,
    waits,
)
from tests.web.description import as_described
from tests.web.serving import Service, ask, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

MISSING = "01890000-0000-7000-8000-000000000000"
ASKED = [*step(1, "I write"), *ended(1, asked("c1"))]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agents(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("agents")
    async with serving(folder, tools={"workspace": str(folder / "workspaces")}) as service:
        service.http.event_hooks["response"].append(as_described)
        yield service


async def test_a_task_shows_what_waits_for_an_approval(agents: Service) -> None:
    task_id = await placed(agents.parts, [*ASKED, *waits("c1", diff="+new")], model="fast")
    task = await agents.task(task_id)
    assert task["status"] == "paused"
    assert task["error"]["code"] == "needs_approval"
    assert task["approval"] == {
        "id": "c1",
        "name": "write_file",
        "arguments": {"path": "a.txt", "content": "new"},
        "diff": "+new",
        "review": False,
    }
    assert (task["metadata"]["steps"], task["metadata"]["tool_calls"]) == (1, 1)
    after = expect(await agents.http.post(f"/tasks/{task_id}/approve"), 200)
    assert (after["status"], after["error"], after.get("approval")) == ("pending", None, None)
    error = refused(await agents.http.post(f"/tasks/{task_id}/approve"), 409, "illegal_transition")
    assert "no call of it waits for an approval" in error["message"]


async def test_a_denial_has_a_reason(agents: Service) -> None:
    task_id = await placed(agents.parts, [*ASKED, *waits("c1")], model="fast")
    path = f"/tasks/{task_id}"
    for wrong in ({"reason": ""}, {"reason": 1}, {"reason": "x" * 5000}, {"id": ""}, {"id": 7}):
        name = next(iter(wrong))
        answer = refused(await agents.http.post(f"{path}/deny", json=wrong), 422, "invalid_request")
        assert answer["param"] == name
    refused(await agents.http.post(f"{path}/deny", json={"id": "c2"}), 409, "illegal_transition")
    given = {"reason": "not there", "id": "c1"}
    assert expect(await agents.http.post(f"{path}/deny", json=given), 200)["status"] == "pending"
    (event,) = [e for e in await agents.events(task_id) if "decision" in e["data"]]
    asked = next(e for e in await agents.events(task_id) if e["type"] == "approval")["data"]
    same = {name: asked[name] for name in ("id", "name", "arguments")}
    assert event["data"] == same | {"decision": "denied", "reason": "not there"}
    (call,) = expect(await agents.http.get(f"{path}/ledger"), 200)["calls"]
    assert (call["state"], call["decision"], call["reason"]) == ("denied", "denied", "not there")


async def test_a_review_ends_by_resume_with_a_decision(agents: Service) -> None:
    drafts = [*ASKED, started("c1"), *waits("c1", review=True)]
    task_id = await placed(agents.parts, drafts, model="fast")
    path = f"/tasks/{task_id}"
    assert (await agents.task(task_id))["approval"]["review"] is True
    error = refused(await agents.http.post(f"{path}/resume"), 409, "illegal_transition")
    assert '"decision"' in error["message"]
    refused(await agents.http.post(f"{path}/approve"), 409, "illegal_transition")
    for body, param in (({"decision": "again"}, "decision"), ({"id": "c1"}, "id")):
        answer = await agents.http.post(f"{path}/resume", json=body)
        assert refused(answer, 422, "invalid_request")["param"] == param
    decided = await agents.http.post(f"{path}/resume", json={"decision": "fail", "id": "c1"})
    assert expect(decided, 200)["error"]["code"] == "interrupted_unknown"


async def test_every_operation_of_a_task_is_one_of_the_socket(agents: Service) -> None:
    approval = await placed(agents.parts, [*ASKED, *waits("c1")], model="fast")
    denial = await placed(agents.parts, [*ASKED, *waits("c1")], model="fast")
    review = await placed(
        agents.parts, [*ASKED, started("c1"), *waits("c1", review=True)], model="fast"
    )
    async with agents.ws() as socket:

        async def code(**message: Any) -> str | None:
            answer = await ask(socket, **message)
            error: dict[str, Any] = answer.get("error", {})
            return error.get("code")

        assert await code(op="resume", task_id=approval) == "illegal_transition"
        assert await code(op="approve", task_id=approval, reason="x") == "invalid_request"
        answer = await ask(socket, op="approve", task_id=approval, id="c1", ref=1)
        assert answer == {"op": "ok", "ref": 1, "task_id": approval, "status": "pending"}
        assert await code(op="deny", task_id=denial, reason="no") is None
        assert await code(op="deny", task_id=denial) == "illegal_transition"
        answer = await ask(socket, op="resume", task_id=review, decision="fail")
        assert answer["status"] == "failed"
        assert (await ask(socket, op="pause", task_id=approval))["status"] == "paused"
        assert (await ask(socket, op="resume", task_id=approval))["status"] == "pending"
        assert (await ask(socket, op="retry", task_id=review))["status"] == "pending"
        assert (await ask(socket, op="cancel", task_id=review))["status"] == "cancelled"
        assert await code(op="approve", task_id=MISSING) == "task_not_found"
        assert await code(op="approve") == "invalid_request"


async def test_the_ledger_holds_each_call_with_its_state(agents: Service) -> None:
    drafts = [
        *step(1),
        *ended(1, asked("c1"), asked("c2", "read_file", path="a")),
        started("c1", "call-1"),
        result("c1", output="written"),
        started("c2"),
        result("c2", "read_file", ok=False, exit_code=1),
        *step(2, "look"),
        *ended(2, asked("c3", "exec_python", 2, code="1"), asked("c4", number=2)),
        started("c3"),
    ]
    task_id = await placed(agents.parts, drafts, model="fast")
    calls = expect(await agents.http.get(f"/tasks/{task_id}/ledger"), 200)["calls"]
    assert [(call["id"], call["step"], call["state"]) for call in calls] == [
        ("c1", 1, "finished"),
        ("c2", 1, "finished"),
        ("c3", 2, "started"),
        ("c4", 2, "asked"),
    ]
    first = calls[0]
    assert (first["checkpoint"], first["name"]) == ("call-1", "write_file")
    assert first["result"] == {
        "ok": True,
        "output": "written",
        "exit_code": 0,
        "duration_s": 0.25,
        "truncated": False,
    }
    assert first["started_at"].endswith("Z")
    assert calls[2]["result"] is calls[2]["ended_at"] is calls[2]["decision"] is None
    chat = await agents.submit(model="fast")
    error = refused(await agents.http.get(f"/tasks/{chat}/ledger"), 409, "illegal_transition")
    assert "type chat" in error["message"]
    refused(await agents.http.get(f"/tasks/{MISSING}/ledger"), 404, "task_not_found")


async def test_a_ledger_of_long_outputs_comes_whole(agents: Service) -> None:
    many = [asked(f"c{i}", "read_file", path="a") for i in range(40)]
    drafts = [*step(1), *ended(1, *many)]
    for i in range(40):
        drafts += [started(f"c{i}"), result(f"c{i}", "read_file", "x" * 60_000)]
    task_id = await placed(agents.parts, drafts, model="fast")
    calls = expect(await agents.http.get(f"/tasks/{task_id}/ledger"), 200)["calls"]
    assert [len(call["result"]["output"]) for call in calls] == [60_000] * 40


async def test_what_waits_for_a_person_is_counted_and_listed(tmp_path: Path) -> None:
    async with serving(tmp_path, tools={"workspace": str(tmp_path / "w")}) as service:
        parts = service.parts
        approval = await placed(parts, [*ASKED, *waits("c1")], "alice", model="fast")
        review = await placed(
            parts, [*ASKED, started("c1"), *waits("c1", review=True)], model="fast"
        )
        by_hand = await service.submit(model="fast")
        await service.steer(by_hand, "pause")
        stats = expect(await service.http.get("/tasks/stats"), 200)
        assert (stats["paused"], stats["needs_approval"], stats["needs_review"]) == (3, 1, 1)
        for wanted, ids in (("approval", [approval]), ("review", [review])):
            listed = expect(await service.http.get("/tasks", params={"waiting_for": wanted}), 200)
            assert [task["task_id"] for task in listed["tasks"]] == ids
            both = {"waiting_for": wanted, "status": "pending"}
            assert expect(await service.http.get("/tasks", params=both), 200)["tasks"] == []
        refused(
            await service.http.get("/tasks", params={"waiting_for": "x"}), 422, "invalid_request"
        )


async def test_an_agent_that_has_ended_shows_its_sums(agents: Service) -> None:
    drafts = [
        *ASKED,
        started("c1"),
        result("c1"),
        *step(2, "done"),
        *ended(2, finish_reason="stop"),
        answered(usage={"total_tokens": 20}, finish_reason="stop"),
    ]
    task_id = await placed(agents.parts, drafts, model="fast", text="done")
    task = await agents.task(task_id)
    assert task["result"] == "done"
    found = task["metadata"]
    assert (found["steps"], found["tool_calls"], found["usage"]) == (2, 1, {"total_tokens": 20})
    explained = expect(await agents.http.get(f"/tasks/{task_id}/explain"), 200)["agent"]
    assert [len(step["calls"]) for step in explained["steps"]] == [1, 0]
    assert explained["steps"][0]["calls"][0]["ok"] is True
    chat = await agents.submit(model="fast")
    assert expect(await agents.http.get(f"/tasks/{chat}/explain"), 200)["agent"] is None
    assert "approval" not in task
