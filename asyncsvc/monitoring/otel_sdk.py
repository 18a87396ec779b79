"""OpenTelemetry's SDK with its exporter of OTLP over HTTP: the only module that imports it.

Spans and metrics have the service's own providers: those of the process stay as they are. Both are
sent by daemon threads of the SDK, each request bounded by `TIMEOUT_S`; a queue that is full drops.
"""

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace import TraceFlags as Flags

from asyncsvc.monitoring.spans import Measured, SpanRecord

SCOPE = "asyncsvc"
TIMEOUT_S = 5.0
QUEUE_MOST = 4096
EVERY_MS = 60_000.0
"""How often metrics are sent."""
SECONDS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
TOKENS = tuple(4.0**power for power in range(14))
"""The bounds of histograms that the conventions name."""
NANOS = 1_000_000


class _GivenIds(IdGenerator):
    """The ids of the next span, as the task has them."""

    trace_id = span_id = 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class OtlpSender:
    """Sends spans, and what they contribute to the metrics of GenAI clients."""

    def __init__(self, endpoint: str, version: str, exporter: SpanExporter | None = None) -> None:
        resource = Resource.create({"service.version": version})
        # Its name is the service's own, unless OTEL_SERVICE_NAME or the like gives another.
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": SCOPE}))
        self._ids = _GivenIds()
        self._tracers = TracerProvider(
            resource=resource, shutdown_on_exit=False, id_generator=self._ids
        )
        exporter = exporter or OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=TIMEOUT_S)
        self._tracers.add_span_processor(BatchSpanProcessor(exporter, QUEUE_MOST))
        self._tracer = self._tracers.get_tracer(SCOPE, version)
        metrics = OTLPMetricExporter(f"{endpoint}/v1/metrics", timeout=TIMEOUT_S)
        reader = PeriodicExportingMetricReader(metrics, EVERY_MS)
        self._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        meter = self._meters.get_meter(SCOPE, version)
        self._durations = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )  # fmt: skip
        self._first_chunks = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "Time to receive the first chunk.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )  # fmt: skip
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )  # fmt: skip

    def send(self, span: SpanRecord) -> None:
        """Put a span into the queue."""
        self._ids.trace_id, self._ids.span_id = int(span.trace_id, 16), int(span.span_id, 16)
        made = self._tracer.start_span(
            span.name,
            context=_below(span),
            kind=SpanKind.CLIENT if span.calls_provider else SpanKind.INTERNAL,
            attributes=span.attributes,
            start_time=span.start * NANOS,
        )
        if span.error is not None:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(span.end * NANOS)
        if span.measured is not None:
            self._measure(span.measured)

    def _measure(self, measured: Measured) -> None:
        self._durations.record(measured.seconds, measured.attributes)
        if measured.first_s is not None:
            self._first_chunks.record(measured.first_s, measured.attributes)
        for kind, count in measured.tokens.items():
            self._tokens.record(count, measured.attributes | {"gen_ai.token.type": kind})

    def close(self) -> None:
        """Send what is left, and end the threads."""
        self._tracers.shutdown()
        self._meters.shutdown(TIMEOUT_S * 1000)


def _below(span: SpanRecord) -> Context | None:
    """The context of the parent; an empty one where the span is the first of its trace."""
    if span.parent_id is None:
        return Context()
    ids = int(span.trace_id, 16), int(span.parent_id, 16)
    parent = SpanContext(*ids, is_remote=True, trace_flags=Flags(Flags.SAMPLED))
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())
