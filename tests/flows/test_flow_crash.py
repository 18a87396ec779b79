"""kill -9 in the middle of the work, and a start on the same database."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from tests.flows.process import Provider, Remote, service, settings, start
from tests.web.serving import expect, message, seqs, stored, text

FLOWING = "[[sim:tokens=500]][[sim:rate=100]][[sim:hang-stream at=450 x1]]"
STUCK = "[[sim:hang-stream at=30 x1]]"
STREAMS = {"s1": STUCK, "s2": STUCK, "s3": FLOWING, "s4": FLOWING}
"""What each asks of the provider: two are cut while they wait, two while they write (on a machine
that stands still for seconds they wait too; none ends before it is cut)."""


async def seen_by(remote: Remote, task_id: str, until: int) -> list[dict[str, Any]]:
    """A client's events up to so many, by its own socket."""
    found: list[dict[str, Any]] = []
    async with remote.ws(f"/ws/tasks/{task_id}") as socket:
        while len(found) < until:
            found += stored([await message(socket)])
    return found


async def seen_later(remote: Remote, task_id: str, after: int) -> list[dict[str, Any]]:
    """The rest, by a client that comes back with its last seq."""
    found: list[dict[str, Any]] = []
    async with remote.ws(f"/ws/tasks/{task_id}?after={after}") as socket:
        while not found or found[-1]["data"].get("status") != "completed":
            found += stored([await message(socket)])
    return found


async def test_a_crash_loses_nothing_and_repeats_nothing_finished(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url)
    async with service(path) as first:
        finished = await first.submit("done [[id:done]]")
        await first.done(finished)
        before = await first.events(finished)
        streams: list[str] = []
        seen: list[list[dict[str, Any]]] = []
        for name, ask in STREAMS.items():
            streams.append(await first.submit(f"{ask}[[id:{name}]]"))
            if ask is STUCK:  # those that write do so for a few seconds only: they come last
                seen.append(await seen_by(first, streams[-1], 4))
        waiting = [await first.submit(f"w [[id:w{i}]]") for i in range(3)]
        later = await first.submit("later", delay_s=3600)
        held = await first.submit("held")
        expect(await first.steer(held, "pause"), 200)
        flowing = streams[len(seen) :]
        seen += await asyncio.gather(*(seen_by(first, task_id, 4) for task_id in flowing))
        await first.process.kill()
    async with service(path) as second:
        resumed = await asyncio.gather(
            *(
                seen_later(second, task_id, events[-1]["seq"])
                for task_id, events in zip(streams, seen, strict=True)
            )
        )
        for task_id, name, old, new in zip(streams, STREAMS, seen, resumed, strict=True):
            await check_stream(second, sim, task_id, name, old + new)
        for index, task_id in enumerate(waiting):
            assert (await second.done(task_id))["status"] == "completed"
            assert len(await sim.calls(f"w{index}")) == 1
        assert await second.events(finished) == before
        assert len(await sim.calls("done")) == 1
        assert (await second.task(later))["status"] == "scheduled"
        assert (await second.task(held))["status"] == "paused"
    check_database(tmp_path / "tasks.db")


async def check_stream(
    remote: Remote, sim: Provider, task_id: str, name: str, events: list[dict[str, Any]]
) -> None:
    """It went on by itself, cost one attempt, and its text is the last call's."""
    assert events == await remote.events(task_id)
    assert seqs(events) == list(range(1, len(events) + 1))
    attempts = [e["data"]["number"] for e in events if e["type"] == "attempt"]
    assert attempts == [1, 2]
    task = await remote.task(task_id)
    assert (task["status"], task["attempts"]) == ("completed", 1)
    calls = await sim.calls(name)
    assert len(calls) == 2
    assert text(events) == task["result"] == calls[-1]["text"]


def check_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


async def test_what_was_acknowledged_is_there_after_a_kill_at_any_moment(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url)
    acknowledged: list[str] = []

    async def submit_on(remote: Remote) -> None:
        while True:
            acknowledged.append(await remote.submit("x", delay_s=3600))

    for round_ in range(3):
        async with service(path) as remote:
            submitting = [asyncio.create_task(submit_on(remote)) for _ in range(4)]
            async with asyncio.timeout(30):
                while len(acknowledged) < 25 * (round_ + 1):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            await remote.process.kill()
            await asyncio.gather(*submitting, return_exceptions=True)
    async with service(path) as remote:
        for task_id in acknowledged:
            assert (await remote.task(task_id))["status"] == "scheduled"
            assert seqs(await remote.events(task_id)) == [1]


async def test_a_second_instance_ends_with_one_clear_line(tmp_path: Path, sim: Provider) -> None:
    path = settings(tmp_path, sim.url)
    async with service(path) as first:
        async with start(path) as second:
            assert await second.ended() == 2
            assert second.line == ""
        lines = [line for line in first.process.log.splitlines() if "in use" in line]
        assert len(lines) == 1
        assert f"process {first.process.child.pid}" in lines[0]
        assert "Traceback" not in first.process.log
        assert (await first.http.get("/readyz")).status_code == 200


async def test_a_taken_port_is_one_clear_line(tmp_path: Path, sim: Provider) -> None:
    path = settings(tmp_path, sim.url)
    port = sim.url.rpartition(":")[2]
    path.write_text(path.read_text().replace("port = 0", f"port = {port}"))
    async with start(path) as process:
        assert await process.ended() == 2
        assert f"server.port: cannot listen on 127.0.0.1:{port}" in process.log
        assert "Traceback" not in process.log
    assert not (tmp_path / "tasks.db").exists()


async def test_the_shipped_settings_start_without_a_key(tmp_path: Path) -> None:
    shipped = (Path(__file__).parents[2] / "settings.toml").read_text(encoding="utf-8")
    path = tmp_path / "settings.toml"
    shipped = shipped.replace("port = 8000", "port = 0", 1)
    path.write_text(shipped.replace("data/asyncsvc.db", str(tmp_path / "tasks.db")))
    async with service(path) as remote:
        answer = await remote.http.post("/tasks", json={"content": "x"})
        error = expect(answer, 503)["error"]
        assert error["code"] == "no_model"
        for variable in ("ZHIPU_API_KEY", "HUNYUAN_API_KEY", "NVIDIA_API_KEY_1"):
            assert variable in error["message"]
        assert int(answer.headers["retry-after"]) >= 1
        answer = await remote.http.post("/tasks", json={"type": "embedding", "input": "x"})
        assert "SILICONFLOW_API_KEY" in expect(answer, 503)["error"]["message"]
        assert expect(await remote.http.get("/health"), 200)["status"] == "degraded"
