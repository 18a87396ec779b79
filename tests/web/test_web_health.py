"""/health, /livez, /readyz and the front door."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from asyncsvc.errors import StorageUnavailable
from asyncsvc.storage.database import Database
from asyncsvc.storage.entries import Commit
from tests.web.serving import Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_sound_service_is_ok(service: Service) -> None:
    body = expect(await service.http.get("/health"), 200)
    assert (body["status"], body["problems"]) == ("ok", [])
    assert body["gateway_running"] is True
    assert body["components"] == {
        "queue": True, "cache": True, "sqlite_persistence": True, "storage_mode": "sqlite",
    }  # fmt: skip
    assert set(body["cache"]) == {"entries", "bytes", "hits", "misses", "shared"}
    assert body["v1_compatible"] is True
    assert body["sqlite_version"] == sqlite3.sqlite_version
    assert set(body["models"]) == {"fast", "embed"}
    assert body["started_at"].endswith("Z")


async def test_the_figures_follow_the_tasks(fresh: Service) -> None:
    await fresh.running()
    await fresh.submit(delay_s=3600)
    body = expect(await fresh.http.get("/health"), 200)
    assert (body["unfinished"], body["running"], body["waiting"]) == (2, 1, 0)


async def test_supervisors_get_plain_words(service: Service) -> None:
    for path in ("/livez", "/readyz"):
        answer = await service.http.get(path)
        assert (answer.status_code, answer.text) == (200, "ok")
        assert answer.headers["content-type"].startswith("text/plain")


async def test_the_front_door_says_who_this_is(service: Service) -> None:
    answer = await service.http.get("/", headers={"accept": "application/json"})
    body = expect(answer, 200)
    assert (body["name"], body["status"]) == ("asyncsvc", "ok")
    assert body["models"] == ["fast", "embed"]


async def test_without_a_model_it_is_degraded(tmp_path: Path) -> None:
    models = {"dumb": {"base_url": "http://127.0.0.1:1", "model": "m", "api_key_env": "NO_KEY"}}
    async with serving(tmp_path, models=models) as service:
        body = expect(await service.http.get("/health"), 200)
        assert body["status"] == "degraded"
        assert body["problems"] == ["no model is enabled"]
        assert "NO_KEY" in body["models"]["dumb"]["reason"]
        assert (await service.http.get("/readyz")).status_code == 200


async def test_a_disk_that_refuses_is_reported_until_it_takes_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, refusing = Database.commit, True

    async def commit(store: Database, batch: Commit) -> None:
        if refusing:
            raise StorageUnavailable("the disk is full")
        await plain(store, batch)

    async with serving(tmp_path) as service:
        monkeypatch.setattr(Database, "commit", commit)
        answer = await service.http.post("/tasks", json={"content": "x"})
        assert "nothing was stored" in refused(answer, 503, "overloaded")["message"]
        body = expect(await service.http.get("/health"), 200)
        assert (body["status"], body["components"]["sqlite_persistence"]) == ("degraded", False)
        assert [reason["name"] for reason in body["reasons"]] == ["storage"]
        refusing = False
        async with asyncio.timeout(20):  # no client submits: the service tries by itself
            while expect(await service.http.get("/health"), 200)["status"] != "ok":
                pass


async def test_the_machine_is_described(service: Service) -> None:
    body = expect(await service.http.get("/health"), 200)
    assert body["storage"]["last_write_ok"] is True
    assert body["storage"]["disk_free_mb"] > 0
    assert body["memory_mb"] > 1
    assert body["loop_lag_ms"].keys() == {"p50", "p99"}
    assert (body["reasons"], body["taking_tasks"]) == ([], True)


async def test_an_open_breaker_is_reported(tmp_path: Path) -> None:
    breaker = {"failures": 2, "cooldown_s": 3600}
    async with serving(tmp_path, breaker=breaker, retry={"max_retries": 0}) as service:
        for _ in range(2):
            task = await service.done(await service.submit("[[sim:500]]", model="fast"))
            assert task["status"] == "failed"
        body = expect(await service.http.get("/health"), 200)
        assert body["problems"] == ["model fast: breaker open"]
        models = expect(await service.http.get("/models"), 200)["models"]
        assert (models[0]["breaker"], models[0]["errors"]) == ("open", 2)
