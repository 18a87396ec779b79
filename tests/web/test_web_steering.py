"""Cancel, pause, resume, retry and delete over HTTP."""

import asyncio

import pytest

from tests.web.serving import HANG, Service, expect, refused, seqs, text

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def until_left(service: Service, marker: str) -> None:
    """Until the provider has seen the client leave the call with this mark."""
    async with asyncio.timeout(20):
        while True:
            calls = [c for c in service.sim.simulator.calls() if c["marker"] == marker]
            if calls and calls[-1]["client_left"]:
                return
            await asyncio.sleep(0.005)


async def test_cancelling_a_running_task_closes_the_upstream_call(service: Service) -> None:
    task_id = await service.running(f"{HANG}[[id:c]]")
    task = expect(await service.steer(task_id, "cancel"), 200)
    assert (task["task_id"], task["status"], task["error"]) == (task_id, "cancelled", None)
    assert task["finished_at"] is not None
    await until_left(service, "c")


async def test_cancelling_what_waits_ends_it(service: Service) -> None:
    task_id = await service.submit(delay_s=3600)
    assert expect(await service.steer(task_id, "cancel"), 200)["status"] == "cancelled"
    assert (await service.task(task_id))["status"] == "cancelled"


async def test_a_cancelled_task_keeps_what_it_had(service: Service) -> None:
    task_id = await service.running("[[sim:hang-stream at=5]]")
    async with service.ws(f"/ws/tasks/{task_id}?after=3") as socket:
        await socket.recv()
    task = expect(await service.steer(task_id, "cancel"), 200)
    assert task["result"]
    assert task["result"] == text(await service.events(task_id))


async def test_a_paused_task_keeps_its_text_and_resumes_with_a_new_attempt(
    service: Service,
) -> None:
    task_id = await service.running("[[sim:hang-stream at=5 x1]][[id:p]]")
    async with service.ws(f"/ws/tasks/{task_id}?after=3") as socket:
        await socket.recv()
    task = expect(await service.steer(task_id, "pause"), 200)
    assert (task["status"], task["attempts"]) == ("paused", 0)
    assert task["result"]
    await until_left(service, "p")
    assert expect(await service.steer(task_id, "resume"), 200)["status"] in ("pending", "running")
    task = await service.done(task_id)
    events = await service.events(task_id)
    assert (task["status"], task["attempts"]) == ("completed", 1)
    assert [e["data"]["number"] for e in events if e["type"] == "attempt"] == [1, 2]
    assert task["result"] == text(events)


async def test_a_scheduled_task_resumes_to_its_time(service: Service) -> None:
    task_id = await service.submit(delay_s=3600)
    due = (await service.task(task_id))["next_run_at"]
    assert expect(await service.steer(task_id, "pause"), 200)["next_run_at"] is None
    task = expect(await service.steer(task_id, "resume"), 200)
    assert (task["status"], task["next_run_at"]) == ("scheduled", due)


async def test_events_tell_a_time_as_the_task_does(service: Service) -> None:
    task_id = await service.submit(delay_s=3600)
    for verb in ("pause", "resume"):
        expect(await service.steer(task_id, verb), 200)
    due = (await service.task(task_id))["next_run_at"]
    due_times = [e["data"].get("next_run_at") for e in await service.events(task_id)]
    assert due_times == [due, None, due]


async def test_a_refusal_is_in_the_words_of_the_verb(service: Service) -> None:
    task_id = await service.submit(delay_s=3600)
    for verb, word in (("resume", "resumed"), ("retry", "retried")):
        answer = refused(await service.steer(task_id, verb), 409, "illegal_transition")
        assert answer["message"] == f"a task that is scheduled cannot be {word}"


