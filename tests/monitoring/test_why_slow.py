"""What all tasks waited for, in a service with scripted providers, on virtual time."""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from asyncsvc.access import SERVICE
from asyncsvc.cli.parser import run
from asyncsvc.cli.why_slow import report
from asyncsvc.config.settings import Settings
from asyncsvc.errors import UpstreamOverloaded
from asyncsvc.monitoring.why_slow import WaitSummary, best_change
from asyncsvc.storage.entries import Waited
from asyncsvc.tasks.submission import Submission
from asyncsvc.web.tasks.why_slow import summed_up
from tests.engine_services import EngineServices, model
from tests.scripted import ScriptedClient
from tests.virtual_time import virtual


async def why(services: EngineServices, since_s: int = 3600) -> dict[str, Any]:
    return await summed_up(services.services, SERVICE, since_s)


async def all_done(services: EngineServices, ids: list[str]) -> None:
    for task_id in ids:
        await services.finished(task_id)


@virtual
async def test_the_slots_of_a_model_are_the_reason_and_twice_as_many_the_remedy(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([10.0, "ok"])) as services:
        ids = [await services.submit(f"job {n}") for n in range(3)]
        await all_done(services, ids)
        found = await why(services)
        assert (found["tasks"], found["waited_tasks"]) == (3, 2)
        assert found["waited_s"] == pytest.approx(30, abs=0.1)
        assert found["reasons"][0]["reason"] == "concurrency"
        assert found["models"][0]["model"] == "a"
        change = found["change"]
        assert (change["setting"], change["from"], change["to"]) == ("models.a.concurrency", 1, 2)
        assert change["waited_s"] == pytest.approx(30, abs=0.1)


@virtual
async def test_waits_that_go_on_and_their_owners_count(tmp_path: Path) -> None:
    client = ScriptedClient(["ok"])
    async with EngineServices(tmp_path, {"a": model(rpm=1)}, client) as services:
        for owner in ("ann", "ben", "ben"):
            task = Submission.model_validate({"content": owner, "model": "a"})
            await services.services.intake.submit(task, owner)
        await asyncio.sleep(30)
        found = await why(services)
        assert found["reasons"][0]["reason"] == "rate"
        assert {row["owner"]: row["waited_s"] for row in found["owners"]} == {
            "ben": pytest.approx(60, abs=0.1)
        }
        assert found["change"]["setting"] == "models.a.rpm"


@virtual
async def test_sessions_and_retries_are_reasons_without_a_setting(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=9)}) as services:
        first = await services.submit_script("first", [10.0, "ok"], session_id="s")
        second = await services.submit("second", session_id="s")
        third = await services.submit_script("third", [UpstreamOverloaded("busy")], ["ok"])
        await all_done(services, [first, second, third])
        found = await why(services)
        reasons = {row["reason"]: row["waited_s"] for row in found["reasons"]}
        assert reasons["session"] == pytest.approx(10, abs=0.1)
        assert reasons["retry"] > 0
        assert found["change"] is None


@virtual
async def test_only_the_waits_within_the_time_count(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([100.0, "ok"])) as services:
        ids = [await services.submit(f"job {n}") for n in range(2)]
        await all_done(services, ids)
        assert (await why(services, 150))["waited_s"] == pytest.approx(50, abs=1)
        assert (await why(services, 50))["waited_s"] == 0
        await asyncio.sleep(1000)
        assert (await why(services, 50))["tasks"] == 0


def row(**fields: Any) -> Waited:
    known: dict[str, Any] = dict.fromkeys(Waited._fields)
    known |= {"id": "t", "model": "a", "state": "completed", "created_at": 0}
    return Waited(**(known | fields))


def reasons(*rows: Waited) -> dict[str, float]:
    found = WaitSummary(0, 100_000)
    for each in rows:
        found.add(each)
    summary = found.summary(Settings())
    return {each["reason"]: each["waited_s"] for each in summary["reasons"]}


def test_a_wait_for_its_own_time_is_no_slowness() -> None:
    marks = '[["pending", 50000], ["first_token", 60000]]'
    delayed = row(run_at=50_000, started_at=60_000, finished_at=70_000, marks=marks, waited=None)
    assert reasons(delayed) == {"other": 10}


def test_a_task_that_was_cancelled_while_it_waited_has_waited() -> None:
    assert reasons(row(finished_at=30_000)) == {"other": 30}


def test_reasons_never_add_up_to_more_than_the_wait() -> None:
    marks = '[["first_token", 10000]]'
    waited = '{"rate": 30, "turn": 10}'
    found = reasons(row(started_at=10_000, finished_at=20_000, marks=marks, waited=waited))
    assert found == {"rate": 7.5, "turn": 2.5}


@pytest.mark.parametrize(
    ("reason", "setting", "value"),
    [
        ("rate", "models.a.rpm", 20),
        ("tokens", "models.a.tpm", 2000),
        ("concurrency", "models.a.concurrency", 8),
        ("slow_down", "models.a.api_key_envs", None),
        ("breaker", "models.a.good_at", None),
        ("patience", "routing.balance", False),
    ],
)
def test_each_reason_that_a_setting_bounds_has_a_remedy(
    reason: str, setting: str, value: object
) -> None:
    known = Settings.model_validate({"models": {"a": model(rpm=10, tpm=1000, concurrency=4)}})
    found = best_change(known, {("a", "turn"): 99.0, ("a", reason): 5.0, ("gone", "rate"): 50.0})
    assert found is not None
    assert (found["setting"], found["to"], found["waited_s"]) == (setting, value, 5.0)


def test_a_learned_limit_has_no_number_to_double() -> None:
    known = Settings.model_validate({"models": {"a": model(rpm="auto")}})
    found = best_change(known, {("a", "rate"): 5.0})
    assert found is not None
    assert (found["from"], found["to"]) == ("auto", None)


def test_the_command_asks_for_an_id_or_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain"]) == 2
    assert run(["explain", "abc", "--why-slow"]) == 2
    assert capsys.readouterr().err.count("give a task's id, or --why-slow") == 2


@virtual
async def test_the_report_says_what_would_help_and_how_to_try_it(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([10.0, "ok"])) as services:
        await all_done(services, [await services.submit(f"job {n}") for n in range(3)])
        found = await why(services)
    shown = io.StringIO()
    Console(file=shown, width=200).print(report(found, 3600))
    text = shown.getvalue()
    assert "2 of 3 tasks waited 30.0 s in all" in text
    assert "all slots of the model were busy" in text
    assert "models.a.concurrency = 2 instead of 1" in text
    assert "rehearse --set models.a.concurrency=2 --since 3600s" in text
