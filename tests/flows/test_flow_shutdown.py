"""SIGTERM: the grace, what is answered meanwhile, and what is left for the next start."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from tests.flows.process import PATIENCE_S, Provider, Remote, service, settings
from tests.web.serving import expect, refused, rest, seqs, stored

FOREVER = 600.0
"""A grace that no test waits for."""


async def draining(remote: Remote) -> None:
    """Until the service says that it stops."""
    async with asyncio.timeout(PATIENCE_S):
        while (await remote.http.get("/readyz")).status_code != 503:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_what_ends_within_the_grace_is_completed_and_the_rest_goes_on_later(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url, grace_s=3.0, concurrency=2)
    async with service(path) as first:
        quick = await first.submit("[[sim:tokens=30]][[sim:rate=40]]")
        stuck = await first.speaking("[[sim:hang-stream at=4 x1]][[id:stuck]]")
        waiting = await first.submit("w [[id:w]]")
        async with first.ws(f"/ws/tasks/{stuck}") as socket, first.ws() as idle:
            first.process.send(signal.SIGTERM)
            ends = await asyncio.gather(rest(socket), rest(idle))
        assert await first.process.ended() == 0
    assert [code for _, code in ends] == [1001, 1001]
    received = stored(ends[0][0])
    assert received[-1]["data"]["cause"] == "interrupted"
    assert "Traceback" not in first.process.log
    async with service(path) as second:
        assert (await second.task(quick))["status"] == "completed"
        assert len([e for e in await second.events(quick) if e["type"] == "attempt"]) == 1
        for task_id in (stuck, waiting):
            task = await second.done(task_id)
            assert (task["status"], task["attempts"]) == ("completed", 1)
        events = await second.events(stuck)
        assert events[: len(received)] == received
        assert seqs(events) == list(range(1, len(events) + 1))
        assert len(await sim.calls("stuck")) == 2
        assert len(await sim.calls("w")) == 1


async def test_while_it_drains_nothing_new_is_taken(tmp_path: Path, sim: Provider) -> None:
    async with service(settings(tmp_path, sim.url, grace_s=FOREVER)) as remote:
        task_id = await remote.running()
        remote.process.send(signal.SIGTERM)
        await draining(remote)
        answer = await remote.http.post("/tasks", json={"content": "x"})
        refused(answer, 503, "shutting_down")
        assert int(answer.headers["retry-after"]) >= 1
        answer = await remote.http.post("/tasks/batch", json={"tasks": [{"content": "x"}]})
        refused(answer, 503, "shutting_down")
        health = expect(await remote.http.get("/health"), 200)
        assert (health["status"], health["gateway_running"]) == ("degraded", False)
        assert expect(await remote.http.get("/"), 200)["status"] == "stopping"
        assert (await remote.task(task_id))["status"] == "running"
        expect(await remote.steer(task_id, "cancel"), 200)
        assert await remote.process.ended() == 0
        with pytest.raises(httpx.ConnectError):
            await remote.http.get("/livez")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_skips_the_grace(
    tmp_path: Path, sim: Provider, number: signal.Signals
) -> None:
    path = settings(tmp_path, sim.url, grace_s=FOREVER)
    async with service(path) as first:
        task_id = await first.speaking("[[sim:hang-stream at=1 x1]]")
        first.process.send(number)
        await draining(first)
        first.process.send(number)
        assert await first.process.ended() == 0
    async with service(path) as second:
        task = await second.done(task_id)
        assert (task["status"], task["attempts"]) == ("completed", 1)


async def test_an_idle_service_ends_at_once(tmp_path: Path, sim: Provider) -> None:
    async with service(settings(tmp_path, sim.url, grace_s=FOREVER)) as remote:
        remote.process.send(signal.SIGTERM)
        assert await remote.process.ended() == 0