async def test_a_retry_starts_a_finished_task_anew(service: Service) -> None:
    task_id = await service.submit("[[sim:400 x1]]")
    task = await service.done(task_id)
    assert (task["status"], task["error"]["code"]) == ("failed", "upstream_rejected")
    assert task["error"].keys() == {"code", "message", "retryable"}
    before = seqs(await service.events(task_id))
    task = expect(await service.steer(task_id, "retry"), 200)
    assert (task["task_id"], task["error"], task["finished_at"]) == (task_id, None, None)
    task = await service.done(task_id)
    assert task["status"] == "completed"
    after = seqs(await service.events(task_id))
    assert after == list(range(1, after[-1] + 1))
    assert len(after) > len(before)


async def test_retry_is_for_every_finished_task(service: Service) -> None:
    done = await service.submit("x")
    await service.done(done)
    gone = await service.submit(delay_s=3600)
    await service.steer(gone, "cancel")
    for task_id in (done, gone):
        expect(await service.steer(task_id, "retry"), 200)
        assert (await service.done(task_id))["status"] == "completed"


async def test_what_the_state_does_not_allow_is_a_409(service: Service) -> None:
    done = await service.submit("x")
    await service.done(done)
    waiting = await service.submit(delay_s=3600)
    paused = await service.submit(delay_s=3600)
    await service.steer(paused, "pause")
    running = await service.running()
    for task_id, verbs in (
        (done, ("cancel", "pause", "resume")),
        (waiting, ("resume", "retry")),
        (paused, ("pause", "retry")),
        (running, ("resume", "retry")),
    ):
        before = await service.events(task_id)
        for verb in verbs:
            error = refused(await service.steer(task_id, verb), 409, "illegal_transition")
            assert error["message"].startswith("a task that is ")
        assert await service.events(task_id) == before


async def test_only_a_finished_task_can_be_deleted(fresh: Service) -> None:
    task_id = await fresh.running()
    path = f"/tasks/{task_id}"
    refused(await fresh.http.delete(path), 409, "illegal_transition")
    await fresh.steer(task_id, "cancel")
    answer = await fresh.http.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    refused(await fresh.http.get(path), 404, "task_not_found")
    refused(await fresh.http.delete(path), 404, "task_not_found")
    assert expect(await fresh.http.get("/tasks/stats"), 200)["total"] == 0


async def test_a_deleted_task_frees_its_idempotency_key(service: Service) -> None:
    headers = {"idempotency-key": "k"}
    first = await service.http.post("/tasks", json={"content": "x"}, headers=headers)
    task_id = first.json()["task_id"]
    await service.done(task_id)
    await service.http.delete(f"/tasks/{task_id}")
    second = await service.http.post("/tasks", json={"content": "x"}, headers=headers)
    assert second.status_code == 202


async def test_the_body_of_a_verb_without_fields_does_not_matter(service: Service) -> None:
    task_id = await service.submit(delay_s=3600)
    path = f"/tasks/{task_id}"
    assert (await service.http.post(f"{path}/pause", content=b"\xff{")).status_code == 200
    for verb in ("resume", "approve", "deny"):
        refused(await service.http.post(f"{path}/{verb}", content=b"\xff{"), 400, "invalid_json")
        wrong = await service.http.post(f"{path}/{verb}", json={"decisoin": "rerun"})
        assert refused(wrong, 422, "invalid_request")["param"] == "decisoin"
    assert (await service.http.post(f"{path}/resume", json={})).status_code == 200
    assert (await service.http.post(f"{path}/cancel", content=b"\xff{")).status_code == 200


async def test_steering_one_task_at_the_same_moment_leaves_one_winner(service: Service) -> None:
    task_id = await service.running()
    verbs = ["cancel", "pause"] * 5
    answers = await asyncio.gather(*(service.steer(task_id, verb) for verb in verbs))
    assert {answer.status_code for answer in answers} <= {200, 409}
    events = await service.events(task_id)
    assert [e["data"]["status"] for e in events if e["type"] == "status"].count("cancelled") == 1
    assert seqs(events) == list(range(1, len(events) + 1))
