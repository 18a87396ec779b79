import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from asyncsvc.access import SERVICE
from asyncsvc.cron import schedules as module
from asyncsvc.cron.schedules import BODY, KIND, Schedule, ScheduleRequest
from asyncsvc.errors import (
    InvalidRequest,
    ModelNotFound,
    NotFound,
    QueueFull,
    ShuttingDown,
    StorageUnavailable,
)
from asyncsvc.journal.journal import PersistedValue
from asyncsvc.tasks.submission import Submission
from tests.builders import Commits, rows
from tests.engine_services import EngineServices, at_ms, model
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import START_MS, virtual

MINUTE, HOUR, DAY = 60, 3_600, 86_400
HOURLY = "0 * * * *"
assert START_MS % (HOUR * 1000) == 0


async def make(services: EngineServices, cron: str = HOURLY, **fields: Any) -> Schedule:
    owner, name = fields.pop("owner", None), fields.pop("name", None)
    submission = Submission.model_validate({"content": "tick"} | fields)
    return (
        await services.services.schedules.create(
            ScheduleRequest(cron, "UTC", submission, owner, name)
        )
    )[0]


def now(services: EngineServices, made: Schedule) -> Schedule:
    return services.services.schedules.get(SERVICE, made.id)


async def fired(services: EngineServices) -> list[int]:
    """When each task of a schedule was made, in virtual seconds."""
    found = rows(
        services.services.journal.store,
        "SELECT created_at FROM tasks WHERE schedule_id IS NOT NULL ORDER BY n",
    )
    return [round((row[0] - START_MS) / 1000) for row in found]


@virtual
async def test_each_regular_time_makes_one_task(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services, owner="me")
        assert made.due_at == at_ms(HOUR)
        await asyncio.sleep(3.5 * HOUR)
        assert await fired(services) == [HOUR, 2 * HOUR, 3 * HOUR]
        seen = now(services, made)
        assert (seen.runs, seen.due_at, seen.last_error) == (3, at_ms(4 * HOUR), None)
        assert seen.last_task_id is not None
        task = await services.finished(seen.last_task_id)
        assert (task.request.schedule_id, task.request.owner) == (made.id, "me")
        assert await services.result(task.id) == "ok"


