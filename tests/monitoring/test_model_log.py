"""What the log says about models and failed tasks."""

import logging
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import (
    AuthUnexplained,
    QuotaExhausted,
    RateLimited,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamRejected,
)
from tests.engine_services import EngineServices, model
from tests.virtual_time import virtual

ASYNC = "asyncsvc.monitoring"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [r for r in caplog.records if r.name.endswith(("model_log", "task_log"))]
    return [f"{r.levelname} {r.getMessage()}" for r in found]


async def looked(services: EngineServices) -> None:
    """One look of the monitor."""
    for follow in services.services.monitor.on_look:
        follow()


def opened(folder: Path, caplog: pytest.LogCaptureFixture, **settings: Any) -> EngineServices:
    caplog.set_level(logging.INFO, ASYNC)
    return EngineServices(folder, {"m": model()}, retry={"max_retries": 0}, **settings)


@virtual
async def test_a_refused_key_disables_the_model_and_the_task_has_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, caplog) as services:
        task_id = await services.submit_script("hi", [UpstreamAuth("the key is invalid")])
        await services.finished(task_id)
        assert lines(caplog) == [
            "WARNING model m is disabled until the next start or reload: "
            "upstream_auth: the key is invalid",
            f"INFO task {task_id} failed with upstream_auth, attempt 1 at model m",
        ]
        fields = [vars(r) for r in caplog.records if r.name.endswith("_log")]
        assert fields[0]["code"] == "upstream_auth"
        assert (fields[1]["task_id"], fields[1]["attempt"]) == (task_id, 1)
        await services.reload({"m": model()}, retry={"max_retries": 0})
        await looked(services)
        await services.finished(await services.submit("again"))
        await looked(services)
        assert lines(caplog)[-1].startswith("INFO model m takes calls again, after ")


@virtual
async def test_a_key_that_is_wrong_again_after_a_reload_is_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, caplog) as services:
        services.client.default = [UpstreamAuth("invalid")]
        for text in ("one", "two"):
            await services.finished(await services.submit(text))
            await services.reload({"m": model()}, retry={"max_retries": 0})
            await looked(services)
        found = [line for line in lines(caplog) if "disabled" in line]
        assert len(found) == 2


@virtual
async def test_a_slow_down_is_one_line_however_often_it_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, caplog) as services:
        busy = [[RateLimited("slow down", retry_after=5.0)]] * 3
        task_id = await services.submit_script("hi", *busy, ["ok"])
        assert (await services.finished(task_id)).state == "completed"
        await looked(services)
        assert lines(caplog) == [
            "WARNING model m rests for 5 s: its provider asks for fewer calls",
            "INFO model m takes calls again, after 15 s",
        ]


@virtual
async def test_a_quota_and_a_breaker_say_why_and_for_how_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, caplog, breaker={"failures": 2}) as services:
        spent = QuotaExhausted("no balance", retry_after=600.0)
        await services.finished(await services.submit_script("a", [spent]))
        assert lines(caplog)[0] == (
            "WARNING model m rests for 600 s: its quota is used up: quota_exhausted: no balance"
        )
    caplog.clear()
    async with opened(tmp_path / "b", caplog, breaker={"failures": 2}) as services:
        (tmp_path / "b").mkdir(exist_ok=True)
        for text in ("b", "c"):
            cut = UpstreamDisconnected("reset")
            await services.finished(await services.submit_script(text, [cut]))
        assert [line for line in lines(caplog) if "model m rests" in line] == [
            "WARNING model m rests for 30 s: 2 calls in a row have failed, the last with "
            "upstream_disconnected; then one tries it"
        ]


@virtual
async def test_words_about_a_request_are_not_logged_unless_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for prompts in (False, True):
        caplog.clear()
        folder = tmp_path / str(prompts)
        folder.mkdir()
        async with opened(folder, caplog, log={"prompts": prompts}) as services:
            refused = AuthUnexplained("forbidden: a secret wish", status=403)
            task_id = await services.submit_script("a secret wish", [refused])
            await services.finished(task_id)
            rejected = UpstreamRejected("bad: another secret wish")
            await services.finished(await services.submit_script("another secret wish", [rejected]))
            assert any("HTTP 403" in line for line in lines(caplog)) is not prompts
        text = "\n".join(str(vars(record)) for record in caplog.records)
        assert ("secret wish" in text) is prompts


@virtual
async def test_a_pause_by_an_operator_is_logged_and_its_end_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, caplog) as services:
        await services.services.holds.pause("m")
        await services.services.holds.resume("m")
        await looked(services)
        assert [line.partition(",")[0] for line in lines(caplog)] == [
            "INFO model m takes no calls: an operator has paused it",
            "INFO model m takes calls again",
        ]


@virtual
async def test_a_full_rate_window_is_no_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, ASYNC)
    async with EngineServices(tmp_path, {"m": model(rpm=2)}) as services:
        for text in ("a", "b", "c"):
            await services.finished(await services.submit(text))
        await looked(services)
        assert lines(caplog) == []
