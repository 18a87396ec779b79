"""Tasks out as lines and in again, into the same service or another."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from asyncsvc.clock import new_id
from asyncsvc.errors import QueueFull, StorageUnavailable, UpstreamRejected
from asyncsvc.storage.database import EXPORTED_TASKS
from asyncsvc.storage.export import Record, lines
from asyncsvc.tasks.state import State
from tests.builders import Commits
from tests.engine_services import MOMENT, EngineServices, model
from tests.scripted import HANG
from tests.virtual_time import START_MS, virtual

BOTH = {"a": model(concurrency=4), "e": model(type="embedding")}
TIME = "2026-11-20T21:48:17.783Z"


async def exported(services: EngineServices, state: str | None = None) -> list[dict[str, Any]]:
    return [orjson.loads(line) async for line in lines(services.services.journal.store, state)]


async def brought(services: EngineServices, found: list[dict[str, Any]]) -> tuple[int, int, int]:
    taken = await services.services.importer.take([Record.of(line) for line in found])
    return taken.finished, taken.queued, taken.skipped


def line(**fields: Any) -> dict[str, Any]:
    return {
        "task_id": new_id(START_MS),
        "status": "pending",
        "content": "x",
        "created_at": TIME,
    } | fields


def places(folder: Path, **sections: Any) -> tuple[EngineServices, EngineServices]:
    for name in ("one", "two"):
        (folder / name).mkdir()
    return EngineServices(folder / "one", BOTH), EngineServices(folder / "two", BOTH, **sections)


async def all_kinds(services: EngineServices) -> list[str]:
    """Tasks in every state but running."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ids = [
        await services.submit_script("text", ["some ", "text"], metadata={"k": [1]}, timeout_s=5),
        await services.submit_script("called", ["text", call]),
        await services.submit_script("refused", [UpstreamRejected("no")]),
        await services.submit_fields(type="embedding", input=["a", "b"], cache=True),
        cut := await services.submit_script("cut", ["half", HANG]),
    ]
    await asyncio.sleep(1)
    await services.services.control.cancel(cut)
    ids.append(never := await services.submit("never", delay_s=9))
    await services.services.control.cancel(never)
    ids.append(await services.submit("later", run_at="2030-01-01T00:00:00Z", session_id="s"))
    ids.append(held := await services.submit("held", delay_s=50, priority=9, lane="long"))
    await services.services.control.pause(held)
    return ids


@virtual
async def test_all_states_come_back_as_they_were(tmp_path: Path) -> None:
    one, two = places(tmp_path)
    async with one:
        ids = await all_kinds(one)
        before = await exported(one)
    assert [found["task_id"] for found in before] == ids
    async with two:
        assert await brought(two, before) == (6, 2, 0)
        after = await exported(two)
        for old, new in zip(before, after, strict=True):
            if old["finished_at"] is None:
                # It is routed anew, and waits anew.
                old, new = ({k: v for k, v in x.items() if k != "metadata"} for x in (old, new))
            assert new == old
        for task_id in ids:
            await two.events(task_id)
        assert await two.streamed(ids[0]) == await two.result(ids[0]) == "some text"
        assert (await two.kinds(ids[1]))[-2:] == ["tool_call", "completed"]
        assert await two.kinds(ids[5]) == ["submitted", "cancelled"]
        assert await two.kinds(ids[7]) == ["delayed", "paused"]
        assert two.client.calls == []


@virtual
async def test_what_was_unfinished_runs_and_in_its_order(tmp_path: Path) -> None:
    one, two = places(tmp_path)
    async with one:
        first = await one.submit_script("first", ["a", HANG], session_id="s")
        second = await one.submit("second", session_id="s")
        await asyncio.sleep(1)
        before = await exported(one)
    assert [found["status"] for found in before] == ["running", "pending"]
    assert before[0]["result"] is None
    async with two:
        assert await brought(two, before) == (0, 2, 0)
        assert (await two.finished(second)).state is State.COMPLETED
        assert [call.prompt for call in two.client.calls] == ["first", "second"]
        assert (await two.task(first)).request.created_at == START_MS


