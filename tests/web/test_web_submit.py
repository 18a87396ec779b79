"""POST /tasks and /tasks/batch."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.web.serving import HANG, Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_submit_is_answered_202_with_the_place_of_the_task(service: Service) -> None:
    answer = await service.http.post("/tasks", json={"content": "hi", "model": "fast"})
    body = expect(answer, 202)
    assert body.keys() == {"task_id", "status", "message", "model", "position", "eta_s"}
    assert (body["status"], body["model"]) == ("pending", "fast")
    assert answer.headers["location"] == f"/tasks/{body['task_id']}"
    assert answer.headers["content-type"] == "application/json"
    assert (await service.http.get(answer.headers["location"])).status_code == 200


async def test_a_task_runs_and_its_answer_can_be_read(service: Service) -> None:
    task = await service.done(await service.submit("hi"))
    assert task["status"] == "completed"
    assert task["content"] == "hi"
    assert task["result"]
    assert task["error"] is None
    assert task["attempts"] == 1
    meta = task["metadata"]
    assert (meta["model"], meta["name"], meta["cached"]) == ("sim", "fast", False)
    usage = meta["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert task["created_at"] <= task["started_at"] <= task["finished_at"]
    assert task["created_at"].endswith("Z")


async def test_messages_are_given_back_as_they_were(service: Service) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "你好"}]
    answer = await service.http.post("/tasks", json={"messages": messages})
    task = await service.done(expect(answer, 202)["task_id"])
    assert task["messages"] == messages
    assert "content" not in task


async def test_an_embedding_gives_one_vector_a_text(service: Service) -> None:
    for texts in ("one", ["one", "two"]):
        answer = await service.http.post("/tasks", json={"type": "embedding", "input": texts})
        task = await service.done(expect(answer, 202)["task_id"])
        assert task["input"] == texts
        assert len(task["result"]) == (1 if isinstance(texts, str) else len(texts))
        assert all(isinstance(x, float) for vector in task["result"] for x in vector)


async def test_all_fields_of_this_version_are_taken(service: Service) -> None:
    fields = {
        "content": "x", "type": "chat", "model": "fast", "lane": "long", "priority": 9,
        "params": {"temperature": 0.5, "max_tokens": 5}, "session_id": "s", "timeout_s": 60,
        "max_retries": 0, "max_wait_s": 3600, "cache": False, "metadata": {"k": [1, None, "é"]},
        "retry_unsafe": True, "delay_s": 3600,
    }  # fmt: skip
    answer = expect(await service.http.post("/tasks", json=fields), 202)
    assert answer["status"] == "scheduled"
    task = await service.task(answer["task_id"])
    assert task["user_metadata"] == {"k": [1, None, "é"]}
    assert (task["lane"], task["priority"], task["session_id"]) == ("long", 9, "s")
    assert task["next_run_at"] is not None
    assert task["params"] == {"temperature": 0.5, "max_tokens": 5}


async def test_params_reach_the_provider(service: Service) -> None:
    task = await service.done(await service.submit("x", params={"max_tokens": 3}))
    assert task["metadata"]["usage"]["completion_tokens"] == 3


WRONG: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"content": ""}, None),
    ({"content": "x", "messages": [{"role": "user", "content": "x"}]}, None),
    ({"input": "x"}, None),
    ({"type": "embedding", "content": "x"}, None),
    ({"content": 5}, "content"),
    ({"content": "x", "contents": 1}, "contents"),
    ({"content": "x", "Priority": 1}, "Priority"),
    ({"content": "x", "priority": 10}, "priority"),
    ({"content": "x", "priority": -1}, "priority"),
    ({"content": "x", "priority": "5"}, "priority"),
    ({"content": "x", "priority": True}, "priority"),
    ({"content": "x", "lane": "fast"}, "lane"),
    ({"content": "x", "type": "poem"}, "type"),
    ({"content": "x", "params": []}, "params"),
    ({"content": "x", "params": {"stream": False}}, "params"),
    ({"content": "x", "params": {"n": 2}}, "params"),
    ({"content": "x", "params": {"thinking": "maybe"}}, "params"),
    ({"content": "x", "model": ""}, "model"),
    ({"content": "x", "session_id": "s" * 201}, "session_id"),
    ({"content": "x", "run_at": "tomorrow"}, "run_at"),
    ({"content": "x", "run_at": "2026-11-20T09:00:00"}, "run_at"),
    ({"content": "x", "delay_s": -1}, "delay_s"),
    ({"content": "x", "delay_s": 1, "run_at": "2030-01-01T00:00:00Z"}, None),
    ({"content": "x", "timeout_s": 0}, "timeout_s"),
    ({"content": "x", "max_retries": 1.5}, "max_retries"),
    ({"content": "x", "metadata": "text"}, "metadata"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages"),
    ({"messages": ["x"]}, "messages"),
    ({"messages": []}, None),
    ({"type": "embedding", "input": [1]}, "input"),
]


async def test_a_wrong_field_is_a_422_that_names_it(fresh: Service) -> None:
    for fields, param in WRONG:
        error = refused(await fresh.http.post("/tasks", json=fields), 422, "invalid_request")
        if param is not None:
            assert str(error["param"]).startswith(param), fields
            assert param in error["message"], fields
    assert expect(await fresh.http.get("/tasks/stats"), 200)["total"] == 0


async def test_metadata_of_16_kib_is_taken_and_one_byte_more_is_not(service: Service) -> None:
    def metadata(size: int) -> dict[str, str]:
        return {"k": "x" * (size - len('{"k":""}'))}

    task = await service.task(await service.submit(metadata=metadata(16384)))
    assert task["user_metadata"] == metadata(16384)
    answer = await service.http.post("/tasks", json={"content": "x", "metadata": metadata(16385)})
    assert refused(answer, 422, "invalid_request")["param"] == "metadata"


async def test_a_model_that_no_client_knows_is_a_404(service: Service) -> None:
    answer = await service.http.post("/tasks", json={"content": "x", "model": "gpt-9"})
    assert refused(answer, 404, "model_not_found")["param"] == "model"


async def test_a_chat_for_an_embedding_model_is_refused(service: Service) -> None:
    answer = await service.http.post("/tasks", json={"content": "x", "model": "embed"})
    assert refused(answer, 422, "invalid_request")["param"] == "model"


async def test_without_keys_a_submit_names_the_variables(tmp_path: Path) -> None:
    models = {
        name: {"base_url": "http://127.0.0.1:1/v1", "model": "m", "api_key_env": f"KEY_{name}"}
        for name in ("A", "B")
    }
    async with serving(tmp_path, models=models) as service:
        for model, named in ((None, ("KEY_A", "KEY_B")), ("A", ("KEY_A",))):
            answer = await service.http.post("/tasks", json={"content": "x", "model": model})
            error = refused(answer, 503, "no_model")
            assert all(name in error["message"] for name in named)
            assert int(answer.headers["retry-after"]) >= 1


async def test_a_full_queue_is_a_429_with_retry_after(tmp_path: Path) -> None:
    async with serving(tmp_path, queue={"max_length": 2}) as service:
        for _ in range(2):
            await service.submit(delay_s=3600)
        answer = await service.http.post("/tasks", json={"content": "x"})
        refused(answer, 429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_wait_beyond_max_wait_s_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        models = {"one": {"base_url": service.sim.base_url, "model": "m", "concurrency": 1,
                          "rpm": 1}}  # fmt: skip
        async with serving(tmp_path / "second", models=models) as narrow:
            await narrow.running()
            answer = await narrow.http.post("/tasks", json={"content": "x", "max_wait_s": 0.5})
            refused(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            assert expect(await narrow.http.get("/tasks/stats"), 200)["total"] == 1


async def test_the_same_key_and_body_give_the_first_answer_again(fresh: Service) -> None:
    first, second = [
        await fresh.http.post("/tasks", json=body, headers={"idempotency-key": "k"})
        for body in ({"content": "x", "priority": 5}, {"priority": 5, "content": "x"})
    ]
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json() == second.json()
    assert second.headers["location"] == first.headers["location"]
    assert expect(await fresh.http.get("/tasks/stats"), 200)["total"] == 1


async def test_the_same_key_with_another_body_is_a_conflict(service: Service) -> None:
    headers = {"idempotency-key": "other body"}
    await service.http.post("/tasks", json={"content": "x"}, headers=headers)
    answer = await service.http.post("/tasks", json={"content": "y"}, headers=headers)
    refused(answer, 409, "idempotency_conflict")


async def test_a_key_of_a_batch_has_a_length(service: Service) -> None:
    body, headers = {"tasks": [{"content": "x"}]}, {"idempotency-key": "k" * 256}
    answer = await service.http.post("/tasks/batch", json=body, headers=headers)
    refused(answer, 422, "invalid_request")


async def test_one_key_at_the_same_moment_makes_one_task(service: Service) -> None:
    posts = [
        service.http.post("/tasks", json={"content": "x"}, headers={"idempotency-key": "at once"})
        for _ in range(10)
    ]
    answers = await asyncio.gather(*posts)
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [202]
    assert len({answer.json()["task_id"] for answer in answers}) == 1


async def test_the_keys_of_two_users_are_their_own(service: Service) -> None:
    answers = [
        await service.http.post(
            "/tasks",
            json={"content": "x"},
            headers={"idempotency-key": "two users", "x-user": user},
        )
        for user in ("ann", "ben")
    ]
    assert [answer.status_code for answer in answers] == [202, 202]


async def test_a_key_has_1_to_255_characters(service: Service) -> None:
    for key in ("", "k" * 256):
        headers = {"idempotency-key": key}
        answer = await service.http.post("/tasks", json={"content": "x"}, headers=headers)
        refused(answer, 422, "invalid_request")


async def test_a_batch_is_answered_in_order(service: Service) -> None:
    tasks = [{"content": f"{i}", "delay_s": 60 * (i % 2)} for i in range(4)]
    answer = await service.http.post("/tasks/batch", json={"tasks": tasks})
    given = expect(answer, 202)["tasks"]
    assert [one.keys() for one in given] == [{"task_id", "status"}] * 4
    assert [one["status"] for one in given] == ["pending", "scheduled"] * 2
    contents = [(await service.task(one["task_id"]))["content"] for one in given]
    assert contents == ["0", "1", "2", "3"]


async def test_a_batch_of_1000_is_taken_and_of_1001_is_not(fresh: Service) -> None:
    tasks = [{"content": f"{i}", "delay_s": 3600} for i in range(1001)]
    answer = await fresh.http.post("/tasks/batch", json={"tasks": tasks})
    assert refused(answer, 422, "invalid_request")["param"] == "tasks"
    answer = await fresh.http.post("/tasks/batch", json={"tasks": tasks[:1000]})
    assert len({one["task_id"] for one in expect(answer, 202)["tasks"]}) == 1000
    assert expect(await fresh.http.get("/tasks/stats"), 200)["scheduled"] == 1000


WRONG_BATCHES: list[tuple[Any, str | None]] = [
    ({}, "tasks"),
    ({"tasks": []}, "tasks"),
    ({"tasks": {}}, "tasks"),
    ({"tasks": [{"content": "x"}, 5]}, "tasks.1"),
    ({"tasks": [{"content": "x"}, {"content": "x", "colour": 1}]}, "tasks.1.colour"),
    ({"tasks": [{"content": "x"}, {"content": "x", "priority": 11}]}, "tasks.1.priority"),
    ({"tasks": [{"content": "x"}], "atomic": True}, "atomic"),
    ({"tasks": [{"content": "x"}, {"content": "x", "model": "embed"}]}, "tasks.1.model"),
]


async def test_a_batch_with_a_key_is_taken_once(fresh: Service) -> None:
    batch = {"tasks": [{"content": f"{i}", "delay_s": 3600 * i} for i in range(3)]}

    async def again(body: dict[str, Any], path: str = "/tasks/batch") -> httpx.Response:
        return await fresh.http.post(path, json=body, headers={"idempotency-key": "k"})

    first, second = await asyncio.gather(again(batch), again(batch))
    assert sorted([first.status_code, second.status_code]) == [200, 202]
    assert first.json() == second.json()
    assert [one["status"] for one in first.json()["tasks"]] == ["pending", *["scheduled"] * 2]
    refused(await again({"tasks": batch["tasks"][:2]}), 409, "idempotency_conflict")
    refused(await again({"tasks": batch["tasks"][::-1]}), 409, "idempotency_conflict")
    refused(await again(batch["tasks"][0], "/tasks"), 409, "idempotency_conflict")
    assert expect(await fresh.http.get("/tasks/stats"), 200)["total"] == 3


async def test_a_batch_of_one_with_a_key_is_no_single_task(fresh: Service) -> None:
    headers = {"idempotency-key": "one"}
    body = {"content": "x", "delay_s": 3600}
    for status in (202, 200):
        answer = await fresh.http.post("/tasks/batch", json={"tasks": [body]}, headers=headers)
        assert len(expect(answer, status)["tasks"]) == 1
    refused(
        await fresh.http.post("/tasks", json=body, headers=headers), 409, "idempotency_conflict"
    )


async def test_one_wrong_task_refuses_the_whole_batch(fresh: Service) -> None:
    for body, param in WRONG_BATCHES:
        answer = await fresh.http.post("/tasks/batch", json=body)
        assert refused(answer, 422, "invalid_request")["param"] == param, body
    assert expect(await fresh.http.get("/tasks/stats"), 200)["total"] == 0


async def test_a_batch_that_would_overflow_the_queue_is_refused_wholly(tmp_path: Path) -> None:
    async with serving(tmp_path, queue={"max_length": 3}) as service:
        tasks = [{"content": "x", "delay_s": 3600}] * 4
        answer = await service.http.post("/tasks/batch", json={"tasks": tasks})
        refused(answer, 429, "queue_full")
        assert expect(await service.http.get("/tasks/stats"), 200)["total"] == 0


async def test_tasks_of_one_session_run_in_order(service: Service) -> None:
    first = await service.running(HANG, session_id="talk")
    second = await service.submit("x", session_id="talk")
    other = await service.submit("y")
    assert (await service.done(other))["status"] == "completed"
    assert (await service.task(second))["status"] == "pending"
    await service.steer(first, "cancel")
    assert (await service.done(second))["status"] == "completed"


async def test_what_was_written_in_chunks_is_the_result(service: Service) -> None:
    task_id = await service.submit("x")
    task = await service.done(task_id)
    lines = await service.events(task_id)
    assert "".join(e["data"]["text"] for e in lines if e["type"] == "chunk") == task["result"]


@pytest.mark.parametrize(
    ("path", "wrap", "param"),
    [
        ("/tasks", lambda task: task, "params.temperature"),
        ("/tasks/batch", lambda task: {"tasks": [task]}, "tasks.0.params.temperature"),
        (
            "/schedules",
            lambda task: {"cron": "0 0 * * *", "timezone": "UTC", "task": task},
            "task.params.temperature",
        ),
        ("/route", lambda task: task, "params.temperature"),
    ],
)
async def test_a_wrong_parameter_is_refused_on_every_door(
    service: Service, path: str, wrap: Any, param: str
) -> None:
    task = {"content": "hi", "params": {"temperature": "hot"}}
    answer = await service.http.post(path, json=wrap(task))
    assert refused(answer, 422, "invalid_request")["param"] == param


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, "max_tokens"),
        ("/v1/embeddings", {"input": "x"}, "dimensions"),
        ("/v1/responses", {"input": "x"}, "max_output_tokens"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_openai_s_api(
    service: Service, path: str, body: dict[str, Any], param: str
) -> None:
    answer = await service.http.post(path, json={"model": "auto", **body, param: -1})
    assert refused(answer, 400, "invalid_request")["param"] == param
