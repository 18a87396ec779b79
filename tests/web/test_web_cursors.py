"""Cursors that this service has not given: refused on every list and every stream."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.web.serving import Service, ask, expect, refused, rest, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUMBERS = ["-1", " 7 ", "7 ", "1e3", "+5", "", "٣", "１", "1_0", "01", "0x1", "1.0", "nan", "None"]
NUMBERS += [str(2**63), str(2**64), "9" * 300, "99999999", "\x00"]
SSE = {"accept": "text/event-stream"}


def packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest_asyncio.fixture(loop_scope="module", params=["finished", "waiting"])
async def task(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[dict[str, Any]]:
    if request.param == "finished":
        yield await service.done(await service.submit())
    else:
        yield await service.task(await service.submit(delay_s=3600))


@pytest.mark.parametrize("cursor", NUMBERS)
@pytest.mark.parametrize("headers", [{}, SSE])
async def test_events(
    service: Service, task: dict[str, Any], cursor: str, headers: dict[str, str]
) -> None:
    answer = await service.http.get(
        f"/tasks/{task['task_id']}/events", params={"after": cursor}, headers=headers
    )
    error = refused(answer, 422, "invalid_request")
    assert error["param"] == "after"
    assert "not one of our cursors" in error["message"]


@pytest.mark.parametrize("cursor", ["-1", "1e3", "+5", "1_0", str(2**63), "99", "x"])
async def test_last_event_id(service: Service, task: dict[str, Any], cursor: str) -> None:
    answer = await service.http.get(
        f"/tasks/{task['task_id']}/events", headers=SSE | {"last-event-id": cursor}
    )
    refused(answer, 422, "invalid_request")


@pytest.mark.parametrize("cursor", ["-1", "%207", "1e3", "%2B5", "", "%D9%A3", str(2**63), "99"])
async def test_the_socket_of_a_task(service: Service, task: dict[str, Any], cursor: str) -> None:
    async with service.ws(f"/ws/tasks/{task['task_id']}?after={cursor}") as socket:
        messages, code = await rest(socket)
    assert code == 4400
    assert (messages[0]["op"], messages[0]["error"]["param"]) == ("error", "after")
    assert len(messages) == 1


async def test_a_subscription(service: Service, task: dict[str, Any]) -> None:
    for cursor in (task["seq"] + 1, 99, 2**62, -1, "1", 1.0, None, True):
        async with service.ws() as socket:
            answer = await ask(socket, op="subscribe", task_id=task["task_id"], after=cursor)
        assert answer["error"]["param"] == "after", cursor


async def test_the_whole_feed(service: Service) -> None:
    for cursor in (2**62, 10**9, -1, "1", 1.0, None, True):
        async with service.ws() as socket:
            answer = await ask(socket, op="subscribe", all=True, after_id=cursor)
        assert answer["error"]["param"] == "after_id", cursor


@pytest.mark.parametrize(
    "cursor",
    [
        *(packed(number) for number in NUMBERS if number), "", " ", "!!", "é", "AAAA", "0", "-1",
        str(2**63), packed("1") + "=", packed("1") + " ", packed("01"), packed("0"), "file-1",
        packed("1") * 50, "1" * 5000,
    ],
)  # fmt: skip
async def test_the_list_of_tasks(service: Service, cursor: str) -> None:
    await service.submit(delay_s=3600)
    answer = await service.http.get("/tasks", params={"cursor": cursor})
    error = refused(answer, 422, "invalid_request")
    assert error["param"] == "cursor"


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
@pytest.mark.parametrize(
    "cursor",
    ["", "7", "-1", "file-1", "batch_1", "file-01ffffff-ffff-7fff-bfff-ffffffffffff", "task"],
)
async def test_the_lists_of_v1(service: Service, path: str, cursor: str) -> None:
    answer = await service.http.get(path, params={"after": cursor})
    assert refused(answer, 400, "invalid_request")["param"] == "after"


async def test_a_batch_is_no_file_and_a_file_no_batch(service: Service) -> None:
    form = {"files": {"file": ("a", b"x")}, "data": {"purpose": "batch"}}
    made = expect(await service.http.post("/v1/files", **form), 200)  # type: ignore[arg-type]
    expect(await service.http.get("/v1/files", params={"after": made["id"]}), 200)
    answer = await service.http.get("/v1/batches", params={"after": made["id"]})
    assert refused(answer, 400, "invalid_request")["param"] == "after"


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_files_may_be_deleted_while_they_are_listed(
    tmp_path_factory: pytest.TempPathFactory, order: str
) -> None:
    async with serving(tmp_path_factory.mktemp("files")) as own:
        form = {"files": {"file": ("a", b"x")}, "data": {"purpose": "batch"}}
        made = [
            (await own.http.post("/v1/files", **form)).json()["id"]  # type: ignore[arg-type]
            for _ in range(5)
        ]
        seen, query = list[str](), {"limit": "1", "order": order}
        while True:
            page = expect(await own.http.get("/v1/files", params=query), 200)
            for one in page["data"]:
                seen.append(one["id"])
                expect(await own.http.delete(f"/v1/files/{one['id']}"), 200)
            if not page["has_more"]:
                break
            query["after"] = page["last_id"]
        assert seen == (made if order == "asc" else made[::-1])


@pytest.mark.parametrize("cursor", ["-2", " 7 ", "1e3", "+5", "", "٣", "999", str(2**63)])
async def test_the_events_of_a_response(service: Service, cursor: str) -> None:
    body = {"model": "fast", "input": "x"}
    made = expect(await service.http.post("/v1/responses", json=body), 200)
    query = {"stream": "true", "starting_after": cursor}
    answer = await service.http.get(f"/v1/responses/{made['id']}", params=query)
    assert refused(answer, 400, "invalid_request")["param"] == "starting_after"


@pytest.mark.parametrize("cursor", ["", "7", "msg_1"])
async def test_the_items_of_a_response(service: Service, cursor: str) -> None:
    body = {"model": "fast", "input": "x"}
    made = expect(await service.http.post("/v1/responses", json=body), 200)
    answer = await service.http.get(
        f"/v1/responses/{made['id']}/input_items", params={"after": cursor}
    )
    assert refused(answer, 400, "invalid_request")["param"] == "after"
