"""The story of tasks in a house with scripted providers, on virtual time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import RateLimited, UpstreamOverloaded
from asyncsvc.web.tasks.explain import told
from tests.engine_house import MOMENT, EngineHouse, model
from tests.scripted import HANG, Script, ScriptedClient
from tests.virtual_time import virtual

TEN: Script = [10.0, "ok"]


async def story(house: EngineHouse, task_id: str) -> dict[str, Any]:
    found = await told(house.house, task_id)
    waits = found["waits"]
    parts = [*waits["queued_s"].values(), waits["session_s"]]
    parts += [waits["scheduled_s"], waits["retry_s"], waits["paused_s"]]
    assert sum(parts) == pytest.approx(found["totals"]["waiting_s"], abs=0.01)
    last = (await house.task(task_id)).finished_at or house.now()
    age = (last - (await house.task(task_id)).request.created_at) / 1000
    assert sum(found["totals"].values()) == pytest.approx(age, abs=0.01)
    return found


async def ended(house: EngineHouse, task_id: str) -> dict[str, Any]:
    await house.finished(task_id)
    return await story(house, task_id)


@virtual
async def test_a_busy_model_is_the_reason(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient(TEN)) as house:
        await house.submit("first")
        await asyncio.sleep(4)
        found = await ended(house, await house.submit("second"))
        assert found["waits"]["queued_s"] == pytest.approx({"concurrency": 6.0}, abs=0.01)
        (attempt,) = found["attempts"]
        assert attempt["gate"]["name"] == "a" and attempt["gate"]["concurrency"] == 1
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
    async with EngineHouse(tmp_path) as house:
        found = await ended(house, await house.submit("x"))
        assert found["totals"]["waiting_s"] < 0.01 and found["attempts"][0]["waited"] == {}


@virtual
async def test_a_full_window_is_the_reason(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, {"a": model(concurrency=50, rpm=6)}) as house:
        for task_id in await house.submit_many([f"p{n}" for n in range(6)]):
            await house.finished(task_id)
        found = await ended(house, await house.submit("y"))
        queued = found["waits"]["queued_s"]
        assert queued["rate"] > 50 and queued["rate"] / sum(queued.values()) > 0.99
        assert found["attempts"][0]["gate"]["window_limit"] == 6


@virtual
async def test_a_provider_that_asks_to_slow_down_is_the_reason(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        house.client.on("x", [RateLimited("slow", retry_after=30)], ["ok"])
        found = await ended(house, await house.submit("x"))
        assert found["waits"]["queued_s"]["slow_down"] == pytest.approx(30, abs=0.1)
        first, second = found["attempts"]
        assert (first["outcome"], first["error"]["code"]) == ("deferred", "rate_limited")
        assert (second["outcome"], second["error"]) == ("completed", None)
        deferred = next(s for s in found["timeline"] if s["what"] == "deferred")
        assert deferred["why"] == "rate_limited: slow; tried again as soon as a gate opens"


@virtual
async def test_an_open_breaker_and_the_time_between_two_tries(tmp_path: Path) -> None:
    breaker = {"failures": 1, "cooldown_s": 40}
    async with EngineHouse(tmp_path, breaker=breaker) as house:
        house.client.on("x", [UpstreamOverloaded("down")], ["ok"])
        found = await ended(house, await house.submit("x"))
        assert found["waits"]["retry_s"] + found["waits"]["queued_s"]["breaker"] == pytest.approx(
            40, abs=0.1
        )


@virtual
async def test_a_held_model_a_pause_and_a_schedule(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        await house.house.holds.pause("a")
        task_id = await house.submit("x", delay_s=100)
        await asyncio.sleep(120)
        await house.house.control.pause(task_id)
        await asyncio.sleep(7)
        await house.house.control.resume(task_id)
        await asyncio.sleep(5)
        waiting = await story(house, task_id)
        assert waiting["now"]["reason"] == "a is paused" and waiting["now"]["eta_s"] is None
        assert waiting["waits"]["queued_s"]["held"] == pytest.approx(5, abs=0.1)
        await house.house.holds.resume("a")
        waits = (await ended(house, task_id))["waits"]
        assert waits["scheduled_s"] == pytest.approx(100, abs=0.1)
        assert waits["paused_s"] == pytest.approx(7, abs=0.1)
        # Of the time before the pause no attempt tells.
        assert waits["queued_s"] == pytest.approx({"other": 20, "held": 5}, abs=0.1)


@virtual
async def test_a_session_is_the_reason(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient(TEN)) as house:
        first = await house.submit("x", session_id="s")
        await asyncio.sleep(1)
        answer = await house.answer("y", session_id="s")
        assert answer["message"] == f"accepted; behind task {first} of its session"
        assert answer["eta_s"] is None
        now = (await story(house, answer["task_id"]))["now"]
        assert now["reason"] == f"behind task {first} of its session"
        found = await ended(house, answer["task_id"])
        assert found["waits"]["session_s"] == pytest.approx(9, abs=0.01)


@virtual
async def test_tokens_are_the_reason(tmp_path: Path) -> None:
    models = {"a": model(concurrency=5, tpm=1000)}
    async with EngineHouse(tmp_path, models) as house:
        params = {"max_tokens": 900}
        house.client.usage = {"total_tokens": 900}
        await house.finished(await house.submit("x", params=params))
        found = await ended(house, await house.submit("y", params=params))
        queued = found["waits"]["queued_s"]
        assert queued["tokens"] > 50 and queued["tokens"] / sum(queued.values()) > 0.99


@virtual
async def test_the_story_is_the_same_after_a_restart(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient(TEN)) as house:
        await house.submit("first")
        task_id = await house.submit("second")
        before = await ended(house, task_id)
        await house.restart()
        assert await story(house, task_id) == before


@virtual
async def test_what_was_waited_before_a_crash_has_no_reason(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient([HANG])) as house:
        await house.submit("busy", timeout_s=50)
        task_id = await house.submit_script("x", ["ok"])
        await asyncio.sleep(20)
        await house.restart()
        queued = (await ended(house, task_id))["waits"]["queued_s"]
        assert queued["other"] == pytest.approx(20, abs=0.1)
        assert queued["concurrency"] == pytest.approx(50, abs=0.1)


@virtual
async def test_a_cached_answer_and_a_shared_call(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient(TEN)) as house:
        await house.submit("busy")
        one, two = await house.submit_many(["x", "x"], cache=True)
        await asyncio.sleep(MOMENT)
        assert set((await ended(house, two))["waits"]["queued_s"]) <= {"equal_task", "start"}
        assert (await ended(house, one))["attempts"][0]["waited"]["concurrency"] > 9
        found = await ended(house, await house.submit("x", cache=True))
        assert found["cached"] and found["timeline"][-1]["why"] == "answered from the cache"


@virtual
async def test_nothing_is_kept_of_tasks_that_wait_no_longer(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient(TEN)) as house:
        ids = [await house.submit("x", session_id="s") for _ in range(3)]
        ids += await house.submit_many(["y", "z"])
        assert len(house.house.dispatch.waits) >= 4
        await house.house.control.cancel(ids[1])
        for task_id in ids:
            await house.finished(task_id)
        assert len(house.house.dispatch.waits) == 0


@virtual
async def test_a_free_model_that_waits_for_a_faster_one_says_so(tmp_path: Path) -> None:
    client = ScriptedClient()
    client.of_model = {"fast": [2.0, "ok"], "slow": [40.0, "ok"]}
    models = {"fast": model(), "slow": model()}
    async with EngineHouse(tmp_path, models, client) as house:
        for name in ("fast", "slow"):
            for _ in range(3):
                await house.finished(await house.submit("x", model=name))
        await house.submit("takes the fast one")
        await asyncio.sleep(0.5)
        answer = await house.answer("waits for it")
        assert "left free for a faster model" in answer["message"]
        assert answer["eta_s"] > 0
        await asyncio.sleep(0.1)
        now = (await story(house, answer["task_id"]))["now"]
        assert "left free for a faster model" in now["reason"] and now["eta_s"] > 0
        found = await ended(house, answer["task_id"])
        assert found["attempts"][0]["name"] == "fast"
