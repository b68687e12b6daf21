"""`/metrics`: the metrics, in Prometheus' text format."""

from collections.abc import Callable, Iterator

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from attest_web.stores.signature_store import SignatureStore


class ProxyState(Collector):
    """Gauges that are read when metrics are collected."""

    def __init__(self, ready: Callable[[], bool], store: SignatureStore, build: dict[str, str]) -> None:
        """Prepare; nothing is read yet.

        Args:
            ready: Whether the proxy is ready; may block for a few seconds.
            store: Where the signatures are.
            build: Release and revision of this proxy.
        """
        self._ready = ready
        self._store = store
        self._build = build

    def collect(self) -> Iterator[Metric]:
        """Read the gauges."""
        yield GaugeMetricFamily(
            "tee_ready", "Whether this proxy can do its work, as /ready says.", float(self._ready())
        )
        degraded = float(self._store.degraded)
        yield GaugeMetricFamily(
            "tee_signature_store_degraded", "Whether signatures are kept here alone that others should find.", degraded
        )
        yield InfoMetricFamily("tee_build", "What this proxy is.", self._build)


def blueprint(registry: CollectorRegistry) -> Blueprint:
    """The page of the metrics. It needs no token: nothing in it comes from a client.

    Args:
        registry: The metrics.
    """
    pages = Blueprint("metrics_page", __name__)

    @pages.get("/metrics")
    def metrics() -> ResponseReturnValue:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return pages
