"""/metrics, and what an overload looks like from outside."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from asyncsvc.monitoring.monitor import Monitor
from asyncsvc.monitoring.process_statistics import ProcessStatistics
from asyncsvc.web.admin.metrics import ALARMS, ROWS
from tests.web.serving import Service, ask, expect, refused, reply, serving
from tests.web.wire import head, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

MB = 1_000_000
NAME = re.compile(r"asyncsvc_[a-z]+(_[a-z]+)*")
PREFIXES = ("asyncsvc_", "process_", "python_gc_")


async def _samples(service: Service) -> list[Sample]:
    answer = await service.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return [sample for family in parse_text(answer.text) for sample in family.samples]


async def _value(service: Service, name: str, **labels: str) -> float:
    found = [s for s in await _samples(service) if s.name == name and s.labels == labels]
    assert len(found) == 1, name
    return found[0].value


async def test_each_metric_of_the_table_is_there_and_well_formed(fresh: Service) -> None:
    for content in ("hello", "[[sim:400]]"):
        await fresh.done(await fresh.submit(content, model="fast", cache=True, max_retries=0))
    await fresh.http.post("/tasks", json={"content": "x", "model": "fast", "max_wait_s": 0})
    text = (await fresh.http.get("/metrics")).text
    families = {family.name: family for family in parse_text(text)}
    assert all(name.startswith(PREFIXES) for name in families)
    seen = {name: f for name, f in families.items() if name.startswith("asyncsvc_")}
    assert seen.keys() == {f"asyncsvc_{row.name}" for row in ROWS}
    for row in ROWS:
        family = seen[f"asyncsvc_{row.name}"]
        assert (family.type, family.documentation) == (row.kind, row.help)
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(row.labels), row.name


KINDS = {"counter", "gauge", "histogram", "summary"}
UNITS = {"seconds", "bytes", "ratio"}
OTHER_UNITS = {
    "s", "ms", "us", "sec", "secs", "millis", "milliseconds", "minutes", "hours", "days",
    "b", "kb", "mb", "gb", "kilobytes", "megabytes", "kib", "mib", "percent",
}  # fmt: skip
BOUNDED = {
    "version", "sqlite_version", "status", "lane", "code", "model", "gate", "kind", "reason",
    "state", "alarm", "level", "percentile",
}  # fmt: skip
"""Labels of which each has few values, however many tasks there are."""


async def test_names_follow_the_conventions() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert NAME.fullmatch(row.shown), row.name
        assert not row.name.endswith(("_total", "_count", "_sum", "_bucket"))  # the format's own
        parts = row.name.split("_")
        assert not KINDS & set(parts), row.name
        assert not OTHER_UNITS & set(parts), f"{row.name}: base units, written out"
        assert not UNITS & set(parts[:-1]), f"{row.name}: the unit stands at the end"
        assert row.kind != "histogram" or row.name.endswith("_seconds")
        assert not {"le", "quantile"} & set(row.labels), "labels of histograms and summaries"
        assert set(row.labels) <= BOUNDED
        assert not row.help[0].islower() or "." in row.help.split()[0]
        assert not row.help.endswith(".")
        assert row.help.casefold() != row.name.replace("_", " ")
        assert "\n" not in row.help


async def test_each_alarm_of_the_monitor_is_there(service: Service) -> None:
    watched = {figure.name for figure in service.parts.monitor.figures()}
    assert watched == set(ALARMS)


async def test_a_disabled_model_rests_until_it_is_mended(fresh: Service) -> None:
    gate = {"model": "fast", "gate": "fast"}
    assert await _value(fresh, "asyncsvc_gate_rest_seconds", **gate) == 0
    await fresh.http.post("/models/fast/pause")
    assert await _value(fresh, "asyncsvc_gate_rest_seconds", **gate) == 86_400
    await fresh.http.post("/models/fast/resume")
    assert await _value(fresh, "asyncsvc_gate_rest_seconds", **gate) == 0


async def test_a_client_may_ask_for_openmetrics(service: Service) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = await service.http.get("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert any(family.name == "asyncsvc_tasks" for family in parse_open(answer.text))  # type: ignore[no-untyped-call]


async def test_a_task_leaves_its_traces(fresh: Service) -> None:
    await fresh.done(await fresh.submit("hello", model="fast"))
    await fresh.done(await fresh.submit("[[sim:400]]", model="fast", max_retries=0))
    running = await fresh.running(model="fast")
    gate = {"model": "fast", "gate": "fast"}
    values = {(s.name, *s.labels.values()): s.value for s in await _samples(fresh)}

    def of(name: str, **labels: str) -> float:
        return next(v for (n, *found), v in values.items() if n == name
                    and sorted(found) == sorted(labels.values()))  # fmt: skip

    assert of("asyncsvc_tasks", status="running", lane="short") == 1
    assert of("asyncsvc_tasks_accepted_total", lane="short") == 3
    assert of("asyncsvc_tasks_finished_total", status="completed", lane="short") == 1
    assert of("asyncsvc_tasks_failed_total", code="upstream_rejected") == 1
    assert of("asyncsvc_call_failures_total", **gate, code="upstream_rejected") == 1
    assert of("asyncsvc_gate_in_flight", **gate) == 1
    assert of("asyncsvc_calls_total", **gate) == 2
    assert of("asyncsvc_call_seconds_count", **gate) == 1
    assert of("asyncsvc_call_first_token_seconds_count", **gate) == 1
    assert of("asyncsvc_tokens_total", **gate, kind="completion") > 0
    assert of("asyncsvc_gate_breaker", **gate, state="closed") == 1
    assert of("asyncsvc_submit_seconds_count") == 3
    assert of("asyncsvc_task_wait_seconds_count", lane="short") == 3
    assert of("asyncsvc_eta_error_seconds_count") == 3
    assert of("asyncsvc_commit_seconds_count") > 3
    assert of("asyncsvc_memory_bytes") > MB
    assert of("asyncsvc_fds") > 0
    await fresh.steer(running, "cancel")


async def test_asking_leaves_no_traces(service: Service) -> None:
    def steady(samples: list[Sample]) -> set[str]:
        return {s.name for s in samples if not s.name.startswith(("process_", "python_"))}

    assert steady(await _samples(service)) == steady(await _samples(service))


async def test_it_needs_a_token_where_there_are_tokens(tmp_path: Path) -> None:
    async with serving(tmp_path, {"ASYNCSVC_TOKENS": "s3cret"}) as service:
        refused(await service.http.get("/metrics"), 401, "unauthorized")
        allowed = {"authorization": "Bearer s3cret"}
        answer = await service.http.get("/metrics", headers=allowed)
        assert answer.status_code == 200
        assert "s3cret" not in answer.text


async def test_it_is_only_read(service: Service) -> None:
    refused(await service.http.post("/metrics"), 405, "method_not_allowed")


# Overload -------------------------------------------------------------------------------------


class _Machine:
    """What the service sees of the machine, as the test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = ProcessStatistics(memory=100 * MB, disk_free=5000 * MB, fds=10, fds_limit=1000)
        self.looked = asyncio.Event()
        plain = Monitor.check

        async def check(monitor: Monitor) -> None:
            monitor.look = self._look
            await plain(monitor)
            self.looked.set()

        monkeypatch.setattr(Monitor, "check", check)

    async def _look(self) -> ProcessStatistics:
        return self.seen

    async def shows(self, **seen: Any) -> None:
        """Returns when the service has seen it."""
        self.seen = replace(self.seen, **seen)
        for _ in range(2):  # a look may have been under way
            self.looked.clear()
            await asyncio.wait_for(self.looked.wait(), 20)


