"""A request and its task, on a running service."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from asyncsvc.limits.headers import duration
from asyncsvc.web.openai import chat
from tests.web.serving import HANG, PATIENCE_S, Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT = "/v1/chat/completions"


def body(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "fast", "messages": [{"role": "user", "content": content}], **more}


def lines(answer: httpx.Response) -> list[str]:
    return [line for line in answer.text.split("\n\n") if line]


async def task_of_session(service: Service, session: str, state: str = "running") -> str:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await service.http.get("/tasks", params={"session_id": session})
            tasks = found.json()["tasks"]
            if tasks and tasks[0]["status"] == state:
                return str(tasks[0]["task_id"])


async def test_a_stream_that_waits_its_turn_is_kept_alive(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "HEAD_S", 0.0)
    monkeypatch.setattr(chat, "COMMENT_S", 0.01)
    blocked = await fresh.running(session_id="one")
    headers = {"x-session-id": "one"}
    asking = fresh.http.stream("POST", CHAT, json=body("x", stream=True), headers=headers)
    async with asking as answer:
        assert answer.status_code == 200
        text = answer.aiter_text()
        seen = ""
        while seen.count(": waiting") < 3:
            seen += await anext(text)
        await fresh.steer(blocked, "cancel")
        async for more in text:
            seen += more
    assert seen.endswith("data: [DONE]\n\n")


async def test_a_request_with_a_key_that_comes_again_goes_on(fresh: Service) -> None:
    headers = {"idempotency-key": "k", "x-session-id": "k"}
    first = asyncio.ensure_future(fresh.http.post(CHAT, json=body(HANG), headers=headers))
    task_id = await task_of_session(fresh, "k")
    first.cancel()
    assert (await fresh.done(task_id))["status"] == "cancelled"
    second = asyncio.ensure_future(fresh.http.post(CHAT, json=body(HANG), headers=headers))
    assert await task_of_session(fresh, "k") == task_id
    await fresh.steer(task_id, "cancel")
    answer = await second
    refused(answer, 409, "cancelled")
    assert answer.headers["x-task-id"] == task_id


async def test_a_second_reader_leaves_the_task_alone(fresh: Service) -> None:
    headers = {"idempotency-key": "k"}
    prompt = "[[sim:hang-stream at=2]]"
    first = fresh.http.stream("POST", CHAT, json=body(prompt, stream=True), headers=headers)
    async with first as answer:
        task_id = answer.headers["x-task-id"]
        again = fresh.http.stream("POST", CHAT, json=body(prompt, stream=True), headers=headers)
        async with again as other:
            # Two requests of one stream differ in nothing: it is the same call.
            assert other.headers["x-task-id"] == task_id
            assert '"role":"assistant"' in await anext(other.aiter_text())
        assert (await fresh.task(task_id))["status"] == "running"
    assert (await fresh.done(task_id))["status"] == "cancelled"


async def test_a_task_that_is_paused_and_resumed_is_waited_for(fresh: Service) -> None:
    headers = {"x-session-id": "p"}
    asking = asyncio.ensure_future(
        fresh.http.post(CHAT, json=body("[[sim:hang-stream at=1 x1]] go"), headers=headers)
    )
    task_id = await fresh.came(await task_of_session(fresh, "p"), "chunk")
    await fresh.steer(task_id, "pause")
    await fresh.steer(task_id, "resume")
    answer = expect(await asking, 200)
    assert answer["choices"][0]["message"]["content"]


async def test_limits_are_told_where_there_are_some(fresh: Service, tmp_path: Any) -> None:
    plain = await fresh.http.post(CHAT, json=body("x"))
    assert not [name for name in plain.headers if name.startswith("x-ratelimit")]
    folder = tmp_path / "limited"
    folder.mkdir()
    models = {"fast": {"base_url": fresh.sim.base_url, "model": "sim", "rpm": 10, "tpm": 1000}}
    async with serving(folder, models=models) as limited:
        answer = await limited.http.post(CHAT, json=body("x"))
    assert answer.headers["x-ratelimit-limit-requests"] == "10"
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"
    assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
    assert 0 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 1000
    for what in ("requests", "tokens"):
        reset = duration(answer.headers[f"x-ratelimit-reset-{what}"])
        assert reset is not None
        assert 30 < reset < 63


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_of_the_service_ends_no_task(tmp_path: Any, stream: bool) -> None:
    async with serving(tmp_path) as stopping:
        asking = asyncio.ensure_future(
            stopping.http.post(CHAT, json=body(HANG, stream=stream), headers={"x-session-id": "s"})
        )
        task_id = await task_of_session(stopping, "s")
        stopping.stop()
        answer = await asking
        refused(answer, 503, "shutting_down")
        assert answer.headers["x-task-id"] == task_id
    async with serving(tmp_path) as again:
        assert (await again.task(task_id))["status"] in ("pending", "running")


async def test_a_deleted_task_is_gone(fresh: Service) -> None:
    headers = {"idempotency-key": "gone"}
    first = await fresh.http.post(CHAT, json=body("x"), headers=headers)
    await fresh.http.delete(f"/tasks/{first.headers['x-task-id']}")
    second = await fresh.http.post(CHAT, json=body("x"), headers=headers)
    assert expect(second, 200)["id"] != first.json()["id"]


async def test_a_field_that_cannot_be_honoured_is_a_400(fresh: Service) -> None:
    error = refused(await fresh.http.post(CHAT, json=body("x", n=2)), 400, "invalid_request")
    assert error["param"] == "n"
    refused(await fresh.http.post(CHAT, content=b"{"), 400, "invalid_json")


async def test_the_events_of_a_tool_call_can_be_read_again(fresh: Service) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    answer = await fresh.http.post(CHAT, json=body("[[sim:calls=1]] x", tools=[tool]))
    events = await fresh.events(answer.headers["x-task-id"])
    pieces = [event["data"] for event in events if event["type"] == "tool_call"]
    joined = "".join(piece["function"]["arguments"] for piece in pieces)
    assert pieces[0]["function"]["name"] == "f"
    assert json.loads(joined) == {}
    assert events[-1]["data"]["finish_reason"] == "tool_calls"
