"""Figures over time: what a row has, how many there are, and clocks that are set."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.monitoring.figures import EVERY_S, LEVELS, ROWS, TOTALS, Reading, Ring
from asyncsvc.monitoring.monitor import Rhythm
from tests.engine_services import EngineServices
from tests.scripted import HANG
from tests.virtual_time import virtual


def opened(folder: Path) -> EngineServices:
    """One whose monitor looks each second."""
    services = EngineServices(folder)
    services.rhythm = Rhythm()
    return services


def rows(services: EngineServices, span: str = "15m") -> dict[str, Any]:
    return services.services.figures.as_dict(span)


@virtual
async def test_a_row_has_what_came_and_ended_in_its_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as services:
        assert rows(services)["at"] == []
        await services.finished(await services.submit_script("hello", ["Good ", "day"]))
        await services.submit_script("silence", [HANG])
        await asyncio.sleep(6)
        first = rows(services)
        assert len(first["at"]) == 1
        totals = {name: figures[0] for name, figures in first["totals"].items()}
        assert totals == dict.fromkeys(TOTALS, 0) | {
            "accepted": 2, "completed": 1, "calls": 1, "tokens": 2,
        }  # fmt: skip
        assert first["levels"].keys() == set(LEVELS)
        assert (first["levels"]["running"], first["levels"]["short"]) == ([1.0], [0.0])
        await asyncio.sleep(5)
        second = rows(services)
        assert [figures[1] for figures in second["totals"].values()] == [0] * len(TOTALS)
        assert second["at"] == sorted(second["at"])


@virtual
async def test_waits_are_shown_by_reason_when_the_task_is_claimed(tmp_path: Path) -> None:
    async with opened(tmp_path) as services:
        ids = [await services.submit_script(f"task {n}", [10.0, "x"]) for n in range(2)]
        for task_id in ids:
            await services.finished(task_id)
        await asyncio.sleep(6)
        found = rows(services)
        assert found["waited_s"]["concurrency"] == pytest.approx(10, abs=0.1)
        assert sum(found["waits"]["concurrency"]) == pytest.approx(10, abs=0.1)


@virtual
async def test_memory_is_bounded_over_days(tmp_path: Path) -> None:
    async with opened(tmp_path) as services:
        figures = services.services.figures
        for _ in range(2 * ROWS * EVERY_S["6h"] // EVERY_S["15m"]):
            await asyncio.sleep(EVERY_S["15m"])
            figures.look()
        for span in EVERY_S:
            found = figures.as_dict(span)
            assert len(found["at"]) == ROWS
            assert {len(column) for column in found["levels"].values()} == {ROWS}
            assert found["every_s"] * ROWS == {"15m": 900, "6h": 21_600}[span]


def reading(at: int, level: float, total: float) -> Reading:
    return Reading(at, {"running": level}, {"calls": total}, {})


def test_levels_are_averaged_and_totals_subtracted() -> None:
    ring = Ring(10_000, reading(0, 0, 5))
    ring.add(reading(5_000, 1, 6))
    assert not ring.rows
    ring.add(reading(10_000, 3, 9))
    (row,) = ring.rows
    assert (row.at, row.levels, row.totals) == (10_000, {"running": 2}, {"calls": 4})


def test_a_count_that_went_with_its_model_adds_nothing() -> None:
    ring = Ring(10_000, reading(0, 0, 5))
    ring.add(reading(10_000, 0, 2))
    ring.add(reading(20_000, 0, 3))
    assert [row.totals["calls"] for row in ring.rows] == [0, 1]


@virtual
async def test_a_clock_that_is_set_back_begins_a_row_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as services:
        await asyncio.sleep(60)
        before = len(rows(services)["at"])
        services.shift_ms -= 3_600_000
        await asyncio.sleep(30)
        assert len(rows(services)["at"]) >= before + 4
