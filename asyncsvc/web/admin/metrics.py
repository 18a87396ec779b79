"""`GET /metrics`: the service's state in Prometheus' text, at the moment of asking.

Owns the translation of the table in `catalog.py`. Promises a registry of its own for each
answer, so that nothing is kept between two and nothing global is touched. Never counts.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.histogram import Histogram
from asyncsvc.web.admin.metric_catalog import ROWS, Row
from asyncsvc.web.http.operations import operation
from asyncsvc.web.http.resources import resource
from asyncsvc.web.http.state import Services


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


@operation(answer=str, media=("text/plain; version=1.0.0; charset=utf-8",))
async def metrics(request: Request) -> Response:
    """GET /metrics: figures for Prometheus."""
    services: Services = request.scope["state"]["services"]
    text, content_type = exposed(services, request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})


ROUTES = [resource("/metrics", GET=metrics)]
