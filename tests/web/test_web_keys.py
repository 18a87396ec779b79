"""`Idempotency-Key` at every endpoint that makes something, and names of schedules."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.web.serving import Service, ask, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT = "/v1/chat/completions"
BODY = {"model": "fast", "messages": [{"role": "user", "content": "x"}]}
LINE = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"fast",'
LINE += b'"messages":[{"role":"user","content":"x"}]}}\n'

Make = Callable[[Service, str, str, dict[str, str]], Awaitable[httpx.Response]]


async def schedule(
    service: Service, key: str, variant: str, headers: dict[str, str]
) -> httpx.Response:
    body = {"cron": "0 9 * * *", "task": {"content": variant}}
    return await service.http.post(
        "/schedules", json=body, headers={"idempotency-key": key} | headers
    )


async def file(service: Service, key: str, variant: str, headers: dict[str, str]) -> httpx.Response:
    return await service.http.post(
        "/v1/files",
        files={"file": ("a.jsonl", variant.encode())},
        data={"purpose": "batch"},
        headers={"idempotency-key": key} | headers,
    )


async def batch(
    service: Service, key: str, variant: str, headers: dict[str, str]
) -> httpx.Response:
    held = await service.http.post(
        "/v1/files",
        files={"file": ("a", LINE)},
        data={"purpose": "batch"},
        headers={"idempotency-key": f"input-{key or 'none'}"[:200]} | headers,
    )
    body = {
        "input_file_id": held.json()["id"],
        "endpoint": CHAT,
        "completion_window": "24h",
        "metadata": {"variant": variant},
    }
    return await service.http.post(
        "/v1/batches", json=body, headers={"idempotency-key": key} | headers
    )


async def task(service: Service, key: str, variant: str, headers: dict[str, str]) -> httpx.Response:
    body = {"content": variant}
    return await service.http.post("/tasks", json=body, headers={"idempotency-key": key} | headers)


async def tasks(
    service: Service, key: str, variant: str, headers: dict[str, str]
) -> httpx.Response:
    body = {"tasks": [{"content": variant}, {"content": "more"}]}
    return await service.http.post(
        "/tasks/batch", json=body, headers={"idempotency-key": key} | headers
    )


async def response(
    service: Service, key: str, variant: str, headers: dict[str, str]
) -> httpx.Response:
    body = {"model": "fast", "input": variant, "background": True}
    return await service.http.post(
        "/v1/responses", json=body, headers={"idempotency-key": key} | headers
    )


MAKES: list[Make] = [schedule, file, batch, task, tasks, response]
LISTS = [(schedule, "/schedules"), (file, "/v1/files"), (batch, "/v1/batches"), (task, "/tasks")]


def made(answer: httpx.Response) -> Any:
    """What a request has made: its id, or its ids."""
    assert answer.status_code in (200, 201, 202), answer.text
    body = answer.json()
    if "tasks" in body:
        return [one["task_id"] for one in body["tasks"]]
    return body.get("schedule_id") or body.get("task_id") or body["id"]


@pytest.mark.parametrize("make", MAKES)
async def test_one_key_makes_one_thing(service: Service, make: Make) -> None:
    key = f"{make.__name__} once"
    first = await make(service, key, "x", {})
    again = await make(service, key, "x", {})
    assert again.status_code == 200
    assert made(again) == made(first)
    error = (await make(service, key, "y", {})).json()["error"]
    assert error["code"] == "idempotency_conflict"
    other = await make(service, key, "x", {"x-user": "ann"})
    assert made(other) != made(first)


@pytest.mark.parametrize("make", MAKES)
async def test_requests_with_one_key_at_once_make_one_thing(service: Service, make: Make) -> None:
    key = f"{make.__name__} at once"
    found = await asyncio.gather(*(make(service, key, "x", {}) for _ in range(8)))
    assert len({str(made(answer)) for answer in found}) == 1


@pytest.mark.parametrize(("make", "path"), LISTS)
async def test_nothing_else_is_left_by_them(fresh: Service, make: Make, path: str) -> None:
    await asyncio.gather(*(make(fresh, "k", "x", {}) for _ in range(4)))
    body = expect(await fresh.http.get(path), 200)
    listed = body.get("data") or body.get("schedules") or body["tasks"]
    assert len(listed) == 1


@pytest.mark.parametrize("make", MAKES)
async def test_a_key_is_known_after_a_restart(tmp_path: Path, make: Make) -> None:
    async with serving(tmp_path) as first:
        before = made(await make(first, "k", "x", {}))
    async with serving(tmp_path) as second:
        again = await make(second, "k", "x", {})
        assert (again.status_code, made(again)) == (200, before)


@pytest.mark.parametrize("one", MAKES)
@pytest.mark.parametrize("other", MAKES)
async def test_a_key_of_one_endpoint_is_not_another_s(
    service: Service, one: Make, other: Make
) -> None:
    if one is other:
        return
    key = f"{one.__name__} {other.__name__}"
    made(await one(service, key, "x", {}))
    refused(await other(service, key, "x", {}), 409, "idempotency_conflict")


@pytest.mark.parametrize("make", MAKES)
async def test_a_key_that_is_none_is_named(service: Service, make: Make) -> None:
    for key in ("", "k" * 256):
        answer = await make(service, key, "x", {})
        assert answer.status_code in (400, 422)
        assert answer.json()["error"]["param"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("make", "path"), [(schedule, "/schedules/{}"), (file, "/v1/files/{}"), (task, "/tasks/{}")]
)
async def test_a_key_is_forgotten_with_what_it_made(
    service: Service, make: Make, path: str
) -> None:
    key = f"{make.__name__} forgotten"
    first = made(await make(service, key, "x", {}))
    if make is task:
        await service.done(first)
    assert (await service.http.delete(path.format(first))).status_code in (200, 204)
    assert made(await make(service, key, "x", {})) != first


async def test_the_key_of_several_tasks_lives_as_long_as_one_of_them(tmp_path: Path) -> None:
    body = {"tasks": [{"content": str(n)} for n in range(4)]}
    headers = {"idempotency-key": "k"}
    async with serving(tmp_path) as service:
        first = await service.http.post("/tasks/batch", json=body, headers=headers)
        ids = made(first)
        for task_id in ids:
            await service.done(task_id)
        for task_id in (ids[0], ids[2], ids[1]):
            assert (await service.http.delete(f"/tasks/{task_id}")).status_code == 204
            again = await service.http.post("/tasks/batch", json=body, headers=headers)
            assert (again.status_code, made(again)) == (200, ids)
    async with serving(tmp_path) as service:
        newer = await service.submit("not of the batch")
        await service.done(newer)
        assert (await service.http.delete(f"/tasks/{ids[3]}")).status_code == 204
        again = await service.http.post("/tasks/batch", json=body, headers=headers)
        assert again.status_code == 202
        assert not set(made(again)) & set(ids)


async def test_a_socket_s_submit_takes_a_key(service: Service) -> None:
    wish = {"op": "submit", "task": {"content": "x"}, "idempotency_key": "of a socket"}
    async with service.ws() as socket:
        first, again = await ask(socket, **wish), await ask(socket, **wish)
        assert first["task_id"] == again["task_id"]
        other = await ask(socket, **(wish | {"task": {"content": "y"}}))
        assert other["error"]["code"] == "idempotency_conflict"
        for key in ("", 5, "k" * 256):
            wrong = await ask(socket, **(wish | {"idempotency_key": key}))
            assert wrong["error"]["param"] == "idempotency_key"
    by_http = await task(service, "of a socket", "x", {})
    assert (by_http.status_code, made(by_http)) == (200, first["task_id"])


# Names of schedules --------------------------------------------------------------------------


async def named(service: Service, cron: str, content: str, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    body = {"cron": cron, "task": {"content": content}} | more
    return await service.http.post("/schedules", json=body, headers=headers)


async def test_a_known_name_replaces_what_its_schedule_does(fresh: Service) -> None:
    first = expect(await named(fresh, "0 9 * * *", "a", name="news"), 201)
    again = expect(await named(fresh, "30 18 * * *", "b", name="news"), 200)
    assert (again["schedule_id"], again["name"]) == (first["schedule_id"], "news")
    assert again["next_run_at"].endswith("18:30:00.000Z")
    shown = expect(await fresh.http.get(f"/schedules/{first['schedule_id']}"), 200)
    assert (shown["task"], shown["cron"]) == ({"content": "b"}, "30 18 * * *")
    assert shown["created_at"] == first["created_at"]
    other = expect(await named(fresh, "0 9 * * *", "a", name="news", headers={"x-user": "b"}), 201)
    assert other["schedule_id"] != first["schedule_id"]
    expect(await named(fresh, "0 9 * * *", "a"), 201)
    assert len(expect(await fresh.http.get("/schedules"), 200)["schedules"]) == 3


async def test_a_name_is_known_after_a_restart_and_free_after_a_deletion(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        first = expect(await named(service, "0 9 * * *", "a", name="n"), 201)["schedule_id"]
    async with serving(tmp_path) as service:
        again = expect(await named(service, "0 9 * * *", "a", name="n"), 200)["schedule_id"]
        assert again == first
        await service.http.delete(f"/schedules/{first}")
        newer = expect(await named(service, "0 9 * * *", "a", name="n"), 201)["schedule_id"]
        assert newer != first


async def test_one_name_at_once_makes_one_schedule(fresh: Service) -> None:
    posts = (named(fresh, "0 9 * * *", str(n), name="n") for n in range(10))
    statuses = sorted(answer.status_code for answer in await asyncio.gather(*posts))
    assert statuses == [200] * 9 + [201]
    assert len(expect(await fresh.http.get("/schedules"), 200)["schedules"]) == 1


async def test_what_is_refused_replaces_nothing(fresh: Service) -> None:
    first = expect(await named(fresh, "0 9 * * *", "a", name="n"), 201)
    refused(await named(fresh, "*/61 * * * *", "b", name="n"), 422, "invalid_request")
    found = expect(await fresh.http.get(f"/schedules/{first['schedule_id']}"), 200)
    assert found == first
    for name in ("", " ", 5, ["n"], "n" * 101):
        answer = await named(fresh, "0 9 * * *", "a", name=name)
        assert refused(answer, 422, "invalid_request")["param"] == "name"
