"""The Prometheus metrics of this proxy that count events.

Names and units follow the conventions of Prometheus: base units, the unit in the name, `_total` for counters. No label
holds a value that a client chose: routes are those of the endpoint table, or `other`.

With several workers, each worker writes its values to files that all workers read (prometheus_client's multiprocess
mode). So each worker can serve the metrics of all, and the counts of a worker that has died are kept.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

DURATIONS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
"""Upper bounds for whole requests, in seconds."""

FIRST_TOKENS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.75, 1.5, 3, 6, 12, 25, 50, 100)
"""Upper bounds for times to a first token, in seconds."""

BETWEEN_TOKENS = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.4, 0.8, 1.6, 5)
"""Upper bounds for times between tokens, in seconds."""

SIGNING = (0.00005, 0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.005, 0.02, 0.1)
"""Upper bounds for making a pair of signatures, in seconds."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods with a label of their own; other methods share one, as a client could invent any number of them."""

ATTESTATION = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
"""Upper bounds for making reports and their parts, in seconds."""


FILES = ("counter", "histogram", "gauge_livesum")
"""prometheus_client's names for the files of a worker, one for each kind of metric used here."""

FILE_SIZE = 512 * 1024
"""Size of each file in bytes: enough for all routes with more statuses than a server uses."""


@dataclass(frozen=True)
class SharedFiles:
    """The files to which a worker writes its values, for the other workers to read.

    Attributes:
        directory: The directory that all workers of a launcher share.
        number: The worker's number, unique among running processes. Its successor continues its counts.
    """

    directory: Path
    number: int

    def use(self) -> None:
        """Keep all metrics that this process creates from now on in the files.

        Raises:
            OSError: There is no space for them.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        # prometheus_client maps sparse files into memory. If the file system is full, as /dev/shm may be with
        # signatures, a write into a hole kills the process (SIGBUS), and every successor. So no file has holes.
        for kind in FILES:
            path = self.directory / f"{kind}_{self.number}.db"
            if not path.exists():
                whole = path.with_suffix(".new")  # others read the files as they are made
                whole.write_bytes(bytes(FILE_SIZE))
                whole.replace(path)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.directory)
        # prometheus_client's way to set it (its issue 509): its default, the process id, would add a file for every
        # worker that was ever started.
        values.ValueClass = values.MultiProcessValue(lambda: self.number)  # type: ignore[no-untyped-call]


class BatchHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def observe_many(self, counts: Sequence[int], total: float) -> None:
        """Add observations that have been counted by bucket.

        Args:
            counts: The number in each bucket, including the bucket above the highest bound.
            total: The sum of the observations.
        """
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Metrics:
    """All metrics that count events. Thread-safe."""

    def __init__(self, shared: SharedFiles | None = None) -> None:
        """Start at 0, or continue the counts of existing files.

        Args:
            shared: The worker's files; None for a single process.
        """
        if shared is not None:
            shared.use()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, used by OpenMetrics only
        self._shared = shared
        self._own = registry = CollectorRegistry()
        self.requests = Counter(
            "tee_requests",
            "Requests that were answered, on either port.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.durations = Histogram(
            "tee_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=DURATIONS,
            registry=registry,
        )
        self.first_token = Histogram(
            "tee_time_to_first_token_seconds",
            "From the first byte of a request to the first event of a streamed answer.",
            ["route"],
            buckets=FIRST_TOKENS,
            registry=registry,
        )
        self.between_tokens = BatchHistogram(
            "tee_time_between_tokens_seconds",
            "Between the events of a streamed answer, as they leave for the client.",
            ["route"],
            buckets=BETWEEN_TOKENS,
            registry=registry,
        )
        self.tokens = Counter(
            "tee_tokens", "Tokens, where the answer tells of its usage.", ["route", "direction"], registry=registry
        )
        self.exchanges = Counter(
            "tee_exchanges",
            "Exchanges on signed routes that were let in, by what came of them.",
            ["state", "reason"],
            registry=registry,
        )
        self.signing = Histogram(
            "tee_signing_seconds", "The making of both signatures.", buckets=SIGNING, registry=registry
        )
        self.conflicts = Counter(
            "tee_signature_store_conflicts",
            "Response ids that were taken already; such an exchange can be found by its receipt id alone.",
            registry=registry,
        )
        self.store_faults = Counter(
            "tee_signature_store_faults",
            "Keys of a shared store that something is wrong with.",
            ["kind"],
            registry=registry,
        )
        self.lookups = Counter(
            "tee_signature_store_lookups", "Signatures asked for by clients.", ["result"], registry=registry
        )
        self.upstream_errors = Counter(
            "tee_upstream_errors", "What went wrong with the model server.", ["kind"], registry=registry
        )
        self.refusals = Counter(
            "tee_refusals",
            "Requests that were refused here, by the type of the error; unavailable: for want of room, or at the stop.",
            ["reason"],
            registry=registry,
        )
        self.attestation = Histogram(
            "tee_attestation_seconds",
            "The making of an attestation report, and of its parts.",
            ["part"],
            buckets=ATTESTATION,
            registry=registry,
        )
        self.attestation_failures = Counter(
            "tee_attestation_failures",
            "Parts of attestation reports that could not be made.",
            ["part"],
            registry=registry,
        )
        self.attestation_cache = Counter(
            "tee_attestation_cache",
            "Reports asked for without a nonce, which may be some minutes old.",
            ["result"],
            registry=registry,
        )
        self.open_streams = Gauge(
            "tee_open_streams", "Event streams that are under way.", multiprocess_mode="livesum", registry=registry
        )
        self.connections = Gauge(
            "tee_connections", "Connections of clients.", multiprocess_mode="livesum", registry=registry
        )
        self.log_dropped = Gauge(
            "tee_log_lines_dropped",
            "Lines of the log that were dropped, as what reads it is too slow.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.store_size = Gauge(
            "tee_signature_store_size",
            "Ids of signatures that are kept in memory.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._show_from_the_start()

    def _show_from_the_start(self) -> None:
        """Start the series of the alert rules at 0: a series that starts at 1 shows no increase."""
        for result in ("hit", "miss"):
            self.attestation_cache.labels(result)
        for result in ("hit", "miss", "not_signed", "unavailable"):
            self.lookups.labels(result)
        for kind in ("unreadable", "refused", "dropped"):
            self.store_faults.labels(kind)
        self.exchanges.labels("signed", "")
        self.exchanges.labels("failed", "signing failed")
        for kind in ("unreachable", "timeout", "broken", "status_5xx"):
            self.upstream_errors.labels(kind)
        for reason in ("unauthorized", "rate_limited", "payload_too_large", "bad_request", "unavailable"):
            self.refusals.labels(reason)
        for part in ("report", "quote", "gpu"):
            self.attestation_failures.labels(part)

    @contextmanager
    def attesting(self, part: str) -> Iterator[None]:
        """Measure the time to make a report or one of its parts, and count failures."""
        began = time.perf_counter()
        try:
            yield
        except Exception:
            self.attestation_failures.labels(part).inc()
            raise
        self.attestation.labels(part).observe(time.perf_counter() - began)

    def registry(self, *more: Collector) -> CollectorRegistry:
        """A registry of all metrics, including those of the other workers.

        Args:
            more: Further collectors.
        """
        if self._shared is None:
            registry = self._own
        else:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, str(self._shared.directory))  # type: ignore[no-untyped-call]
        for collector in more:
            registry.register(collector)
        return registry
