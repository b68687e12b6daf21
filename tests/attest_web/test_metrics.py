"""The metrics themselves: their names, and that workers share them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from attest_web.metrics import FILE_SIZE, Metrics
from tests.support.limits import limit

WORKER = """
import os, sys
from pathlib import Path
from attest_web.metrics import Metrics, SharedFiles
metrics = Metrics(SharedFiles(Path(sys.argv[1]), int(sys.argv[2])))
metrics.requests.labels("/v1/chat/completions", "POST", 200).inc()
metrics.between_tokens.labels("other").observe_many([1] * 15, 2.5)
metrics.connections.set(3)
registry = metrics.registry()
value = registry.get_sample_value
labels = {"route": "/v1/chat/completions", "method": "POST", "status": "200"}
print(value("tee_requests_total", labels), value("tee_connections"), flush=True)
print(value("tee_time_between_tokens_seconds_count", {"route": "other"}), flush=True)
os.kill(os.getpid(), 9)
"""


def test_metric_names_follow_prometheus_conventions(client: FlaskClient) -> None:
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert len(families) > 15
    for name, family in families.items():
        assert name.startswith("tee_")
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|millis|minutes|kb|percent)\b", name)
        if family.type == "histogram":
            assert name.endswith("_seconds")


def test_metrics_page_shows_readiness_and_build_info(client: FlaskClient) -> None:
    text = client.get("/metrics").text
    assert "tee_ready 1.0" in text
    assert 'tee_build_info{model="org/m",revision="abc123",version="1.2.3"} 1.0' in text


def test_signature_lookups_are_counted_by_result(client: FlaskClient) -> None:
    headers = {"Authorization": "Bearer s3cret"}
    client.get("/v1/signature/chatcmpl-123", headers=headers)
    client.get("/v1/signature/no", headers=headers)
    client.get("/v1/signature/chatcmpl-123")  # without a token
    text = client.get("/metrics").text
    assert 'tee_signature_store_lookups_total{result="hit"} 1.0' in text
    assert 'tee_signature_store_lookups_total{result="miss"} 1.0' in text


def test_report_parts_are_timed_and_cache_results_counted(client: FlaskClient) -> None:
    headers = {"Authorization": "Bearer s3cret"}
    for _ in range(2):
        assert client.get("/v1/attestation/report", headers=headers).status_code == 200
    text = client.get("/metrics").text
    for part in ("report", "quote", "gpu"):
        assert f'tee_attestation_seconds_count{{part="{part}"}} 1.0' in text
    assert 'tee_attestation_cache_total{result="hit"} 1.0' in text
    assert 'tee_attestation_cache_total{result="miss"} 1.0' in text


def test_report_part_that_fails_is_counted_and_not_timed() -> None:
    metrics = Metrics()
    with pytest.raises(OSError, match="gone"), metrics.attesting("quote"):
        raise OSError("gone")
    value = metrics.registry().get_sample_value
    assert value("tee_attestation_failures_total", {"part": "quote"}) == 1
    assert value("tee_attestation_seconds_count", {"part": "quote"}) is None


def test_metrics_of_killed_workers_are_kept_and_continued_by_the_next_worker(tmp_path: Path) -> None:
    def work(number: int) -> list[str]:
        command = [sys.executable, "-c", WORKER, f"{tmp_path}/metrics", str(number)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit(30))
        assert done.returncode == -9, done.stderr
        return done.stdout.split()

    assert work(1) == ["1.0", "3.0", "15.0"]
    assert work(2) == ["2.0", "6.0", "30.0"]
    assert work(1) == ["3.0", "6.0", "45.0"]
    assert len(list((tmp_path / "metrics").iterdir())) == 2 * 3


ALL_ROUTES = """
import sys
from pathlib import Path
from attest_web.metrics import METHODS, Metrics, SharedFiles
metrics = Metrics(SharedFiles(Path(sys.argv[1]), 1))
for route in range(40):
    name = f"/v1/a-rather-long-route/{route}"
    for of_route in (metrics.durations, metrics.first_token, metrics.between_tokens):
        of_route.labels(name).observe(1)
    for method in METHODS:
        for status in range(8):
            metrics.requests.labels(name, method, 200 + status).inc()
"""


def test_metrics_files_of_a_worker_are_preallocated_on_disk(tmp_path: Path) -> None:
    """In a file system that is full, a hole that is written to would kill it."""
    directory = tmp_path / "metrics"
    subprocess.run([sys.executable, "-c", ALL_ROUTES, directory], check=True)
    files = list(directory.iterdir())
    assert len(files) == 3
    for file in files:
        found = file.stat()
        assert found.st_blocks * 512 >= found.st_size == FILE_SIZE, file.name
