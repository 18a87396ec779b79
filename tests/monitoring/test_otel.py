"""Spans and metrics for OpenTelemetry: what they say, and collectors that are away."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from asyncsvc.errors import RateLimited, StartError, UpstreamRejected
from asyncsvc.monitoring import otel, otel_sdk
from asyncsvc.monitoring.otel_sdk import OtlpSender
from asyncsvc.monitoring.spans import Measured, SpanRecord
from asyncsvc.tasks.submission import Submission
from asyncsvc.tasks.trace import Trace, attempt_span, task_span
from tests.engine_services import EngineServices, model
from tests.scripted import Script
from tests.virtual_time import virtual

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Kept:
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[SpanRecord] = []
        self.closed = False

    def send(self, span: SpanRecord) -> None:
        self.spans.append(span)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    made = Kept()
    monkeypatch.setattr(otel, "_connected", lambda endpoint: made)
    return made


def recording(folder: Path, prompts: bool = False, **more: Any) -> EngineServices:
    section = {"endpoint": "http://127.0.0.1:4318", "prompts": prompts}
    return EngineServices(folder, {"m": model()}, otel=section, **more)


@virtual
async def test_a_task_is_a_span_above_those_of_its_attempts(tmp_path: Path, kept: Kept) -> None:
    async with recording(tmp_path) as services:
        services.client.usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        refusal = RateLimited("slow down", retry_after=2.0)
        scripts: list[Script] = [[refusal], [1.0, "Good ", 2.0, "day"]]
        task_id = await services.submit_script("a prompt", *scripts, session_id="s")
        await services.finished(task_id)
        traces = [call.trace for call in services.client.calls]
    trace, above = task_id.replace("-", ""), task_span(task_id, ())
    refused, answered, task = kept.spans
    assert {span.trace_id for span in kept.spans} == {trace}
    assert [span.span_id for span in (refused, answered)] == [
        attempt_span(task_id, number) for number in (1, 2)
    ]
    assert [refused.parent_id, answered.parent_id] == [above, above]
    assert (task.span_id, task.parent_id) == (above, None)
    assert traces == [{"traceparent": f"00-{trace}-{s.span_id}-01"} for s in (refused, answered)]
    assert (refused.error, refused.attributes["error.type"]) == ("rate_limited", "rate_limited")
    assert refused.attributes["asyncsvc.outcome"] == "deferred"
    assert (answered.name, answered.error) == ("chat id", None)
    assert answered.end - answered.start == 3000
    assert (task.name, task.error) == ("task chat", None)
    assert task.end == answered.end
    assert answered.attributes | {"server.address": "x", "gen_ai.provider.name": "x"} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "x",
        "gen_ai.request.model": "id",
        "gen_ai.response.model": "id",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 1.0,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.conversation.id": "s",
        "server.address": "x",
        "server.port": 9,
        "asyncsvc.task.id": task_id,
        "asyncsvc.attempt": 2,
        "asyncsvc.model": "m",
        "asyncsvc.outcome": "completed",
    }
    assert answered.measured is not None
    assert (answered.measured.seconds, answered.measured.first_s) == (3.0, 1.0)
    assert answered.measured.tokens == {"input": 3, "output": 2}
    assert kept.closed
    assert "a prompt" not in str(kept.spans[0].attributes) + str(kept.spans[1].attributes)


@virtual
async def test_spans_join_the_clients_trace_or_are_not_recorded_as_it_wants(
    tmp_path: Path, kept: Kept
) -> None:
    async with recording(tmp_path) as services:
        for flags in ("01", "00"):
            context = Trace(f"00-{TRACE}-{SPAN}-{flags}")
            submit = services.services.intake.submit
            accepted = await submit(Submission(content=flags), trace=context)
            await services.finished(accepted.task_id)
    assert [(span.trace_id, span.parent_id) for span in kept.spans if "task" in span.name] == [
        (TRACE, SPAN)
    ]
    assert len(kept.spans) == 2


@virtual
async def test_prompts_and_answers_are_added_only_where_that_is_asked_for(
    tmp_path: Path, kept: Kept
) -> None:
    async with recording(tmp_path, prompts=True) as services:
        task_id = await services.submit_script("a prompt", ["an answer"])
        await services.finished(task_id)
    attributes = kept.spans[0].attributes
    assert '"content":"a prompt"' in attributes["gen_ai.input.messages"]
    assert '"content":"an answer"' in attributes["gen_ai.output.messages"]


@virtual
async def test_a_failed_task_and_a_second_life_have_spans_of_their_own(
    tmp_path: Path, kept: Kept
) -> None:
    async with recording(tmp_path) as services:
        task_id = await services.submit_script("hi", [UpstreamRejected("no")], ["ok"])
        await services.finished(task_id)
        await services.services.control.retry(task_id)
        await services.finished(task_id)
    names = [(span.name, span.error) for span in kept.spans]
    failed, fine = "upstream_rejected", None
    assert names == [
        ("chat id", failed), ("task chat", failed),
        ("chat id", fine), ("task chat", fine),
    ]  # fmt: skip
    assert len({span.span_id for span in kept.spans}) == 4
    assert kept.spans[2].parent_id == kept.spans[3].span_id


@virtual
async def test_tasks_that_share_a_call_count_once(tmp_path: Path, kept: Kept) -> None:
    async with recording(tmp_path) as services:
        services.client.default = [1.0, "ok"]
        ids = await services.submit_many(["same", "same"], params={"temperature": 0})
        for task_id in ids:
            await services.finished(task_id)
        assert len(services.client.calls) == 1
    measured = [span for span in kept.spans if span.measured is not None]
    assert len(measured) == 1
    assert sum(span.calls_provider for span in kept.spans) == 1


@virtual
async def test_without_the_extra_the_start_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "find_spec", lambda name: None)
    with pytest.raises(StartError, match=r"pip install 'asyncsvc\[otel\]'"):
        async with recording(tmp_path):
            pass


# The SDK, over real HTTP ----------------------------------------------------------------------


class Collector:
    """An OTLP collector over HTTP that keeps what it is sent, or never answers."""

    def __init__(self, hangs: bool = False) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        self.asked, self.released = threading.Event(), threading.Event()
        if not hangs:
            self.released.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.bodies.append(
                    (self.path, self.rfile.read(int(self.headers["content-length"])))
                )
                outer.asked.set()
                outer.released.wait()
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def collector(hangs: bool = False) -> Iterator[Collector]:
    made = Collector(hangs)
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        made.released.set()
        made.server.shutdown()
        thread.join()
        made.server.server_close()


def span(**more: Any) -> SpanRecord:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "x"}
    measured = Measured(0.5, 0.1, {"input": 3}, attributes)
    made = SpanRecord("chat x", TRACE, SPAN, None, 1000, 2000, attributes, True)
    made.measured = measured
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_spans_and_metrics_reach_a_collector() -> None:
    with collector() as there:
        sender = OtlpSender(there.url, "1.0")
        sender.send(span())
        sender.send(span(span_id="2" * 16, parent_id=SPAN, error="timeout", calls_provider=False))
        sender.close()
    sent = dict(there.bodies)
    traces = ExportTraceServiceRequest.FromString(sent["/v1/traces"])
    resource = {a.key: a.value.string_value for a in traces.resource_spans[0].resource.attributes}
    assert (resource["service.name"], resource["service.version"]) == ("asyncsvc", "1.0")
    first, second = traces.resource_spans[0].scope_spans[0].spans
    assert (first.trace_id.hex(), first.span_id.hex(), first.parent_span_id) == (TRACE, SPAN, b"")
    assert (first.start_time_unix_nano, first.end_time_unix_nano) == (10**9, 2 * 10**9)
    assert (first.kind, second.kind) == (3, 1)  # CLIENT, INTERNAL
    assert second.parent_span_id.hex() == SPAN
    assert (second.status.code, second.status.message) == (2, "timeout")
    metrics = ExportMetricsServiceRequest.FromString(sent["/v1/metrics"])
    found = {m.name: m for m in metrics.resource_metrics[0].scope_metrics[0].metrics}
    assert found.keys() == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.token.usage",
    }
    assert found["gen_ai.client.operation.duration"].histogram.data_points[0].count == 2
    assert found["gen_ai.client.token.usage"].histogram.data_points[0].sum == 6


@virtual
async def test_a_collector_that_never_answers_holds_nothing_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with collector(hangs=True) as there:
        sender = OtlpSender(there.url, "1.0")
        for number in range(10_000):  # more than the queue holds: the rest is dropped
            sender.send(span(span_id=f"{number + 1:016x}"))
        ended = threading.Event()

        def close() -> None:
            sender.close()
            ended.set()

        await otel.bounded(close)
        assert "did not take the last spans in 3 s" in caplog.text
        there.released.set()
        await asyncio.to_thread(ended.wait)


@virtual
async def test_a_collector_that_is_not_there_costs_only_its_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel_sdk, "TIMEOUT_S", 0.1)
    with collector() as there:
        nowhere = there.url
    async with EngineServices(tmp_path, {"m": model()}, otel={"endpoint": nowhere}) as services:
        task = await services.finished(await services.submit("hi"))
        assert task.state == "completed"
