import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import (
    Conflict,
    InvalidRequest,
    ModelNotFound,
    NoModel,
    Overloaded,
    QueueFull,
    ShuttingDown,
    StorageUnavailable,
)
from asyncsvc.loop_turns import PART
from asyncsvc.storage.entries import Commit
from asyncsvc.tasks.state import State
from asyncsvc.tasks.submission import Submission
from tests.engine_services import MOMENT, EngineServices, model
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import virtual


def _submission(content: str = "x", **fields: Any) -> Submission:
    return Submission.model_validate({"content": content} | fields)


async def _stored(services: EngineServices) -> int:
    return sum(count for *_, count in await services.services.journal.store.counts(None))


@virtual
async def test_an_accepted_task_is_on_the_disk(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        answer = await services.answer("x", model="a", metadata={"k": 1})
        task = await services.services.journal.store.task(answer["task_id"])
        assert task is not None
        assert (task.request.model, task.request.user_metadata) == ("a", {"k": 1})
        assert (answer["status"], answer["model"]) == ("pending", "a")


@virtual
async def test_what_the_disk_refuses_is_not_accepted(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        plain = services.services.journal.store.commit

        async def commit(batch: Commit) -> None:
            if batch.created:
                raise StorageUnavailable("full")
            await plain(batch)

        services.services.journal.store.commit = commit  # type: ignore[method-assign]
        with pytest.raises(StorageUnavailable):
            await services.submit("x")
        await asyncio.sleep(60)
        assert services.client.calls == []


# Idempotency ------------------------------------------------------------------------------


@virtual
async def test_the_same_key_gives_the_first_answer(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        first = await services.services.intake.submit(_submission(), key="k")
        again = await services.services.intake.submit(_submission(), key="k")
        assert (again.answer, again.task_id) == (first.answer, first.task_id)
        assert (first.repeated, again.repeated) == (False, True)
        await services.finished(first.task_id)
        assert len(services.client.calls) == 1


@virtual
async def test_the_same_key_with_another_body_is_a_conflict(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.submit("x", key="k")
        with pytest.raises(Conflict) as caught:
            await services.submit("x", key="k", priority=6)
        assert caught.value.code == "idempotency_conflict"
        assert await _stored(services) == 1


@virtual
async def test_keys_belong_to_their_owner(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        taken = [
            await services.services.intake.submit(_submission(), o, "k") for o in ("o", "p", None)
        ]
        assert len({each.task_id for each in taken}) == 3


@virtual
async def test_a_key_is_known_after_a_crash(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        first = await services.submit("x", key="k")
        await services.restart()
        assert await services.submit("x", key="k") == first


@virtual
async def test_submits_with_one_key_at_once_make_one_task(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        ids = await asyncio.gather(*(services.submit("x", key="k") for _ in range(20)))
        assert len(set(ids)) == 1
        assert await _stored(services) == 1


@virtual
async def test_a_key_whose_first_submit_failed_still_makes_one_task(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        store = services.services.journal.store
        plain = store.commit
        refusals = [1]

        async def commit(batch: Commit) -> None:
            await asyncio.sleep(1)
            if refusals:
                refusals.pop()
                raise StorageUnavailable("full")
            await plain(batch)

        store.commit = commit  # type: ignore[method-assign]

        async def late() -> str:
            await asyncio.sleep(1 + MOMENT)  # when the first has been refused
            return await services.submit("x", key="k")

        submits = [services.submit("x", key="k") for _ in range(3)]
        found = await asyncio.gather(*submits, late(), return_exceptions=True)
        assert [type(each) for each in found] == [StorageUnavailable, str, str, str]
        assert len(set(found[1:])) == 1


@virtual
async def test_a_submit_is_carried_out_though_its_caller_has_gone(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        caller = asyncio.create_task(services.submit("x", key="k"))
        while not await _stored(services):
            caller.cancel()
            await asyncio.sleep(0)
        assert caller.cancelled()
        await services.finished(await services.submit("x", key="k"))
        assert len(services.client.calls) == 1


@virtual
async def test_a_batch_with_a_key_is_taken_once(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        asked = [_submission(), _submission()]
        first = await services.services.intake.submit_all(asked, key="k")
        await services.restart()
        again = await services.services.intake.submit_all(asked, key="k")
        assert [one.task_id for one in again] == [one.task_id for one in first]
        assert {one.repeated for one in first} == {False}
        assert {one.repeated for one in again} == {True}
        assert await _stored(services) == 2


@virtual
async def test_a_batch_of_one_is_another_body_than_its_task(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.services.intake.submit(_submission(), key="k")
        with pytest.raises(Conflict):
            await services.services.intake.submit_all([_submission()], key="k")
        assert await _stored(services) == 1


# Batches ------------------------------------------------------------------------------------


@virtual
async def test_a_batch_is_taken_in_order(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        ids = await services.submit_many([f"p{n}" for n in range(50)])
        for task_id in ids:
            await services.finished(task_id)
        assert services.client.prompts == [f"p{n}" for n in range(50)]


@virtual
async def test_a_batch_is_taken_wholly_or_not_at_all(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"max_length": 3}) as services:
        bad = [_submission(), _submission(model="unknown")]
        with pytest.raises(ModelNotFound):
            await services.services.intake.submit_all(bad)
        with pytest.raises(QueueFull):
            await services.submit_many(list("abcd"))
        assert await _stored(services) == 0


# Refusals -----------------------------------------------------------------------------------


@virtual
async def test_a_full_queue_refuses_until_there_is_room(tmp_path: Path) -> None:
    client = ScriptedClient([10.0, "ok"])
    async with EngineServices(tmp_path, None, client, queue={"max_length": 2}) as services:
        ids = [await services.submit("x"), await services.submit("y")]
        with pytest.raises(QueueFull) as caught:
            await services.submit("z")
        assert caught.value.retry_after
        await services.finished(ids[0])
        await services.submit("z")


@virtual
async def test_those_on_their_way_in_take_room(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"max_length": 3}) as services:
        submits = [services.submit(str(n), delay_s=60) for n in range(9)]
        found = await asyncio.gather(*submits, return_exceptions=True)
        assert sum(isinstance(each, str) for each in found) == 3
        assert sum(isinstance(each, QueueFull) for each in found) == 6


@virtual
async def test_a_closed_door_refuses(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.services.intake.closed = True
        with pytest.raises(ShuttingDown) as caught:
            await services.submit("x")
        assert caught.value.retry_after


@virtual
async def test_models_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    models = {"a": model(), "keyless": model(api_key_env="SECRET_KEY")}
    async with EngineServices(tmp_path, models) as services:
        with pytest.raises(ModelNotFound):
            await services.submit("x", model="b")
        with pytest.raises(NoModel, match="SECRET_KEY"):
            await services.submit("x", model="keyless")
        with pytest.raises(NoModel):
            await services.submit_fields(type="embedding", input="x")
        with pytest.raises(InvalidRequest) as caught:
            await services.submit_fields(type="embedding", input="x", model="a")
        assert caught.value.param == "model"
        assert await _stored(services) == 0


@virtual
async def test_a_task_that_cannot_wait_so_long_is_refused(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([10.0, "ok"])) as services:
        await services.finished(await services.submit("x"))
        await services.submit_many(list("abc"))
        await asyncio.sleep(MOMENT)
        with pytest.raises(Overloaded) as caught:
            await services.submit("y", max_wait_s=25)
        assert caught.value.retry_after == pytest.approx(5.0)
        assert (await services.answer("y", max_wait_s=30))["eta_s"] == pytest.approx(30.0)


@virtual
async def test_an_unknown_wait_refuses_no_task(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
        await services.submit("x")
        assert await services.state(await services.submit("y", max_wait_s=0)) is State.PENDING


# Many tasks at once -----------------------------------------------------------------------


@virtual
async def test_of_many_tasks_a_part_enters_at_a_time_in_their_order(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=1)}) as services:
        contents = [f"{n}" for n in range(4 * PART)]
        ids = await services.submit_many(contents)
        assert len(services.services.scheduler) < len(ids) - PART
        ids.append(await services.submit("last"))
        assert [await services.code(task_id) for task_id in ids] == [None] * len(ids)
        assert services.client.prompts == [*contents, "last"]


@virtual
async def test_a_later_task_of_a_session_comes_behind_those_that_still_enter(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        ids = await services.submit_many(["x"] * 3 * PART, session_id="s")
        ids.append(await services.submit("last", session_id="s"))
        assert [await services.code(task_id) for task_id in ids] == [None] * len(ids)
        assert services.client.prompts[-1] == "last"


@virtual
async def test_a_task_that_is_cancelled_before_it_enters_never_runs(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        ids = await services.submit_many([f"{n}" for n in range(3 * PART)])
        control = services.services.control
        assert (await control.cancel(ids[-1])).state is State.CANCELLED
        assert (await control.pause(ids[-2])).state is State.PAUSED
        assert [await services.code(task_id) for task_id in ids[:-2]] == [None] * (3 * PART - 2)
        assert len(services.client.calls) == 3 * PART - 2
        await control.resume(ids[-2])
        assert await services.code(ids[-2]) is None
