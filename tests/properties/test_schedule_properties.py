"""Schedules under stops, crashes, and clocks that are set, in any order."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from asyncsvc.access import SERVICE
from asyncsvc.cron.crontab import Crontab
from asyncsvc.cron.schedules import KIND, Schedule, ScheduleRequest
from asyncsvc.storage.entries import Commit
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.submission import Submission
from tests.builders import rows
from tests.engine_services import EngineServices
from tests.memory import folder as in_memory
from tests.virtual_time import START_MS, run_virtual

pytestmark = pytest.mark.slow

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
CRONS = ["*/5 * * * *", "7 * * * *", "0,30 2 * * *", "*/20 * * * * *"]
ZONES = ["UTC", "Europe/Berlin"]

minutes = st.sampled_from([0.2, 1.0, 4.9, 5.0, 13.0, 70.0])
steps = st.one_of(
    st.tuples(st.just("run"), minutes),
    st.tuples(st.sampled_from(["stop", "crash"]), minutes),
    st.tuples(st.just("set"), st.sampled_from([-1500.0, -61.0, -5.0, -0.5, 0.5, 5.0, 1500.0])),
)
Steps = list[tuple[str, float]]
few = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
)


class _Ledger:
    """What each commit that succeeds says of the schedules, next to what it says of tasks."""

    def __init__(self) -> None:
        self.dues: list[int] = []
        self.ats: list[int] = []

    def listen(self, store: Store) -> None:
        commit = store.commit

        async def counted(batch: Commit) -> None:
            await commit(batch)
            values = batch.values.items()
            kept = [orjson.loads(value) for (kind, _), value in values if kind == KIND and value]
            made = [task for task, _ in batch.created if task.request.schedule_id]
            firings = [one for one in kept if one["last_due_at"] is not None and made]
            assert [one["last_task_id"] for one in firings] == [task.id for task in made]
            self.dues += [one["last_due_at"] for one in firings]
            self.ats += [one["last_run_at"] for one in firings]

        store.commit = counted  # type: ignore[method-assign]


async def _live(services: EngineServices, ledger: _Ledger, doing: str, much: float) -> None:
    """One step; after it everything that is due has had the time to happen."""
    if doing == "run":
        await asyncio.sleep(much * 60)
    elif doing == "set":
        services.shift_ms += round(much * MINUTE_MS)
        await asyncio.sleep(61)  # within a minute each waiter has looked at the clock
    else:
        await (services.crash() if doing == "crash" else services.close())
        await asyncio.sleep(much * 60)
        await services.reopen()
        ledger.listen(services.services.journal.store)
        await asyncio.sleep(0.1)


def _only(services: EngineServices) -> Schedule:
    (schedule,) = services.services.schedules.all(SERVICE)
    return schedule


@few
@given(st.sampled_from(CRONS), st.sampled_from(ZONES), st.lists(steps, max_size=12))
@example("*/5 * * * *", "UTC", [("set", 1500.0), ("run", 13.0), ("set", -1500.0), ("run", 70.0)])
@example("7 * * * *", "UTC", [("run", 70.0), ("set", -61.0), ("run", 70.0), ("stop", 70.0)])
def test_each_regular_time_makes_at_most_one_task(cron: str, zone: str, doing: Steps) -> None:
    async def play(services: EngineServices) -> None:
        ledger = await _begin(services, cron, zone)
        for step in doing:
            await _live(services, ledger, *step)
        assert len(set(ledger.dues)) == len(ledger.dues)
        rule = Crontab.read(cron, zone, START_MS)
        assert all(rule.after(due - 1) == due for due in ledger.dues)
        # A clock that is set back in the middle of a firing makes it look early.
        if not any(step == "set" and much < 0 for step, much in doing):
            assert all(due <= at for due, at in zip(ledger.dues, ledger.ats, strict=True))
        tasks = rows(services.services.journal.store, "SELECT COUNT(*) FROM tasks")
        assert tasks[0][0] == len(ledger.dues) == _only(services).runs

    _in_a_service(play)


@few
@given(
    st.sampled_from(CRONS),
    st.lists(st.tuples(minutes, st.sampled_from(["stop", "crash"]), minutes), max_size=6),
)
def test_after_a_stop_there_is_one_task_for_all_that_was_missed(
    cron: str, doing: list[tuple[float, str, float]]
) -> None:
    async def play(services: EngineServices) -> None:
        ledger = await _begin(services, cron, "UTC")
        rule = Crontab.read(cron, "UTC", START_MS)
        for up, how, down in doing:
            await asyncio.sleep(up * 60)
            due, before = _only(services).due_at, len(ledger.dues)
            assert due is not None
            await (services.crash() if how == "crash" else services.close())
            await asyncio.sleep(down * 60)
            missed = due <= services.now()
            await services.reopen()
            # What opens the service fires before anybody can listen: count the tasks instead.
            await asyncio.sleep(0.05)
            row = rows(services.services.journal.store, "SELECT COUNT(*) FROM tasks")
            assert row[0][0] == before + missed
            assert _only(services).due_at == rule.after(services.now())
            ledger.dues += [due] * missed
            ledger.listen(services.services.journal.store)

    _in_a_service(play)


@few
@given(st.sampled_from(CRONS), st.sampled_from(ZONES), st.floats(1, 90))
def test_undisturbed_every_regular_time_makes_its_task(cron: str, zone: str, up: float) -> None:
    async def play(services: EngineServices) -> None:
        ledger = await _begin(services, cron, zone)
        await asyncio.sleep(up * 60 + 1)
        rule, at, wanted = Crontab.read(cron, zone, START_MS), START_MS, []
        while (following := rule.after(at)) is not None and following < services.now():
            wanted.append(at := following)
        assert ledger.dues == wanted

    _in_a_service(play)


async def _begin(services: EngineServices, cron: str, zone: str) -> _Ledger:
    ledger = _Ledger()
    ledger.listen(services.services.journal.store)
    await services.services.schedules.create(
        ScheduleRequest(cron, zone, Submission.model_validate({"content": "tick"}))
    )
    return ledger


def _in_a_service(play: Any) -> None:
    async def run(folder: Path) -> None:
        async with EngineServices(folder) as services:
            await play(services)

    with in_memory() as folder:
        run_virtual(run(Path(folder)))