LIMITS = {"memory_mb": 500, "disk_free_mb": 200, "loop_lag_ms": 0}


async def test_overload_is_refused_reported_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = _Machine(monkeypatch)
    async with serving(tmp_path, limits=LIMITS) as service, service.ws() as socket:
        running = await service.running()
        await ask(socket, op="subscribe", all=True)
        await machine.shows(disk_free=120 * MB)
        for path, body in (
            ("/tasks", {"content": "x"}),
            ("/tasks/batch", {"tasks": [{"content": "x"}]}),
        ):
            answer = await service.http.post(path, json=body)
            error = refused(answer, 503, "overloaded")
            assert "120 MB free" in error["message"]
            assert 5 <= int(answer.headers["retry-after"]) <= 60
        answered = await ask(socket, op="submit", task={"content": "x"})
        while answered["op"] == "alarm":
            answered = await reply(socket)
        assert (answered["op"], answered["error"]["code"]) == ("error", "overloaded")
        health = expect(await service.http.get("/health"), 200)
        assert (health["status"], health["taking_tasks"]) == ("degraded", False)
        (reason,) = health["reasons"]
        assert (reason["name"], reason["level"]) == ("disk", "overloaded")
        assert (reason["value"], reason["limit"]) == (120 * MB, 200 * MB)
        assert reason["remedy"]
        assert (await service.http.get("/readyz")).status_code == 503
        assert await _value(service, "asyncsvc_alarm_level", alarm="disk") == 2
        assert await _value(service, "asyncsvc_intake_open") == 0
        # Reading, steering and what runs go on.
        assert (await service.task(running))["status"] == "running"
        assert (await service.steer(running, "cancel")).status_code == 200
        await machine.shows(disk_free=5000 * MB)
        health = expect(await service.http.get("/health"), 200)
        assert (health["status"], health["reasons"]) == ("ok", [])
        assert [change["level"] for change in health["alarms"]] == ["overloaded", "ok"]
        await service.done(await service.submit("hello"))
        assert await _value(service, "asyncsvc_submits_refused_total", code="overloaded") == 3


async def test_alarms_go_to_those_who_follow_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = _Machine(monkeypatch)
    async with serving(tmp_path, limits=LIMITS) as service:
        await machine.shows(memory=420 * MB)
        async with service.ws() as everything:
            await ask(everything, op="subscribe", all=True)
            await machine.shows(memory=100 * MB)
            alarm = (await reply(everything))["alarm"]
        # What was before it asked is no news.
        assert (alarm["name"], alarm["was"], alarm["level"]) == ("memory", "degraded", "ok")


async def test_an_overload_is_reported_before_the_body_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = _Machine(monkeypatch)
    async with serving(tmp_path, limits=LIMITS) as service:
        await machine.shows(memory=600 * MB)
        async with wire(service.port) as connection:
            answer = await connection.ask(head("POST", "/tasks", "content-length: 9000000"))
        assert (answer.status, answer.code()) == (503, "overloaded")
