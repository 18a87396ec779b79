"""The settings file edited under a running service: SIGHUP and POST /admin/reload."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.flows.process import PATIENCE_S, Provider, Remote, service, settings
from tests.web.serving import expect, refused

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")


async def logged(remote: Remote, words: str, times: int = 1) -> None:
    """Until the log says so."""
    async with asyncio.timeout(PATIENCE_S):
        while remote.process.log.count(words) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def model(remote: Remote, name: str = "fast") -> dict[str, object]:
    models = expect(await remote.http.get("/models"), 200)["models"]
    found: dict[str, object] = next(one for one in models if one["name"] == name)
    return found


@unix
async def test_sighup_reads_the_file_again_and_disturbs_no_task(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url, concurrency=1)
    async with service(path) as remote:
        running = await remote.running("[[sim:tokens=40]][[sim:rate=40]][[id:run]]")
        settings(tmp_path, sim.url, concurrency=3)
        remote.process.send(signal.SIGHUP)
        await logged(remote, "settings read again: models.fast.concurrency 1 -> 3")
        assert (await model(remote))["concurrency"] == 3
        path.write_text(path.read_text().replace("concurrency = 3", "concurrency = 0\nrmp = 3"))
        remote.process.send(signal.SIGHUP)
        await logged(remote, "settings not read again: ", times=2)
        assert "models.fast.rmp: unknown key; did you mean 'rpm'?" in remote.process.log
        assert (await model(remote))["concurrency"] == 3
        assert (await remote.done(running))["status"] == "completed"
        assert len(await sim.calls("run")) == 1
        remote.process.send(signal.SIGTERM)
        assert await remote.process.ended() == 0
        assert "Traceback" not in remote.process.log


async def test_a_reload_by_http_tells_what_has_changed(tmp_path: Path, sim: Provider) -> None:
    path = settings(tmp_path, sim.url, concurrency=1)
    async with service(path) as remote:
        running = await remote.running("[[sim:tokens=40]][[sim:rate=40]][[id:gone]]")
        waiting = await remote.submit("[[id:moved]]")
        pinned = await remote.submit("x", model="fast")
        text = path.read_text().replace("port = 0", "port = 1").replace("models.fast", "models.new")
        path.write_text(text)
        answer = await remote.http.post("/admin/reload")
        assert expect(answer, 200) == {
            "changed": {},
            "added": ["new"],
            "removed": ["fast"],
            "needs_restart": ["server.port"],
            "variables": [],
            "enabled": [],
            "disabled": {},
        }
        assert (await remote.done(running))["metadata"]["name"] == "fast"
        assert (await remote.done(waiting))["metadata"]["name"] == "new"
        assert (await remote.task(pinned))["status"] == "pending"
        answer = await remote.http.post("/tasks", json={"content": "x", "model": "fast"})
        refused(answer, 404, "model_not_found")


async def test_faults_of_the_file_are_all_named_and_change_nothing(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url)
    async with service(path) as remote:
        before = expect(await remote.http.get("/models"), 200)
        good = path.read_text()
        path.write_text(f"{good}rpm = true\n[retry]\nbase_s = -1\n[models.b]\npreset = 'no'\n")
        error = refused(await remote.http.post("/admin/reload"), 422, "invalid_request")
        assert len(error["message"].splitlines()) == 3
        for key in ("models.fast.rpm", "retry.base_s", "models.b.model"):
            assert f"{key}: " in error["message"]
        path.write_text(f"{good}[models.b]\npreset = 'no'\nmodel = 'm'\n")
        error = refused(await remote.http.post("/admin/reload"), 422, "invalid_request")
        assert "unknown preset 'no'" in error["message"]
        path.write_text("= nonsense")
        refused(await remote.http.post("/admin/reload"), 422, "invalid_request")
        path.unlink()
        error = refused(await remote.http.post("/admin/reload"), 422, "invalid_request")
        assert "no such file" in error["message"]
        assert expect(await remote.http.get("/models"), 200) == before
        assert (await remote.done(await remote.submit("x")))["status"] == "completed"
