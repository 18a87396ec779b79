"""What is answered to a field that does not exist: where it belongs, or which one was meant."""

from typing import Any

import pytest

from asyncsvc.tasks.submission import Submission
from asyncsvc.tasks.unknown_fields import ELSEWHERE
from tests.web.serving import Service, message, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

TASK = {"content": "x"}


async def fault(service: Service, path: str, body: dict[str, Any]) -> dict[str, Any]:
    return refused(await service.http.post(path, json=body), 422, "invalid_request")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temperature", 'put it into params, as in {"params": {"temperature": …}}'),
        ("max_tokens", "put it into params"),
        ("tool_choice", "put it into params"),
        ("response_format", "put it into params"),
        ("stream", "leave it out: each task can be followed"),
        ("prompt", "is its content"),
        ("system", "with the role system"),
        ("user", "the owner is who calls"),
        ("idempotency_key", "header Idempotency-Key"),
        ("mesages", "did you mean 'messages'?"),
        ("session", "did you mean 'session_id'?"),
        ("Priority", "did you mean 'priority'?"),
        ("timeout", "did you mean 'timeout_s'?"),
    ],
)
async def test_a_field_of_elsewhere_is_answered_with_where_it_belongs(
    service: Service, name: str, hint: str
) -> None:
    found = await fault(service, "/tasks", TASK | {name: 1})
    assert found["message"].startswith(f"{name!r} is not a field of a task")
    assert hint in found["message"]
    assert found["param"] == name


async def test_a_name_that_is_like_no_other_has_no_hint(service: Service) -> None:
    found = await fault(service, "/tasks", TASK | {"qqqq": 1})
    assert found["message"] == "'qqqq' is not a field of a task"


async def test_no_hint_is_about_a_field_that_there_is() -> None:
    assert not ELSEWHERE.keys() & Submission.model_fields.keys()


@pytest.mark.parametrize(
    ("path", "body", "param", "hint"),
    [
        ("/tasks/batch", {"tasks": [TASK, TASK | {"temperature": 1}]}, "tasks.1.temperature",
         "put it into params"),
        ("/tasks/batch", {"task": [TASK]}, "task", "did you mean 'tasks'?"),
        ("/schedules", {"cron": "0 0 * * *", "task": TASK | {"lan": "long"}}, "task.lan",
         "did you mean 'lane'?"),
        ("/schedules", {"crn": "0 0 * * *", "task": TASK}, "crn", "did you mean 'cron'?"),
    ],
)  # fmt: skip
async def test_the_whole_path_of_a_nested_field_is_named(
    service: Service, path: str, body: dict[str, Any], param: str, hint: str
) -> None:
    found = await fault(service, path, body)
    assert found["message"].startswith(f"{param!r} is not a ")
    assert hint in found["message"]
    assert found["param"] == param


async def test_filters_and_messages_of_the_websocket_have_hints(service: Service) -> None:
    answer = await service.http.get("/tasks?state=failed&statuss=failed")
    assert refused(answer, 422, "invalid_request")["param"] in ("state", "statuss")
    answer = await service.http.get("/tasks?sesion_id=a")
    assert "did you mean 'session_id'?" in refused(answer, 422, "invalid_request")["message"]
    async with service.ws("/ws") as socket:
        await socket.send('{"op": "subscribe", "taskid": "x"}')
        assert "did you mean 'task_id'?" in (await message(socket))["error"]["message"]
        await socket.send('{"op": "submit", "task": {"content": "x", "max_tokens": 5}}')
        error = (await message(socket))["error"]
        assert error["param"] == "max_tokens"
        assert "'max_tokens' is not a field of a task: put it into params" in error["message"]


@pytest.mark.parametrize(
    ("body", "param", "hint"),
    [
        (TASK | {"tools": [{"type": "function"}]}, "tools", "go into params.tools"),
        (TASK | {"tools": ["read_file"]}, "tools", "go into params.tools"),
        (TASK | {"params": {"model": "fast"}}, "params", "put it beside params"),
        (TASK | {"params": {"stream": True}}, "params", "leave it out of params"),
        (TASK | {"token_budget": 5}, "token_budget", "params.max_tokens"),
    ],
)
async def test_openais_fields_at_the_wrong_place_are_answered_with_the_right_one(
    service: Service, body: dict[str, Any], param: str, hint: str
) -> None:
    found = await fault(service, "/tasks", body)
    assert hint in found["message"]
    assert found["param"] == param
