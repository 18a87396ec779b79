import asyncio
from pathlib import Path

import pytest

from asyncsvc.errors import ModelNotFound, RateLimited, StorageUnavailable
from asyncsvc.tasks.state import State
from tests.builders import Commits
from tests.engine_house import MOMENT, EngineHouse, model, since
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import virtual

TWO = {"a": model(), "b": model()}


@virtual
async def test_a_task_that_only_a_held_model_can_serve_waits(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, TWO) as house:
        await house.house.holds.pause("a")
        answer = await house.answer("x", model="a")
        assert (answer["message"], answer["eta_s"]) == ("accepted; a is paused", None)
        await asyncio.sleep(3_600)
        assert await house.state(answer["task_id"]) is State.PENDING
        assert not house.client.calls
        await house.house.holds.resume("a")
        assert (await house.finished(answer["task_id"])).state is State.COMPLETED


@virtual
async def test_waiting_tasks_go_to_another_model(tmp_path: Path) -> None:
    client = ScriptedClient([10.0, "ok"])
    async with EngineHouse(tmp_path, TWO, client) as house:
        ids = await house.submit_many([f"p{n}" for n in range(6)])
        await asyncio.sleep(MOMENT)
        await house.house.holds.pause("a")
        for task_id in ids:
            assert (await house.finished(task_id)).state is State.COMPLETED
        assert sorted(call.name for call in client.calls) == ["a", *"bbbbb"]
        assert not any(call.cancelled for call in client.calls)


@virtual
async def test_a_model_for_another_class_stands_in_for_a_held_one(tmp_path: Path) -> None:
    models = {"a": model(good_at=["general"]), "b": model(good_at=["batch"])}
    async with EngineHouse(tmp_path, models) as house:
        await house.house.holds.pause("a")
        task = await house.finished(await house.submit("tell me something of interest please"))
        assert task.name == "b"


@virtual
async def test_all_keys_of_a_model_are_held_at_once(tmp_path: Path) -> None:
    client = ScriptedClient([10.0, "ok"])
    models = {"a": model(api_key_envs=["K1", "K2"])}
    house = EngineHouse(tmp_path, models, client)
    house.environ = {"K1": "k1", "K2": "k2"}
    async with house:
        first = await house.submit("one")
        await asyncio.sleep(MOMENT)
        await house.house.holds.pause("a")
        later = await house.answer("two")
        assert later["message"] == "accepted; a is paused"
        await house.finished(first)
        await asyncio.sleep(100)
        assert house.client.prompts == ["one"]
        await house.house.holds.resume("a")
        assert (await house.finished(later["task_id"])).state is State.COMPLETED


@virtual
async def test_a_hold_survives_a_crash_and_its_end_too(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        await house.house.holds.pause("a")
        at = house.house.holds.since("a")
        await asyncio.sleep(5)
        task_id = await house.submit("x")
        await house.restart()
        await asyncio.sleep(100)
        assert house.house.holds.since("a") == at
        assert await house.state(task_id) is State.PENDING
        await house.house.holds.resume("a")
        await house.restart()
        assert house.house.holds.since("a") is None
        assert (await house.finished(task_id)).state is State.COMPLETED


@virtual
async def test_both_may_be_said_again(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        commits = Commits(house.house.journal.store)
        for _ in range(2):
            await house.house.holds.pause("a")
        for _ in range(2):
            await house.house.holds.resume("a")
        assert [batch.durable for batch in commits.batches] == [True, True]


@virtual
async def test_an_unknown_model_is_told_the_known_ones(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        with pytest.raises(ModelNotFound, match="known: a"):
            await house.house.holds.pause("nope")
        with pytest.raises(ModelNotFound):
            await house.house.holds.resume("nope")


@virtual
async def test_a_hold_that_could_not_be_written_does_not_hold(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        commits = Commits(house.house.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await house.house.holds.pause("a")
        assert house.house.holds.since("a") is None
        commits.refusal = None
        assert (await house.finished(await house.submit("x"))).state is State.COMPLETED


@virtual
async def test_a_model_without_its_key_can_be_held(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, {"a": model(), "b": model(api_key_env="UNSET")}) as house:
        await house.house.holds.pause("b")
        await house.restart()
        assert house.house.holds.since("b") is not None


@virtual
async def test_the_time_of_a_started_task_does_not_run_out_while_its_model_is_held(
    tmp_path: Path,
) -> None:
    async with EngineHouse(tmp_path) as house:
        task_id = await house.submit_script(
            "x", [RateLimited("slow", retry_after=50)], ["ok"], timeout_s=100
        )
        await asyncio.sleep(10)
        await house.house.holds.pause("a")
        await asyncio.sleep(5_000)
        assert await house.state(task_id) is State.PENDING
        await house.house.holds.resume("a")
        assert (await house.finished(task_id)).state is State.COMPLETED


@virtual
async def test_a_hold_has_no_end_but_the_queue_has(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, queue={"ttl_s": 100}) as house:
        await house.house.holds.pause("a")
        assert await house.code(await house.submit("x")) == "expired"
        assert since() == 100


@virtual
async def test_a_route_says_that_the_model_is_paused(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, TWO, ScriptedClient([HANG])) as house:
        await house.house.holds.pause("a")
        task = await house.task(await house.submit("x"))
        explained = house.house.dispatch.explain(task.request, task.queued_at)
        rows = {row["model"]: row for row in explained["candidates"]}
        assert (rows["a"]["eligible"], rows["a"]["reason"]) == (False, "a is paused")
        assert explained["chosen"] == "b"
