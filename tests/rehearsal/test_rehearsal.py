"""A rehearsal against what really happens under the service, both on virtual time."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.config.settings import Settings
from asyncsvc.rehearsal.comparison import compare, past_since, served_models
from asyncsvc.rehearsal.scenario import Scenario
from asyncsvc.storage.past import learned_limits, past_tasks
from asyncsvc.tasks.submission import Submission
from tests.engine_services import EngineServices, model
from tests.virtual_time import START_MS, loop, run_virtual

OWNERS = ("ann", "ben", None)
Job = tuple[float, str, float, dict[str, Any]]
"""Second of its arrival, owner, seconds of its call, fields."""


def jobs(count: int, seed: int) -> list[Job]:
    """Work that comes in bursts, so that much of it has to wait."""
    rng, at, found = random.Random(seed), 0.0, []
    for number in range(count):
        at += rng.expovariate(1 / 3.0) if number % 10 else 40.0
        lane = rng.choice(("short", "short", "short", "long", "priority"))
        fields: dict[str, Any] = {"lane": lane, "priority": rng.randint(0, 9), "model": "a"}
        if number % 7 == 0:
            fields["session_id"] = f"s{number % 3}"
        if number % 11 == 0:
            fields["delay_s"] = 20.0
        found.append((at, rng.choice(OWNERS) or "", rng.uniform(1.0, 20.0), fields))
    return found


def measured(folder: Path, work: list[Job], **limits: Any) -> Path:
    """Really do the work under these limits of model `a`; the database that tells of it."""
    folder.mkdir(mode=0o700)

    async def run() -> None:
        async with EngineServices(folder, {"a": model(**limits)}) as services:
            ids: list[str] = []
            for number, (at, owner, seconds, fields) in enumerate(work):
                services.client.on(f"job {number}", [0.2, "well, ", seconds - 0.2, "done"])
                await asyncio.sleep(max(at - loop().time(), 0.0))
                task = Submission.model_validate({"content": f"job {number}"} | fields)
                ids.append((await services.services.intake.submit(task, owner or None)).task_id)
            for task_id in ids:
                await services.finished(task_id)

    run_virtual(run())
    return folder / "tasks.db"


def settings(**limits: Any) -> Settings:
    return Settings.model_validate({"models": {"a": model(**limits)}})


def rehearsed(database: Path, now: Settings, new: Settings | None = None) -> dict[str, Any]:
    until = START_MS + 10_000_000
    past = past_since(past_tasks(database, START_MS), START_MS, until)
    assert served_models(past) <= {"a"}
    tried = None if new is None else Scenario(new, {})
    learned = learned_limits(database)
    return compare(past, Scenario(now, {}), tried, learned, START_MS, until)


def agree(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """The quantiles of the waits are the same, within a second or two percent."""
    assert found["count"] == wanted["count"]
    for name in ("p50_s", "p95_s", "max_s"):
        assert found[name] == pytest.approx(wanted[name], abs=1.0, rel=0.02), name


LIMITS: list[dict[str, Any]] = [
    {"concurrency": 2},
    {"concurrency": 5, "rpm": 6},
    {"concurrency": 2, "tpm": 600},
]


@pytest.mark.parametrize("limits", LIMITS, ids=["slots", "rate", "tokens"])
def test_under_the_same_settings_the_waits_are_those_that_were_measured(
    tmp_path: Path, limits: dict[str, Any]
) -> None:
    database = measured(tmp_path / "now", jobs(80, seed=1), **limits)
    rows = rehearsed(database, settings(**limits))["waits"]
    assert rows[0]["measured"]["max_s"] > 30  # there is something to agree on
    for row in rows:
        agree(row["now"], row["measured"])


def test_under_other_settings_the_waits_are_those_that_come_true(tmp_path: Path) -> None:
    work, new = jobs(80, seed=2), {"concurrency": 4, "rpm": 12}
    before = measured(tmp_path / "now", work, concurrency=1, rpm=6)
    after = measured(tmp_path / "new", work, **new)
    foretold = rehearsed(before, settings(concurrency=1, rpm=6), settings(**new))["waits"]
    came_true = rehearsed(after, settings(**new))["waits"]
    assert foretold[0]["now"]["p95_s"] > 2 * foretold[0]["new"]["p95_s"] > 0
    for row, real in zip(foretold, came_true, strict=True):
        assert (row["lane"], row["owner"]) == (real["lane"], real["owner"])
        agree(row["new"], real["measured"])
