"""The alerts of `deploy/`, and the existing metrics."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from attest_web.gpu.metrics import GpuFigures
from attest_web.metrics import Metrics
from attest_web.pages.metrics import ProxyState
from attest_web.stores.signature_store import MemorySignatureStore

ALERTS = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "alerts.yaml"


@functools.cache
def metrics() -> dict[str, set[str]]:
    """The existing metrics, with their labels: a counter by its name with `_total`, a histogram by its own."""
    counted = [one for one in vars(Metrics()).values() if isinstance(one, MetricWrapperBase)]
    named = {one._name + "_total" * isinstance(one, Counter): set(one._labelnames) for one in counted}
    state = ProxyState(lambda: True, MemorySignatureStore("model", 60), {"version": "1", "revision": "2", "model": "3"})
    for found in state.collect():
        named |= {sample.name: set(sample.labels) for sample in found.samples}
    return named | {found.name: {"gpu"} for found in GpuFigures(None).describe()}


def metric_families() -> set[str]:
    """The names of the existing metrics."""
    return set(metrics())


def alert_rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from group["rules"]
