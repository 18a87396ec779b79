import asyncio
from pathlib import Path

import pytest

from asyncsvc.errors import ModelNotFound, RateLimited, StorageUnavailable
from asyncsvc.tasks.state import State
from tests.builders import Commits
from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import virtual

TWO = {"a": model(), "b": model()}


@virtual
async def test_a_task_that_only_a_held_model_can_serve_waits(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, TWO) as services:
        await services.services.holds.pause("a")
        answer = await services.answer("x", model="a")
        assert (answer["message"], answer["eta_s"]) == ("accepted; a is paused", None)
        await asyncio.sleep(3_600)
        assert await services.state(answer["task_id"]) is State.PENDING
        assert not services.client.calls
        await services.services.holds.resume("a")
        assert (await services.finished(answer["task_id"])).state is State.COMPLETED


@virtual
async def test_waiting_tasks_go_to_another_model(tmp_path: Path) -> None:
    client = ScriptedClient([10.0, "ok"])
    async with EngineServices(tmp_path, TWO, client) as services:
        ids = await services.submit_many([f"p{n}" for n in range(6)])
        await asyncio.sleep(MOMENT)
        await services.services.holds.pause("a")
        for task_id in ids:
            assert (await services.finished(task_id)).state is State.COMPLETED
        assert sorted(call.name for call in client.calls) == ["a", *"bbbbb"]
        assert not any(call.cancelled for call in client.calls)


@virtual
async def test_a_model_for_another_class_stands_in_for_a_held_one(tmp_path: Path) -> None:
    models = {"a": model(good_at=["general"]), "b": model(good_at=["batch"])}
    async with EngineServices(tmp_path, models) as services:
        await services.services.holds.pause("a")
        task = await services.finished(
            await services.submit("tell me something of interest please")
        )
        assert task.name == "b"


@virtual
async def test_all_keys_of_a_model_are_held_at_once(tmp_path: Path) -> None:
    client = ScriptedClient([10.0, "ok"])
    models = {"a": model(api_key_envs=["K1", "K2"])}
    services = EngineServices(tmp_path, models, client)
    services.environ = {"K1": "k1", "K2": "k2"}
    async with services:
        first = await services.submit("one")
        await asyncio.sleep(MOMENT)
        await services.services.holds.pause("a")
        later = await services.answer("two")
        assert later["message"] == "accepted; a is paused"
        await services.finished(first)
        await asyncio.sleep(100)
        assert services.client.prompts == ["one"]
        await services.services.holds.resume("a")
        assert (await services.finished(later["task_id"])).state is State.COMPLETED


@virtual
async def test_a_hold_survives_a_crash_and_its_end_too(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.services.holds.pause("a")
        at = services.services.holds.since("a")
        await asyncio.sleep(5)
        task_id = await services.submit("x")
        await services.restart()
        await asyncio.sleep(100)
        assert services.services.holds.since("a") == at
        assert await services.state(task_id) is State.PENDING
        await services.services.holds.resume("a")
        await services.restart()
        assert services.services.holds.since("a") is None
        assert (await services.finished(task_id)).state is State.COMPLETED


@virtual
async def test_pause_and_resume_may_be_repeated(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        commits = Commits(services.services.journal.store)
        for _ in range(2):
            await services.services.holds.pause("a")
        for _ in range(2):
            await services.services.holds.resume("a")
        assert [batch.durable for batch in commits.batches] == [True, True]


@virtual
async def test_the_error_for_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        with pytest.raises(ModelNotFound, match="known: a"):
            await services.services.holds.pause("nope")
        with pytest.raises(ModelNotFound):
            await services.services.holds.resume("nope")


@virtual
async def test_a_hold_that_could_not_be_written_does_not_hold(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        commits = Commits(services.services.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await services.services.holds.pause("a")
        assert services.services.holds.since("a") is None
        commits.refusal = None
        assert (await services.finished(await services.submit("x"))).state is State.COMPLETED


@virtual
async def test_a_model_without_its_key_can_be_held(tmp_path: Path) -> None:
    async with EngineServices(
        tmp_path, {"a": model(), "b": model(api_key_env="UNSET")}
    ) as services:
        await services.services.holds.pause("b")
        await services.restart()
        assert services.services.holds.since("b") is not None


@virtual
async def test_the_time_of_a_started_task_does_not_run_out_while_its_model_is_held(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script(
            "x", [RateLimited("slow", retry_after=50)], ["ok"], timeout_s=100
        )
        await asyncio.sleep(10)
        await services.services.holds.pause("a")
        await asyncio.sleep(5_000)
        assert await services.state(task_id) is State.PENDING
        await services.services.holds.resume("a")
        assert (await services.finished(task_id)).state is State.COMPLETED


@virtual
async def test_a_hold_has_no_end_but_the_queue_has(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"ttl_s": 100}) as services:
        await services.services.holds.pause("a")
        assert await services.code(await services.submit("x")) == "expired"
        assert since() == 100


@virtual
async def test_a_route_says_that_the_model_is_paused(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, TWO, ScriptedClient([HANG])) as services:
        await services.services.holds.pause("a")
        task = await services.task(await services.submit("x"))
        explained = services.services.scheduler.explain(task.request, task.queued_at)
        rows = {row["model"]: row for row in explained["candidates"]}
        assert (rows["a"]["eligible"], rows["a"]["reason"]) == (False, "a is paused")
        assert explained["chosen"] == "b"
