"""Schedules over HTTP."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.cron import schedules as engine
from tests.web.serving import PATIENCE_S, Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
DAILY: dict[str, Any] = {"cron": "0 0 * * *", "task": {"content": "tick"}}


async def made(service: Service, **fields: Any) -> dict[str, Any]:
    return expect(await service.http.post("/schedules", json=DAILY | fields), 201)


async def test_a_schedule_is_made_shown_listed_and_deleted(service: Service) -> None:
    task = {"content": "good morning", "lane": "long", "metadata": {"a": 1}}
    body = {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin", "task": task}
    answer = await service.http.post("/schedules", json=body)
    schedule = expect(answer, 201)
    path = f"/schedules/{schedule['schedule_id']}"
    assert answer.headers["location"] == path
    assert schedule["task"] == task
    assert schedule["next_run_at"].endswith("Z")
    assert (schedule["runs"], schedule["last_run_at"], schedule["last_error"]) == (0, None, None)
    assert expect(await service.http.get(path), 200) == schedule
    rows = expect(await service.http.get("/schedules"), 200)["schedules"]
    listed = next(row for row in rows if row["schedule_id"] == schedule["schedule_id"])
    assert listed == {name: value for name, value in schedule.items() if name != "task"}
    assert (await service.http.delete(path)).status_code == 204
    assert refused(await service.http.get(path), 404, "not_found")["param"] == "schedule_id"
    refused(await service.http.delete(path), 404, "not_found")


async def test_the_zone_is_utc_where_none_is_named(service: Service) -> None:
    schedule = await made(service)
    assert (schedule["timezone"], schedule["next_run_at"][11:]) == ("UTC", "00:00:00.000Z")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "0 0 */31 2 MON#2"}, "cron"),
        ({"cron": 5}, "cron"),
        ({"cron": None}, "cron"),
        ({"cron": " "}, "cron"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"timezone": "Europe"}, "timezone"),
        ({"timezone": ["UTC"]}, "timezone"),
        ({"task": None}, "task"),
        ({"task": "tick"}, "task"),
        ({"task": {}}, "task.content"),
        ({"task": {"content": "x", "run_at": "2027-01-01T00:00:00Z"}}, "task.run_at"),
        ({"task": {"content": "x", "delay_s": 0}}, "task.delay_s"),
        ({"task": {"content": "x", "contents": 1}}, "task.contents"),
        ({"task": {"content": "x", "priority": 10}}, "task.priority"),
        ({"task": {"type": "embedding", "input": "x", "model": "fast"}}, "task.model"),
        ({"tz": "UTC"}, "tz"),
    ],
)
async def test_what_is_wrong_is_named(service: Service, fields: dict[str, Any], param: str) -> None:
    answer = await service.http.post("/schedules", json=DAILY | fields)
    assert refused(answer, 422, "invalid_request")["param"] == param


async def test_an_unknown_model_is_reported_at_once(service: Service) -> None:
    task = {"content": "x", "model": "nope"}
    answer = await service.http.post("/schedules", json=DAILY | {"task": task})
    assert refused(answer, 404, "model_not_found")["param"] == "task.model"


async def test_bodies_and_methods_that_do_not_fit(service: Service) -> None:
    refused(await service.http.post("/schedules", content=b"{"), 400, "invalid_json")
    refused(await service.http.post("/schedules", json=[]), 422, "invalid_request")
    refused(await service.http.put("/schedules", json=DAILY), 405, "method_not_allowed")
    answer = await service.http.get("/schedules", params={"owner": "x"})
    assert refused(answer, 422, "invalid_request")["param"] == "owner"


async def test_one_more_than_the_limit_is_refused(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MOST", 1)
    await made(fresh)
    answer = await fresh.http.post("/schedules", json=DAILY)
    refused(answer, 429, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1


async def test_its_tasks_carry_its_id_and_its_owner(fresh: Service) -> None:
    body = DAILY | {"cron": "* * * * * *"}
    answer = await fresh.http.post("/schedules", json=body, headers={"X-User": "ada"})
    schedule = expect(answer, 201)
    async with asyncio.timeout(PATIENCE_S):
        while not (tasks := (await fresh.http.get("/tasks")).json()["tasks"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert tasks[0]["schedule_id"] == schedule["schedule_id"]
    owned = expect(await fresh.http.get("/tasks", params={"owner": "ada"}), 200)["tasks"]
    assert [task["task_id"] for task in tasks][-1] in [task["task_id"] for task in owned]
    assert (await fresh.done(tasks[-1]["task_id"]))["status"] == "completed"
    shown = expect(await fresh.http.get(f"/schedules/{schedule['schedule_id']}"), 200)
    assert shown["runs"] >= 1
    assert shown["last_task_id"]
    assert shown["last_due_at"][-5:] == ".000Z"


async def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as first:
        schedule = await made(first, timezone="Asia/Shanghai")
    async with serving(tmp_path) as second:
        path = f"/schedules/{schedule['schedule_id']}"
        assert expect(await second.http.get(path), 200) == schedule


async def test_a_task_by_hand_has_no_schedule(service: Service) -> None:
    assert (await service.task(await service.submit()))["schedule_id"] is None
