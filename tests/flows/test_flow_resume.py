"""A client that reads across a stop and a start of the service."""

import json
import signal
from pathlib import Path
from typing import Any

from tests.flows.process import Provider, Remote, service, settings
from tests.web.serving import ask, expect, message, rest, seqs, stored


async def stopped(remote: Remote) -> None:
    remote.process.send(signal.SIGTERM)
    assert await remote.process.ended() == 0


async def test_the_whole_feed_resumes_after_a_restart(tmp_path: Path, sim: Provider) -> None:
    path = settings(tmp_path, sim.url)
    async with service(path) as first:
        async with first.ws() as socket:
            await ask(socket, op="subscribe", all=True, after_id=0)
            ids = [await first.submit(f"[[sim:tokens=60]][[sim:rate=60]] {i}") for i in range(3)]
            early = [await message(socket) for _ in range(20)]
            first.process.send(signal.SIGTERM)
            more, code = await rest(socket)
        assert code == 1001
        assert await first.process.ended() == 0
    early = stored(early + more)
    async with service(path) as second:
        async with second.ws() as socket:
            await ask(socket, op="subscribe", all=True, after_id=early[-1]["id"])
            late: list[dict[str, Any]] = []
            while len({e["task_id"] for e in late if "usage" in e["data"]}) < len(ids):
                late += stored([await message(socket)])
        feed = early + late
        assert [e["id"] for e in feed] == sorted({e["id"] for e in feed})
        for task_id in ids:
            assert [e for e in feed if e["task_id"] == task_id] == await second.events(task_id)


async def test_an_eventsource_resumes_after_a_restart(tmp_path: Path, sim: Provider) -> None:
    path = settings(tmp_path, sim.url)
    async with service(path) as first:
        task_id = await first.speaking("[[sim:hang-stream at=5 x1]]")
        await stopped(first)
    async with service(path) as second:
        headers = {"accept": "text/event-stream", "last-event-id": "3"}
        answer = await second.http.get(f"/tasks/{task_id}/events", headers=headers)
        sent = [json.loads(line[6:]) for line in answer.text.splitlines() if line[:6] == "data: "]
        assert stored(sent) == (await second.events(task_id))[3:]


async def test_what_is_kept_is_the_same_after_a_restart(tmp_path: Path, sim: Provider) -> None:
    path = settings(tmp_path, sim.url)
    headers = {"idempotency-key": "k"}
    async with service(path) as first:
        posted = await first.http.post("/tasks", json={"content": "x"}, headers=headers)
        task_id = posted.json()["task_id"]
        failed = await first.submit("[[sim:400 x1]]", metadata={"k": ["é", 1.5, None]})
        tasks = [await first.done(one) for one in (task_id, failed)]
        events = [await first.events(one) for one in (task_id, failed)]
        listed = (await first.http.get("/tasks")).json()
        figures = (await first.http.get("/tasks/stats")).json()
        await stopped(first)
    async with service(path) as second:
        assert [await second.task(one) for one in (task_id, failed)] == tasks
        assert [await second.events(one) for one in (task_id, failed)] == events
        assert (await second.http.get("/tasks")).json() == listed
        assert (await second.http.get("/tasks/stats")).json() == figures
        again = await second.http.post("/tasks", json={"content": "x"}, headers=headers)
        assert (again.status_code, again.json()) == (200, posted.json())
        expect(await second.steer(failed, "retry"), 200)
        assert (await second.done(failed))["status"] == "completed"
        numbers = seqs(await second.events(failed))
        assert numbers == list(range(1, numbers[-1] + 1))


async def test_what_came_due_meanwhile_runs_at_the_start(tmp_path: Path, sim: Provider) -> None:
    path = settings(tmp_path, sim.url)
    async with service(path) as first:
        due = await first.submit("due", delay_s=0.3)
        behind = await first.submit("behind", session_id="s", delay_s=0.3)
        after = await first.submit("after", session_id="s")
        await stopped(first)
    async with service(path) as second:
        for task_id in (due, behind, after):
            assert (await second.done(task_id))["status"] == "completed"
        ended = [(await second.task(one))["finished_at"] for one in (behind, after)]
        assert ended == sorted(ended)
