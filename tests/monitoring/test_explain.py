"""The story of tasks in a service with scripted providers, on virtual time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.access import SERVICE
from asyncsvc.errors import RateLimited, UpstreamOverloaded
from asyncsvc.web.tasks.explain import explained
from tests.engine_services import MOMENT, EngineServices, model
from tests.scripted import HANG, Script, ScriptedClient
from tests.virtual_time import virtual

TEN: Script = [10.0, "ok"]


async def story(services: EngineServices, task_id: str) -> dict[str, Any]:
    found = await explained(services.services, SERVICE, task_id)
    waits = found["waits"]
    parts = [*waits["queued_s"].values(), waits["session_s"]]
    parts += [waits["scheduled_s"], waits["retry_s"], waits["paused_s"]]
    assert sum(parts) == pytest.approx(found["totals"]["waiting_s"], abs=0.01)
    last = (await services.task(task_id)).finished_at or services.now()
    age = (last - (await services.task(task_id)).request.created_at) / 1000
    assert sum(found["totals"].values()) == pytest.approx(age, abs=0.01)
    return found


async def ended(services: EngineServices, task_id: str) -> dict[str, Any]:
    await services.finished(task_id)
    return await story(services, task_id)


@virtual
async def test_a_busy_model_is_the_reason(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient(TEN)) as services:
        await services.submit("first")
        await asyncio.sleep(4)
        found = await ended(services, await services.submit("second"))
        assert found["waits"]["queued_s"] == pytest.approx({"concurrency": 6.0}, abs=0.01)
        (attempt,) = found["attempts"]
        assert attempt["gate"]["name"] == "a"
        assert attempt["gate"]["concurrency"] == 1
        assert (attempt["first_token_s"], attempt["characters"]) == (10.0, 2)
        assert [step["what"] for step in found["timeline"]] == [
            "submitted", "started", "completed",
        ]  # fmt: skip
        assert [step["for_s"] for step in found["timeline"]] == pytest.approx(
            [6.0, 10.0, None], abs=0.01
        )
        assert found["now"] is None


@virtual
async def test_a_task_that_never_waited_says_so(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        found = await ended(services, await services.submit("x"))
        assert found["totals"]["waiting_s"] < 0.01
        assert found["attempts"][0]["waited"] == {}


@virtual
async def test_a_full_window_is_the_reason(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=50, rpm=6)}) as services:
        for task_id in await services.submit_many([f"p{n}" for n in range(6)]):
            await services.finished(task_id)
        found = await ended(services, await services.submit("y"))
        queued = found["waits"]["queued_s"]
        assert queued["rate"] > 50
        assert queued["rate"] / sum(queued.values()) > 0.99
        assert found["attempts"][0]["gate"]["window_limit"] == 6


@virtual
async def test_a_provider_that_asks_to_slow_down_is_the_reason(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on("x", [RateLimited("slow", retry_after=30)], ["ok"])
        found = await ended(services, await services.submit("x"))
        assert found["waits"]["queued_s"]["slow_down"] == pytest.approx(30, abs=0.1)
        first, second = found["attempts"]
        assert (first["outcome"], first["error"]["code"]) == ("deferred", "rate_limited")
        assert (second["outcome"], second["error"]) == ("completed", None)
        deferred = next(s for s in found["timeline"] if s["what"] == "deferred")
        assert deferred["why"] == "rate_limited: slow; tried again as soon as a gate opens"


@virtual
async def test_an_open_breaker_and_the_time_between_two_tries(tmp_path: Path) -> None:
    breaker = {"failures": 1, "cooldown_s": 40}
    async with EngineServices(tmp_path, breaker=breaker) as services:
        services.client.on("x", [UpstreamOverloaded("down")], ["ok"])
        found = await ended(services, await services.submit("x"))
        assert found["waits"]["retry_s"] + found["waits"]["queued_s"]["breaker"] == pytest.approx(
            40, abs=0.1
        )


@virtual
async def test_a_held_model_a_pause_and_a_schedule(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.services.holds.pause("a")
        task_id = await services.submit("x", delay_s=100)
        await asyncio.sleep(120)
        await services.services.control.pause(task_id)
        await asyncio.sleep(7)
        await services.services.control.resume(task_id)
        await asyncio.sleep(5)
        waiting = await story(services, task_id)
        assert waiting["now"]["reason"] == "a is paused"
        assert waiting["now"]["eta_s"] is None
        assert waiting["waits"]["queued_s"]["held"] == pytest.approx(5, abs=0.1)
        await services.services.holds.resume("a")
        waits = (await ended(services, task_id))["waits"]
        assert waits["scheduled_s"] == pytest.approx(100, abs=0.1)
        assert waits["paused_s"] == pytest.approx(7, abs=0.1)
        # Of the time before the pause no attempt tells.
        assert waits["queued_s"] == pytest.approx({"other": 20, "held": 5}, abs=0.1)


@virtual
async def test_a_session_is_the_reason(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient(TEN)) as services:
        first = await services.submit("x", session_id="s")
        await asyncio.sleep(1)
        answer = await services.answer("y", session_id="s")
        assert answer["message"] == f"accepted; behind task {first} of its session"
        assert answer["eta_s"] is None
        now = (await story(services, answer["task_id"]))["now"]
        assert now["reason"] == f"behind task {first} of its session"
        found = await ended(services, answer["task_id"])
        assert found["waits"]["session_s"] == pytest.approx(9, abs=0.01)


@virtual
async def test_tokens_are_the_reason(tmp_path: Path) -> None:
    models = {"a": model(concurrency=5, tpm=1000)}
    async with EngineServices(tmp_path, models) as services:
        params = {"max_tokens": 900}
        services.client.usage = {"total_tokens": 900}
        await services.finished(await services.submit("x", params=params))
        found = await ended(services, await services.submit("y", params=params))
        queued = found["waits"]["queued_s"]
        assert queued["tokens"] > 50
        assert queued["tokens"] / sum(queued.values()) > 0.99


@virtual
async def test_the_story_is_the_same_after_a_restart(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient(TEN)) as services:
        await services.submit("first")
        task_id = await services.submit("second")
        before = await ended(services, task_id)
        await services.restart()
        assert await story(services, task_id) == before


@virtual
async def test_what_was_waited_before_a_crash_has_no_reason(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
        await services.submit("busy", timeout_s=50)
        task_id = await services.submit_script("x", ["ok"])
        await asyncio.sleep(20)
        await services.restart()
        queued = (await ended(services, task_id))["waits"]["queued_s"]
        assert queued["other"] == pytest.approx(20, abs=0.1)
        assert queued["concurrency"] == pytest.approx(50, abs=0.1)


@virtual
async def test_a_cached_answer_and_a_shared_call(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient(TEN)) as services:
        await services.submit("busy")
        one, two = await services.submit_many(["x", "x"], cache=True)
        await asyncio.sleep(MOMENT)
        assert set((await ended(services, two))["waits"]["queued_s"]) <= {"equal_task", "start"}
        assert (await ended(services, one))["attempts"][0]["waited"]["concurrency"] > 9
        found = await ended(services, await services.submit("x", cache=True))
        assert found["cached"]
        assert found["timeline"][-1]["why"] == "answered from the cache"


@virtual
async def test_nothing_is_kept_of_tasks_that_wait_no_longer(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient(TEN)) as services:
        ids = [await services.submit("x", session_id="s") for _ in range(3)]
        ids += await services.submit_many(["y", "z"])
        assert len(services.services.scheduler.dispatcher.waits) >= 4
        await services.services.control.cancel(ids[1])
        for task_id in ids:
            await services.finished(task_id)
        assert len(services.services.scheduler.dispatcher.waits) == 0


@virtual
async def test_a_free_model_that_waits_for_a_faster_one_says_so(tmp_path: Path) -> None:
    client = ScriptedClient()
    client.of_model = {"fast": [2.0, "ok"], "slow": [40.0, "ok"]}
    models = {"fast": model(), "slow": model()}
    async with EngineServices(tmp_path, models, client) as services:
        for name in ("fast", "slow"):
            for _ in range(3):
                await services.finished(await services.submit("x", model=name))
        await services.submit("takes the fast one")
        await asyncio.sleep(0.5)
        answer = await services.answer("waits for it")
        assert "left free for a faster model" in answer["message"]
        assert answer["eta_s"] > 0
        await asyncio.sleep(0.1)
        now = (await story(services, answer["task_id"]))["now"]
        assert "left free for a faster model" in now["reason"]
        assert now["eta_s"] > 0
        found = await ended(services, answer["task_id"])
        assert found["attempts"][0]["name"] == "fast"
