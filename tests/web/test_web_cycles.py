"""Requests and tasks that are over leave no cycles."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asyncsvc.errors import Overloaded
from tests.garbage import left, uncollected
from tests.polling import until
from tests.web.serving import HANG, Service, ask, message

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _refused(service: Service, method: str, path: str, body: Any = None) -> None:
    answer = await service.http.request(method, path, json=body)
    assert answer.status_code >= 400


REFUSED: dict[str, tuple[str, str, Any]] = {
    "a task": ("POST", "/tasks", {"content": ""}),
    "a task of an unknown model": ("POST", "/tasks", {"content": "x", "model": "none"}),
    "a large task": ("POST", "/tasks", {"content": "x" * 400_000, "none": 1}),
    "a batch": ("POST", "/tasks/batch", {"tasks": [{"content": "x"}, {"content": ""}]}),
    "a list": ("GET", "/tasks?limit=x", None),
    "a task that is absent": ("GET", "/tasks/absent", None),
    "a command": ("POST", "/tasks/absent/cancel", None),
    "a route": ("POST", "/route", {}),
    "a schedule": ("POST", "/schedules", {"cron": "x", "task": {"content": "x"}}),
    "a tool": ("POST", "/tools/none", {}),
    "a path": ("GET", "/none", None),
    "a method": ("DELETE", "/tasks", None),
    "a chat": ("POST", "/v1/chat/completions", {"model": "none", "messages": []}),
    "a response": ("POST", "/v1/responses", {"model": "none", "input": "x"}),
    "embeddings": ("POST", "/v1/embeddings", {"model": "none", "input": "x"}),
    "a file": ("GET", "/v1/files/none", None),
    "a callback": ("POST", "/tasks", {"content": "x", "callback_url": "http://10.0.0.1/x"}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_request(fresh: Service, name: str) -> None:
    with uncollected():
        await _refused(fresh, *REFUSED[name])
        assert left() == []


@pytest.mark.parametrize("name", REFUSED)
async def test_a_request_while_no_task_is_taken(fresh: Service, name: str) -> None:
    fresh.parts.intake.overload = lambda: Overloaded("the disk is full", retry_after=1)
    with uncollected():
        await _refused(fresh, *REFUSED[name])
        assert left() == []


FORMS = {
    "whole": (200, {"purpose": "batch"}),
    "of another purpose": (400, {"purpose": "assistants"}),
    "with a long field": (400, {"purpose": "batch", "x": "y" * 2000}),
}


@pytest.mark.parametrize("name", FORMS)
async def test_a_form(fresh: Service, name: str) -> None:
    status, fields = FORMS[name]
    with uncollected():
        form = {"file": ("x.jsonl", b"{}\n")}
        answer = await fresh.http.post("/v1/files", files=form, data=fields)
        assert answer.status_code == status
        assert left() == []


async def test_a_file_for_which_there_is_no_room(fresh: Service) -> None:
    fresh.parts.journal.store.upkeep.room.least = lambda: 1 << 60
    with uncollected():
        answer = await fresh.http.post("/v1/files", files={"file": ("x", b"x" * 600_000)})
        assert answer.status_code == 503
        assert left() == []


async def _failed(service: Service) -> None:
    assert (await service.done(await service.submit("x [[sim:status=400]]")))["error"]


async def _retried(service: Service) -> None:
    assert (await service.done(await service.submit("x [[sim:status=500]]", max_retries=1)))[
        "error"
    ]


async def _cut(service: Service) -> None:
    assert (await service.done(await service.submit("x [[sim:drop]]", max_retries=0)))["status"]


async def _cancelled(service: Service) -> None:
    task_id = await service.running()
    assert (await service.steer(task_id, "cancel")).status_code == 200


async def _late(service: Service) -> None:
    assert (await service.done(await service.submit(HANG, timeout_s=0.2)))["error"]


async def _cancelled_twice(service: Service) -> None:
    await _cancelled(service)
    await _refused(service, "POST", f"/tasks/{await service.submit('x')}/resume")


async def _refused_operation(service: Service) -> None:
    async with service.ws() as socket:
        assert "error" in await ask(socket, op="subscribe", task_id="absent")
        assert "error" in await ask(socket, op="submit", task={"content": ""})
        assert "error" in await ask(socket, op="none")


async def _followed_to_the_end(service: Service) -> None:
    task_id = await service.submit("x")
    async with service.ws(f"/ws/tasks/{task_id}") as socket:
        while (await message(socket))["type"] != "status":
            pass
    await service.done(task_id)


ENDS: dict[str, Callable[[Service], Awaitable[None]]] = {
    "a task that fails": _failed,
    "a task that fails again": _retried,
    "a task whose call is cut": _cut,
    "a task that is cancelled": _cancelled,
    "a task that is too late": _late,
    "a command that comes too late": _cancelled_twice,
    "an operation on a WebSocket that is refused": _refused_operation,
    "a WebSocket that is closed": _followed_to_the_end,
}


@pytest.mark.parametrize("name", ENDS)
async def test_an_end(fresh: Service, name: str) -> None:
    async def under_way() -> int:
        return len(fresh.parts.executor.executions) + len(fresh.parts.sockets)

    with uncollected():
        await ENDS[name](fresh)
        await until(under_way, lambda count: count == 0)
        assert left() == []
