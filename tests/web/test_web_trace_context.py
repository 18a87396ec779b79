"""`traceparent` of a submit: kept with the task at each endpoint, and passed on."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from asyncsvc.tasks.submission import Submission
from asyncsvc.tasks.trace import Trace
from tests.engine_services import EngineServices, model
from tests.upstreams import ASK, GOOD, Sheet, client, stream, upstream
from tests.virtual_time import virtual
from tests.web.serving import Service, ask

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
SENT = {"traceparent": PARENT, "tracestate": "a=1"}
CHAT: dict[str, Any] = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
anyio = pytest.mark.asyncio(loop_scope="module")


async def trace_of(service: Service, task_id: str) -> str:
    return str((await service.task(task_id))["metadata"]["trace_id"])


@anyio
async def test_each_way_to_submit_takes_a_context(service: Service) -> None:
    post, task = service.http.post, {"content": "hello", "model": "fast"}
    one = await post("/tasks", json=task, headers=SENT)
    some = await post("/tasks/batch", json={"tasks": [task, task]}, headers=SENT)
    ids = [one.json()["task_id"], *(each["task_id"] for each in some.json()["tasks"])]
    for path, body in (
        ("/v1/chat/completions", CHAT),
        ("/v1/responses", {"model": "fast", "input": "hello"}),
    ):
        ids.append((await post(path, json=body, headers=SENT)).headers["x-task-id"])
    async with service.ws() as socket:
        ids.append((await ask(socket, op="submit", task=task, **SENT))["task_id"])
    assert [await trace_of(service, each) for each in ids] == [TRACE] * 6


@anyio
@pytest.mark.parametrize("given", ["", "no", PARENT.upper(), f"ff-{TRACE}-{SPAN}-01"])
async def test_a_wrong_context_is_ignored(service: Service, given: str) -> None:
    task = {"content": "hello", "model": "fast"}
    answer = await service.http.post("/tasks", json=task, headers={"traceparent": given})
    task_id = answer.json()["task_id"]
    assert await trace_of(service, task_id) == task_id.replace("-", "")


@anyio
@pytest.mark.parametrize("given", [1, None, [PARENT], {"a": 1}, "x"])
async def test_a_wrong_context_in_a_message_is_ignored(service: Service, given: object) -> None:
    async with service.ws() as socket:
        task = {"content": "hello", "model": "fast"}
        answer = await ask(socket, op="submit", task=task, traceparent=given)
        task_id = answer["task_id"]
        assert await trace_of(service, task_id) == task_id.replace("-", "")


@anyio
async def test_the_context_is_no_part_of_what_an_idempotency_key_stands_for(
    service: Service,
) -> None:
    task, key = {"content": "hello", "model": "fast"}, {"Idempotency-Key": "one"}
    first = await service.http.post("/tasks", json=task, headers={**SENT, **key})
    again = await service.http.post("/tasks", json=task, headers=key)
    assert (again.status_code, again.json()["task_id"]) == (200, first.json()["task_id"])


@virtual
async def test_the_context_outlives_a_restart_and_goes_to_the_provider(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"m": model()}) as services:
        await services.services.holds.pause("m")
        submission = Submission(content="hi")
        accepted = await services.services.intake.submit(submission, trace=Trace(PARENT, "a=1"))
        await services.restart()
        await services.services.holds.resume("m")
        task = await services.finished(accepted.task_id)
        assert task.request.traceparent == PARENT
        assert [call.trace for call in services.client.calls] == [SENT]
        await services.finished(await services.submit("without"))
        assert services.client.calls[-1].trace is None


async def test_the_request_to_the_provider_has_the_headers() -> None:
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return stream(GOOD)

    account = upstream()
    async with client(httpx.MockTransport(answer)) as made:
        await made.chat(account, ASK, {}, Sheet(), trace=SENT)
        await made.chat(account, ASK, {}, Sheet())
    assert (seen[0]["traceparent"], seen[0]["tracestate"]) == (PARENT, "a=1")
    assert "traceparent" not in seen[1]
