"""`GET /metrics`: the table of all metrics, and their values in Prometheus' text format.

Each request has a registry of its own, so the process's global registry is never touched.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from asyncsvc import __version__
from asyncsvc.access import Permission
from asyncsvc.histogram import Histogram
from asyncsvc.limits.account import AccountLimiter
from asyncsvc.limits.breaker import BreakerState
from asyncsvc.limits.verdict import Stage
from asyncsvc.monitoring.alarms import Level
from asyncsvc.storage.database import VERSION
from asyncsvc.tasks.state import UNFINISHED
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.http.streaming import for_client

Sample = tuple[tuple[str, ...], float | Histogram]
"""The labels' values, and the figure."""
Value = float | Histogram | None
Reader = Callable[[Services], Iterator[Sample]]
ALARMS = ("memory", "disk", "loop_lag", "fds", "queue", "storage", "log", "database")
DAY_S = 86_400.0
NAMED = "other"
"""Stands for a model that is in the settings no more."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric; a counter's name is without `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    read: Reader

    @property
    def shown(self) -> str:
        return f"asyncsvc_{self.name}{'_total' if self.kind == 'counter' else ''}"


def _one(read: Callable[[Services], Value]) -> Reader:
    """A metric without labels; None where it is not known."""

    def rows(services: Services) -> Iterator[Sample]:
        value = read(services)
        if value is not None:
            yield (), value

    return rows


def _by_key(read: Callable[[Services], Mapping[Any, float | Histogram]]) -> Reader:
    """A metric whose labels' values are the keys of a mapping: a text, or a tuple of them."""

    def rows(services: Services) -> Iterator[Sample]:
        for key, value in read(services).items():
            yield (key if isinstance(key, tuple) else (key,)), value

    return rows


def _gates(read: Callable[[AccountLimiter], Value]) -> Reader:
    """A figure of each account."""

    def rows(services: Services) -> Iterator[Sample]:
        for upstream in services.catalogue.upstreams:
            value = read(upstream.gate)
            if value is not None:
                yield (upstream.name, upstream.gate.name), value

    return rows


def _tasks(services: Services) -> Iterator[Sample]:
    lanes = ("priority", "short", "long")
    counts = Counter((t.state.value, t.request.lane) for t in services.journal.live.values())
    for state in sorted(UNFINISHED):
        for lane in lanes:
            yield (state.value, lane), counts[state.value, lane]


def _attempts(services: Services) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, count in services.task_counters.attempts.items():
        counts[name if name in services.settings.models else NAMED] += count
    return counts


def _depth(services: Services) -> Iterator[Sample]:
    for name in dict.fromkeys(upstream.name for upstream in services.catalogue.upstreams):
        yield (name,), services.scheduler.depth(name)


def _failures(services: Services) -> Iterator[Sample]:
    for upstream in services.catalogue.upstreams:
        for code, count in upstream.gate.statistics.failures.items():
            yield (upstream.name, upstream.gate.name, code), count


def _tokens(services: Services) -> Iterator[Sample]:
    for upstream in services.catalogue.upstreams:
        for kind in ("prompt", "completion"):
            yield (upstream.name, upstream.gate.name, kind), upstream.gate.statistics.tokens[kind]


def _breaker(services: Services) -> Iterator[Sample]:
    for upstream in services.catalogue.upstreams:
        now = upstream.gate.breaker.state(upstream.gate.time())
        for state in BreakerState:
            yield (upstream.name, upstream.gate.name, state.value), float(now is state)


def _lag(services: Services) -> Iterator[Sample]:
    for percentile in (50, 99):
        yield (f"{percentile}",), services.monitor.lag.quantile(percentile / 100)


def _rest(gate: AccountLimiter) -> float:
    """Seconds until calls are allowed again; a day stands for "not by itself"."""
    until = gate.verdict(Stage.CALL).until
    if until == math.inf:
        until = gate.breaker.probe_at if gate.fault is None and gate.paused is None else until
    return min(max(until - gate.time(), 0.0), DAY_S)


def _alarm(services: Services) -> Iterator[Sample]:
    for name in ALARMS:
        reason = services.monitor.alarms.reasons.get(name)
        yield (name,), float(Level.OK if reason is None else reason.level)


def _info(_: Services) -> Iterator[Sample]:
    yield (__version__, VERSION), 1.0


