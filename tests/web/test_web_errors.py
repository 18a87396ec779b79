"""The one shape of errors: unknown paths, wrong methods, faults of ours."""

import logging
import sqlite3

import pytest

from asyncsvc.errors import AsyncsvcError, StorageUnavailable
from asyncsvc.web.http import errors
from tests.web.serving import Service, refused
from tests.web.wire import head, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = {
    "/": {"GET"},
    "/health": {"GET"},
    "/livez": {"GET"},
    "/readyz": {"GET"},
    "/models": {"GET"},
    "/tasks": {"GET", "POST"},
    "/tasks/batch": {"POST"},
    "/tasks/stats": {"GET"},
    "/tasks/x": {"GET", "DELETE"},
    "/tasks/x/events": {"GET"},
    "/tasks/x/cancel": {"POST"},
    "/tasks/x/pause": {"POST"},
    "/tasks/x/resume": {"POST"},
    "/tasks/x/retry": {"POST"},
}


def allowed(verbs: set[str]) -> set[str]:
    return verbs | {"OPTIONS"} | ({"HEAD"} if "GET" in verbs else set())


async def test_unknown_paths_are_not_found(service: Service) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        for path in ("/nothing", "/tasks/x/dance", "/tasks/x/cancel/now", "/task", "/v1/nothing",
                     "/tasks//events", "/%00", "/..%2f", "/TASKS"):  # fmt: skip
            refused(await service.http.request(method, path), 404, "not_found")


async def test_a_wrong_method_is_a_405_that_lists_the_right_ones(service: Service) -> None:
    for path, verbs in METHODS.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - verbs:
            answer = await service.http.request(method, path)
            refused(answer, 405, "method_not_allowed")
            listed = {verb.strip() for verb in answer.headers["allow"].split(",")}
            assert listed == allowed(verbs), (method, path)


async def test_options_tells_the_methods(service: Service) -> None:
    for path, verbs in METHODS.items():
        answer = await service.http.options(path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert set(answer.headers["allow"].split(", ")) == allowed(verbs)
    refused(await service.http.options("/nothing"), 404, "not_found")


async def test_head_is_a_get_without_its_body(service: Service) -> None:
    task_id = await service.submit(delay_s=3600)
    paths = ("/", "/health", "/livez", "/models", "/tasks", "/tasks/stats", f"/tasks/{task_id}",
             f"/tasks/{task_id}/events")  # fmt: skip
    for path in paths:
        got, asked = await service.http.get(path), await service.http.head(path)
        assert (asked.status_code, asked.content) == (200, b""), path
        assert asked.headers["content-type"] == got.headers["content-type"]
    assert (await service.http.head("/tasks/unknown")).status_code == 404


async def test_head_of_a_live_stream_ends_at_once(service: Service) -> None:
    path = f"/tasks/{await service.running()}/events"
    async with wire(service.port) as line:
        answer = await line.ask(head("HEAD", path, "accept: text/event-stream"))
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (await line.ask(head("HEAD", "/livez"))).status == 200


async def test_a_fault_of_ours_tells_nothing_of_itself(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("asyncsvc.storage.database.Database.counts", broken)
    with caplog.at_level(logging.ERROR):
        answer = await service.http.get("/tasks/stats")
    error = refused(answer, 500, "internal")
    assert error["type"] == "server_error"
    assert "secret" not in answer.text
    assert "a fault of ours at GET /tasks/stats" in caplog.text
    assert (await service.http.get("/livez")).status_code == 200


async def test_a_disk_that_refuses_is_a_503_and_nothing_is_stored(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("asyncsvc.storage.connection.Writer.write", full)
        answer = await fresh.http.post("/tasks", json={"content": "x"})
    error = refused(answer, 503, "overloaded")
    assert "disk is full" in error["message"]
    assert int(answer.headers["retry-after"]) >= 1
    assert (await fresh.http.get("/tasks")).json()["tasks"] == []
    assert (await fresh.done(await fresh.submit("x")))["status"] == "completed"


async def test_an_error_that_no_client_can_have_caused_is_a_500() -> None:
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
    answer = errors.answer(scope, AsyncsvcError("odd"))
    assert answer.status_code == 500
    assert b"odd" not in bytes(answer.body)


async def test_a_refused_write_says_when_to_come_again() -> None:
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
    answer = errors.answer(scope, StorageUnavailable("no"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