@virtual
async def test_what_a_stop_has_missed_is_made_up_for_once(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        await services.close()
        await asyncio.sleep(10.5 * HOUR)
        await services.reopen()
        await asyncio.sleep(HOUR)
        assert await fired(services) == [round(10.5 * HOUR), 11 * HOUR]
        assert now(services, made).runs == 2


@virtual
async def test_a_stop_between_two_times_changes_nothing(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        await asyncio.sleep(1.2 * HOUR)
        await services.restart()
        assert now(services, made).runs == 1
        await asyncio.sleep(HOUR)
        assert await fired(services) == [HOUR, 2 * HOUR]


@virtual
async def test_a_crash_before_the_commit_fires_later_and_once(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await make(services)
        commits = Commits(services.services.journal.store)
        commits.free.clear()
        await asyncio.sleep(HOUR + 1)
        assert commits.began.is_set()
        await services.restart()
        await asyncio.sleep(1)
        assert len(await fired(services)) == 1


@virtual
async def test_task_and_schedule_are_in_one_transaction(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
        made = await make(services)
        commits = Commits(services.services.journal.store)
        await asyncio.sleep(HOUR + 1)
        new_tasks = [batch for batch in commits.batches if batch.created]
        assert [[row[:2] for row in batch.values] for batch in new_tasks] == [[(KIND, made.id)]]


@virtual
async def test_what_is_acknowledged_is_synced(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        commits = Commits(services.services.journal.store)
        made = await make(services)
        await services.services.schedules.delete(SERVICE, made.id)
        assert [batch.durable for batch in commits.batches] == [True, True]
        assert await services.services.journal.store.persisted_values(KIND) == []
        assert await services.services.journal.store.persisted_value(BODY, made.id) is None


@virtual
async def test_a_clock_set_forward_makes_one_task_and_no_flood(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        await asyncio.sleep(HOUR + 10)
        services.shift_ms = DAY * 1000
        await asyncio.sleep(2 * MINUTE)
        assert now(services, made).runs == 2
        assert now(services, made).due_at == at_ms(DAY + 2 * HOUR)


@virtual
async def test_a_clock_set_back_repeats_nothing(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        await asyncio.sleep(3 * HOUR + 10)
        services.shift_ms = -2 * HOUR * 1000
        await asyncio.sleep(2 * HOUR - 60)
        assert now(services, made).runs == 3
        await asyncio.sleep(HOUR + 60)
        assert now(services, made).runs == 4


@virtual
async def test_a_clock_that_was_wrong_for_a_day_does_not_silence_it(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        services.shift_ms = 400 * DAY * 1000
        await asyncio.sleep(DAY)
        runs = now(services, made).runs
        services.shift_ms = 0
        await asyncio.sleep(2 * HOUR)
        assert now(services, made).runs == runs + 2


@virtual
async def test_a_full_queue_is_noted_and_tried_again(tmp_path: Path) -> None:
    client = ScriptedClient([HANG])
    async with EngineServices(tmp_path, client=client, queue={"max_length": 1}) as services:
        made = await make(services)
        blocking = await services.submit("blocks", timeout_s=100_000)
        await asyncio.sleep(3.4 * HOUR)
        seen = now(services, made)
        assert seen.last_error is not None
        assert seen.last_error["code"] == "queue_full"
        assert (seen.runs, seen.due_at) == (0, at_ms(HOUR))
        await services.services.control.cancel(blocking)
        await asyncio.sleep(2 * MINUTE)
        seen = now(services, made)
        assert (seen.runs, seen.last_error) == (1, None)
        assert seen.due_at == at_ms(4 * HOUR)
        assert len(await fired(services)) == 1


@virtual
async def test_it_is_tried_afresh_at_the_next_regular_time(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"max_length": 1}) as services:
        made = await make(services, "*/10 * * * * *", max_wait_s=0, model="a")
        services.services.intake.fire = NEVER  # type: ignore[method-assign]
        await asyncio.sleep(HOUR)
        noted = now(services, made).last_error
        assert noted is not None
        assert noted["message"] == "never"
        del services.services.intake.fire
        await asyncio.sleep(11)
        assert now(services, made).runs >= 1


async def _refuse(*_: object) -> None:
    raise QueueFull("never")


NEVER: Any = _refuse


@virtual
async def test_a_refusal_is_known_after_a_restart(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        services.services.intake.fire = NEVER  # type: ignore[method-assign]
        await asyncio.sleep(HOUR + 1)
        await services.close()
        services.services.intake.closed = True
        await services.reopen()
        seen = now(services, made)
        assert seen.last_error is not None
        assert seen.last_error["code"] == "queue_full"
        await asyncio.sleep(1)
        assert now(services, made).runs == 1


@virtual
async def test_a_disk_that_refuses_loses_no_firing(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        commits = Commits(services.services.journal.store)
        commits.refuse()
        await asyncio.sleep(HOUR + 30)
        seen = now(services, made)
        assert seen.last_error is not None
        assert seen.last_error["code"] == "overloaded"
        commits.refusal = None
        await asyncio.sleep(2 * MINUTE)
        assert now(services, made).runs == len(await fired(services)) == 1


@virtual
async def test_a_fault_of_ours_is_noted_and_tried_again(
    tmp_path: Path,
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a fault")

    failing: Any = broken

    async with EngineServices(tmp_path) as services:
        made = await make(services)
        services.services.intake.fire = failing  # type: ignore[method-assign]
        await asyncio.sleep(HOUR + 30)
        assert "a fault" in str(now(services, made).last_error)
        del services.services.intake.fire
        await asyncio.sleep(2 * MINUTE)
        assert now(services, made).runs == 1


@virtual
async def test_a_firing_while_it_stops_is_left_to_the_next_start(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        services.services.intake.closed = True
        await asyncio.sleep(HOUR + 30)
        assert (now(services, made).runs, now(services, made).last_error) == (0, None)
        with pytest.raises(ShuttingDown):
            await make(services)
        await services.close()
        await services.reopen()
        await asyncio.sleep(1)
        assert now(services, made).runs == 1


@virtual
async def test_a_deleted_schedule_is_silent_and_stays_deleted(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        await services.services.schedules.delete(SERVICE, made.id)
        with pytest.raises(NotFound):
            await services.services.schedules.delete(SERVICE, made.id)
        with pytest.raises(NotFound):
            services.services.schedules.get(SERVICE, made.id)
        await services.restart()
        await asyncio.sleep(3 * HOUR)
        assert (await fired(services), services.services.schedules.all(SERVICE)) == ([], [])


@virtual
async def test_deleting_while_it_fires_leaves_no_schedule_behind(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        commits = Commits(services.services.journal.store)
        commits.free.clear()
        await asyncio.sleep(HOUR + 1)
        deleting = [
            asyncio.create_task(services.services.schedules.delete(SERVICE, made.id))
            for _ in range(2)
        ]
        await asyncio.sleep(1)
        commits.free.set()
        await asyncio.gather(*deleting)
        await asyncio.sleep(2 * HOUR)
        assert len(await fired(services)) == 1
        assert await services.services.journal.store.persisted_values(KIND) == []


@virtual
async def test_a_schedule_deleted_before_its_firing_has_its_turn_makes_nothing(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        commits = Commits(services.services.journal.store)
        commits.free.clear()
        await asyncio.sleep(HOUR - 1)
        deleting = asyncio.create_task(services.services.schedules.delete(SERVICE, made.id))
        await asyncio.sleep(2)
        commits.free.set()
        await deleting
        await asyncio.sleep(1)
        assert await fired(services) == []


@virtual
async def test_there_is_a_limit(tmp_path: Path) -> None:
    most, module.MOST = module.MOST, 2
    try:
        async with EngineServices(tmp_path) as services:
            first, *rest = await asyncio.gather(
                *(make(services) for _ in range(4)), return_exceptions=True
            )
            assert [type(one) for one in rest] == [Schedule, QueueFull, QueueFull]
            assert isinstance(first, Schedule)
            await services.services.schedules.delete(SERVICE, first.id)
            await make(services)
    finally:
        module.MOST = most


@virtual
async def test_what_no_model_could_serve_is_refused_at_once(tmp_path: Path) -> None:
    async with EngineServices(
        tmp_path, {"a": model(), "b": model(api_key_env="UNSET")}
    ) as services:
        with pytest.raises(ModelNotFound):
            await make(services, model="nope")
        with pytest.raises(InvalidRequest):
            await make(services, content=None, input="x", type="embedding", model="a")
        assert (await make(services, model="b")).due_at is not None


@virtual
async def test_a_write_that_fails_leaves_no_schedule(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        commits = Commits(services.services.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await make(services)
        assert services.services.schedules.all(SERVICE) == []


@virtual
async def test_a_task_that_is_no_longer_valid_is_noted(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        await services.services.journal.append(
            PersistedValue(BODY, made.id, '{"content": 5}', durable=True)
        )
        await asyncio.sleep(HOUR + 1)
        noted = now(services, made).last_error
        assert noted is not None
        assert noted["code"] == "invalid_request"
        assert now(services, made).runs == 0


@virtual
async def test_a_zone_that_is_no_longer_known_rests_and_is_not_lost(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services)
        (row,) = await services.services.journal.store.persisted_values(KIND)
        changed = orjson.dumps(orjson.loads(row[2]) | {"timezone": "Gone/Away"}).decode()
        await services.services.journal.append(PersistedValue(KIND, made.id, changed, durable=True))
        await services.restart()
        seen = now(services, made)
        assert seen.due_at is None
        assert "Gone/Away" in str(seen.last_error)
        await asyncio.sleep(2 * HOUR)
        assert await fired(services) == []
        assert await services.services.schedules.task(SERVICE, made.id) == {"content": "tick"}
        await services.services.schedules.delete(SERVICE, made.id)


@virtual
async def test_the_oldest_is_the_first_also_after_a_restart(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        ids = [(await make(services)).id]
        await asyncio.sleep(1)
        ids.append((await make(services, "@yearly")).id)
        await asyncio.sleep(2 * HOUR)
        assert [one.id for one in services.services.schedules.all(SERVICE)] == ids
        await services.restart()
        assert [one.id for one in services.services.schedules.all(SERVICE)] == ids


# A name that is known already ---------------------------------------------------------------


@virtual
async def test_another_cron_under_the_same_name_counts_from_now(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services, name="n")
        await asyncio.sleep(1.5 * HOUR)
        changed = await make(services, "45 * * * *", name="n")
        assert (changed.id, changed.runs, changed.due_at) == (made.id, 1, at_ms(1.75 * HOUR))
        await services.restart()
        await asyncio.sleep(HOUR)
        assert await fired(services) == [HOUR, round(1.75 * HOUR)]
        assert len(services.services.schedules.all(SERVICE)) == 1


@virtual
async def test_a_deploy_every_minute_neither_loses_nor_repeats_a_firing(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        for number in range(150):
            await make(services, name="n", content=f"version {number}")
            await asyncio.sleep(MINUTE)
        assert await fired(services) == [HOUR, 2 * HOUR]


@virtual
async def test_the_same_times_under_the_same_name_still_make_up_for_a_missed_one(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services, name="n", content="old")
        services.services.intake.fire = NEVER  # type: ignore[method-assign]
        await asyncio.sleep(HOUR + 1)
        assert now(services, made).last_error is not None
        changed = await make(services, name="n", content="new")
        assert (changed.due_at, changed.last_error) == (at_ms(HOUR), None)
        del services.services.intake.fire
        await asyncio.sleep(MINUTE)
        seen = now(services, made)
        assert (seen.runs, seen.last_task_id is not None) == (1, True)
        assert (await services.task(str(seen.last_task_id))).request.preview == "new"


@virtual
async def test_a_firing_that_a_new_cron_overtakes_is_not_made(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await make(services, name="n")
        await asyncio.sleep(HOUR - 1)
        commits = Commits(services.services.journal.store)
        commits.free.clear()
        changing = asyncio.create_task(make(services, "30 * * * *", name="n"))
        await asyncio.sleep(2)  # the old time comes while the new one is being written
        commits.free.set()
        changed = await changing
        await asyncio.sleep(1)
        assert await fired(services) == []
        assert changed.due_at == at_ms(1.5 * HOUR)
        await asyncio.sleep(HOUR)
        assert await fired(services) == [round(1.5 * HOUR)]


@virtual
async def test_a_disk_that_refuses_a_change_leaves_the_schedule_as_it_was(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services, name="n")
        commits = Commits(services.services.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await make(services, "30 * * * *", name="n")
        commits.refusal = None
        assert now(services, made) == made


@virtual
async def test_an_expression_that_is_no_longer_known_is_mended_by_its_name(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        made = await make(services, name="n")
        broken = replace(made, cron="*/61 * * * *")
        await services.services.journal.append(
            PersistedValue(KIND, made.id, broken.dumps(), durable=True)
        )
        await services.restart()
        assert now(services, made).due_at is None
        await make(services, name="n")
        await asyncio.sleep(HOUR + 1)
        assert await fired(services) == [HOUR]