GATE = ("model", "gate")
ROWS = [
    Row("info", "gauge", "Always 1; the versions", ("version", "sqlite_version"), _info),
    # Tasks
    Row("tasks", "gauge", "Unfinished tasks", ("status", "lane"), _tasks),
    Row("tasks_accepted", "counter", "Tasks taken into the queue", ("lane",),
        _by_key(lambda h: h.task_counters.accepted)),
    Row("tasks_finished", "counter", "Tasks that have ended", ("status", "lane"),
        _by_key(lambda h: h.task_counters.finished)),
    Row("tasks_failed", "counter", "Failed tasks by their error's code", ("code",),
        _by_key(lambda h: h.task_counters.failed)),
    Row("attempts", "counter", "Starts of tasks at a model, cached answers left out", ("model",),
        _by_key(_attempts)),
    Row("submits_refused", "counter", "Submits refused by the intake, by the answer's code; "
        "storage: the disk refused", ("code",), _by_key(lambda h: h.task_counters.refused)),
    Row("submit_seconds", "histogram", "From a parsed submit to its task on the disk, batches "
        "left out", (), _one(lambda h: h.task_counters.submit)),
    Row("task_wait_seconds", "histogram", "From the queue to the first start", ("lane",),
        _by_key(lambda h: h.task_counters.waited)),
    Row("task_wait_reason_seconds", "counter", "Seconds that claimed tasks had waited, by what "
        "they waited for", ("reason",), _by_key(lambda h: h.scheduler.dispatcher.waits.totals)),
    Row("eta_error_seconds", "histogram", "Distance of the first start from the eta_s of the "
        "submit", (), _one(lambda h: h.task_counters.error)),
    Row("eta_bias_seconds", "gauge", "How much later than estimated tasks start on average; "
        "negative: earlier", (), _one(lambda h: h.task_counters.bias_s)),
    Row("running", "gauge", "Tasks whose call is under way", (),
        _one(lambda h: len(h.executor.executions))),
    Row("queue_limit", "gauge", "queue.max_length", (),
        _one(lambda h: h.settings.queue.max_length)),
    # Models; a gate is one key of one model
    Row("queue_depth", "gauge", "Waiting tasks that the model could serve", ("model",), _depth),
    Row("gate_in_flight", "gauge", "Calls under way", GATE, _gates(lambda g: g.busy)),
    Row("gate_concurrency", "gauge", "Calls that may be under way at once", GATE,
        _gates(lambda g: g.concurrency)),
    Row("gate_window_used", "gauge", "Calls that count in the rate window", GATE,
        _gates(lambda g: g.window.used(g.time()) if g.window.limit else None)),
    Row("gate_window_limit", "gauge", "Calls that the rate window allows; absent: any number",
        GATE, _gates(lambda g: g.window.limit or None)),
    Row("gate_breaker", "gauge", "1 for the state that the breaker is in", (*GATE, "state"),
        _breaker),
    Row("gate_rest_seconds", "gauge", "Until the provider is called again; 0: it is called now, "
        "86400: not by itself", GATE, _gates(_rest)),
    Row("gate_usable", "gauge", "0: disabled until the next start", GATE,
        _gates(lambda g: float(g.fault is None))),
    Row("calls", "counter", "Calls to the provider that have ended, well or not", GATE,
        _gates(lambda g: g.statistics.calls)),
    Row("call_failures", "counter", "Calls that failed, by the error's code", (*GATE, "code"),
        _failures),
    Row("call_seconds", "histogram", "How long answered calls took", GATE,
        _gates(lambda g: g.statistics.seconds)),
    Row("call_first_token_seconds", "histogram", "From the call of a chat to the first piece of "
        "its answer", GATE, _gates(lambda g: g.statistics.first_tokens)),
    Row("call_latency_ewma_seconds", "gauge", "Average of recent answered calls", GATE,
        _gates(lambda g: g.statistics.service_s)),
    Row("tokens", "counter", "Tokens of answered calls, as the provider counts them",
        (*GATE, "kind"), _tokens),
    # Cache
    Row("cache_hits", "counter", "Tasks answered from the cache", (),
        _one(lambda h: h.cache.hits)),
    Row("cache_misses", "counter", "Calls made because no answer was there", (),
        _one(lambda h: h.cache.misses)),
    Row("cache_shared", "counter", "Tasks that took part in the call of another", (),
        _one(lambda h: h.cache.shared)),
    Row("cache_entries", "gauge", "Answers held", (), _one(lambda h: len(h.cache))),
    Row("cache_bytes", "gauge", "Memory of the answers held", (), _one(lambda h: h.cache.bytes)),
    # Webhooks
    Row("webhooks_delivered", "counter", "Notices of finished tasks that were taken", (),
        _one(lambda h: h.webhooks.delivered)),
    Row("webhook_failures", "counter", "Tries of a delivery that were not taken", (),
        _one(lambda h: h.webhooks.failures)),
    Row("webhooks_given_up", "counter", "Notices that are not tried again", (),
        _one(lambda h: h.webhooks.given_up)),
    # Storage
    Row("commit_seconds", "histogram", "Commits to the database, fsync included", (),
        _one(lambda h: h.journal.writes.seconds)),
    Row("commits_refused", "counter", "Commits that the database refused", (),
        _one(lambda h: h.journal.writes.refusals)),
    Row("storage_writable", "gauge", "1: the last write went well", (),
        _one(lambda h: float(h.monitor.writes_go_well))),
    Row("database_bytes", "gauge", "Size of the database file", (),
        _one(lambda h: h.monitor.process_statistics.database)),
    Row("wal_bytes", "gauge", "Size of the write-ahead log", (),
        _one(lambda h: h.monitor.process_statistics.wal)),
    Row("disk_free_bytes", "gauge", "Free where the database lies", (),
        _one(lambda h: h.monitor.process_statistics.disk_free)),
    # The process
    Row("memory_bytes", "gauge", "Resident memory", (),
        _one(lambda h: h.monitor.process_statistics.memory)),
    Row("memory_limit_bytes", "gauge", "limits.memory_mb: above it submits are refused", (),
        _one(lambda h: h.settings.limits.memory_mb * 1_000_000)),
    Row("fds", "gauge", "Open file descriptors", (),
        _one(lambda h: h.monitor.process_statistics.fds)),
    Row("fds_limit", "gauge", "Descriptors that the system allows", (),
        _one(lambda h: h.monitor.process_statistics.fds_limit)),
    Row("cpu_ratio", "gauge", "Processor time used since the last look; 1 is one core", (),
        _one(lambda h: h.monitor.process_statistics.cpu_percent / 100)),
    Row("loop_lag_seconds", "gauge", "Lateness of the event loop in the last minute",
        ("percentile",), _lag),
    Row("worker_restarts", "counter", "Workers that died and were replaced", (),
        _one(lambda h: h.pool.restarts)),
    Row("websockets", "gauge", "Open WebSockets", (), _one(lambda h: len(h.sockets))),
    Row("start_time_seconds", "gauge", "When the service began, since the epoch", (),
        _one(lambda h: h.started_ms / 1000)),
    Row("alarm_level", "gauge", "0 ok, 1 degraded, 2 overloaded", ("alarm",), _alarm),
    Row("alarms", "counter", "Changes of an alarm's level", ("alarm", "level"),
        _by_key(lambda h: h.monitor.alarms.raised)),
    Row("intake_open", "gauge", "1: tasks are taken", (),
        _one(lambda h: float(not h.intake.closed and h.intake.overload is None))),
]  # fmt: skip


class ServiceCollector(Collector):
    """Reads each metric of the table when it is asked."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        for row in ROWS:
            yield _family(row, self._services)


def _family(row: Row, services: Services) -> Metric:
    name = f"asyncsvc_{row.name}"
    if row.kind == "histogram":
        histograms = HistogramMetricFamily(name, row.help, labels=row.labels)
        for labels, value in row.read(services):
            assert isinstance(value, Histogram)
            histograms.add_metric(labels, value.buckets(), value.total)
        return histograms
    kind = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    family = kind(name, row.help, labels=row.labels)
    for labels, value in row.read(services):
        assert not isinstance(value, Histogram)
        family.add_metric(labels, value)
    return family


def exposed(services: Services, accept: str = "") -> tuple[bytes, str]:
    """(text, content type) in the format that the client prefers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServiceCollector(services))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


@operation(
    scope=Permission.ADMIN,
    answer=str,
    media=(
        "text/plain; version=0.0.4; charset=utf-8",
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
    ),
)
async def metrics(request: Request) -> Response:
    """GET /metrics: figures for Prometheus."""
    parts = services(request)
    await for_client(request.receive, parts.turns.next)
    text, content_type = exposed(parts, request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})


ROUTES = [resource("/metrics", GET=metrics)]