@virtual
async def test_known_ids_are_skipped(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.finished(task_id := await services.submit("x"))
        before = await services.events(task_id)
        twice = line()
        assert await brought(services, [*await exported(services), twice, twice]) == (0, 1, 2)
        assert await services.events(task_id) == before
        assert await brought(services, [twice]) == (0, 0, 1)
        assert await brought(services, []) == (0, 0, 0)


@virtual
async def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        same = [line() for _ in range(5)]
        found = await asyncio.gather(brought(services, same), brought(services, same))
        assert sorted(found) == [(0, 0, 5), (0, 5, 0)]


@virtual
async def test_all_or_none(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"max_length": 3}) as services:
        done = line(status="completed", result="y", finished_at=TIME)
        with pytest.raises(QueueFull):
            await brought(services, [done, *(line() for _ in range(4))])
        assert await exported(services) == []
        commits = Commits(services.services.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await brought(services, [done, line()])
        commits.refusal = None
        assert await exported(services) == []
        assert not services.services.journal.live
        assert await brought(services, [done, *(line() for _ in range(3))]) == (1, 3, 0)


@virtual
async def test_an_import_survives_a_crash(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        done = line(status="failed", finished_at=TIME, error={"code": "expired", "message": "m"})
        await brought(services, [done, waiting := line(run_at="2030-01-01T00:00:00Z")])
        await services.restart()
        assert (await services.task(done["task_id"])).error == {
            "code": "expired", "message": "m", "retryable": True,
        }  # fmt: skip
        assert await services.state(waiting["task_id"]) is State.SCHEDULED
        again = await services.services.control.retry(done["task_id"])
        assert (await services.finished(again.id)).state is State.COMPLETED
        assert await services.kinds(done["task_id"]) == [
            "submitted", "failed", "rerun", "started", "attempt", "chunk", "completed",
        ]  # fmt: skip


@virtual
async def test_a_task_for_a_model_that_is_not_here_waits_for_it(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await brought(services, [stray := line(model="elsewhere")])
        await asyncio.sleep(MOMENT)
        assert await services.state(stray["task_id"]) is State.PENDING
        assert await services.code(stray["task_id"]) == "expired"


@virtual
async def test_an_export_reads_in_pages_and_by_state(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        sizes = [10, 10, 5 << 20, 10, 3 << 20, 3 << 20, 10]
        found = [line(status="completed", result="y" * size, finished_at=TIME) for size in sizes]
        found += [line(status="cancelled", finished_at=TIME) for _ in range(EXPORTED_TASKS)]
        await brought(services, found)
        lines = await exported(services)
        assert [one["task_id"] for one in lines] == [one["task_id"] for one in found]
        assert [len(one["result"]) for one in lines[: len(sizes)]] == sizes
        assert len(await exported(services, "cancelled")) == EXPORTED_TASKS
        assert await exported(services, "running") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"task_id": "x"},
        {"task_id": '01a1faee-8d17-71b7-a632-92030c19329"'},
        {"task_id": None},
        {"status": "done"},
        {"status": None},
        {"created_at": "yesterday"},
        {"created_at": None},
        {"finished_at": "2026-11-20T21:48:17"},
        {"content": None},
        {"content": 3},
        {"input": ["x"]},
        {"priority": 10},
        {"attempts": -1},
        {"attempts": 1 << 40},
        {"result": 3},
        {"error": {"message": "no code"}},
        {"metadata": {"latency": "long"}},
        {"metadata": []},
        {"user_metadata": {"x": "y" * 20_000}},
        {"tool_calls": ["x"]},
        {"params": {"n": 2}},
    ],
)
def test_what_could_not_have_come_by_a_submit_is_refused(wrong: dict[str, Any]) -> None:
    Record.of(line())
    with pytest.raises(ValidationError):
        Record.of(line(**wrong))
