"""Caches attestation reports, shares concurrent ones, and bounds how many are made at once."""

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from attest_web.attestation.report_data import NONCE_BYTES
from attest_web.attestation.reports import ReportRequest
from attest_web.metrics import Metrics
from attest_web.process.daemon_threads import DaemonThreads

logger = logging.getLogger(__name__)

MAX_MAKING = 8
"""Reports that may be made at once; a request for one more is refused."""

MAX_SHARING = 12
"""Requests that may wait at once for a report that another request is making; one more is refused."""

MAX_PER_CLIENT = 4
"""Requests of one client that may wait at once for fresh reports: half of those that may be made."""

MAX_PER_STRANGER = 2
"""The same where reports need no token."""

MAX_WAIT = 90.0
"""Seconds that a request waits for a report that another one is making."""


class TooManyReportsError(Exception):
    """Too many requests, or too many of one client's, wait for fresh reports. To be retried in a second."""


@dataclass(frozen=True)
class _CacheEntry:
    report: bytes
    made_at: float


class ReportCache:
    """Returns reports, cached or fresh. Thread-safe.

    Without a nonce of the caller's, a report may be up to `lifetime` old; from half of that on, a request starts a
    refresh in the background, and still gets the old one. With a nonce, it is always fresh; concurrent requests with
    the same nonce share it.
    """

    def __init__(
        self,
        make: Callable[[ReportRequest, bytes], bytes],
        lifetime: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty cache.

        Args:
            make: Makes a report, e.g. `Attestation.report`; may block for long.
            lifetime: Seconds for which a report without a nonce is cached.
            metrics: Count cache hits and misses.
            clock: Seconds, monotonic.
        """
        self._make = make
        self._lifetime = lifetime
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._cached: dict[ReportRequest, _CacheEntry] = {}  # not expired: at most one for each kind of request
        self._refreshing: set[ReportRequest] = set()
        self._under_way: dict[tuple[ReportRequest, bytes | None], Future[bytes]] = {}
        self._sharing = 0
        self._waiting: Counter[str] = Counter()  # by client; as many as there may be requests under way
        self._background = DaemonThreads("report refresh", 1)

    def report(
        self, request: ReportRequest, nonce: bytes | None, client: str | None = None, share: int = MAX_PER_CLIENT
    ) -> bytes:
        """The report for a request, as JSON.

        Args:
            request: The key and the TLS key that it is about.
            nonce: 32 bytes of the caller's, or None.
            client: The client, if it is held to a share.
            share: How many requests of that client may wait at once.

        Raises:
            TooManyReportsError: Too much is under way, or too much for this client.
            Exception: Whatever `make` raises.
        """
        if nonce is None:
            kept = self._lookup(request)
            self._metrics.attestation_cache.labels("miss" if kept is None else "hit").inc()
            if kept is not None:
                return kept
        if client is None:
            return self._fresh(request, nonce)
        with self._share_of(client, share):
            return self._fresh(request, nonce)

    def close(self) -> None:
        """Begin no more work in the background."""
        self._background.close()

    @contextmanager
    def _share_of(self, client: str, share: int) -> Iterator[None]:
        with self._lock:
            if self._waiting[client] >= share:
                raise TooManyReportsError
            self._waiting[client] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[client] -= 1
                if not self._waiting[client]:
                    del self._waiting[client]

    def _lookup(self, request: ReportRequest) -> bytes | None:
        with self._lock:
            kept = self._cached.get(request)
            age = self._clock() - kept.made_at if kept else 0
            if kept is None or age >= self._lifetime:
                return None
            if age >= self._lifetime / 2 and request not in self._refreshing:
                self._refreshing.add(request)
                self._background.submit(self._refresh, request)
            return kept.report

    def _refresh(self, request: ReportRequest) -> None:
        try:
            self._make_and_cache(request)
        except Exception as error:
            # The old report is returned until it expires; the first request after that gets the error.
            logger.warning("a report could not be refreshed: %s", type(error).__name__)
        finally:
            with self._lock:
                self._refreshing.discard(request)

    def _make_and_cache(self, request: ReportRequest) -> bytes:
        made_at = self._clock()
        report = self._make(request, secrets.token_bytes(NONCE_BYTES))
        with self._lock:
            # A renewed TLS key makes another kind of request; the old kind is not requested any more.
            good = {kind: kept for kind, kept in self._cached.items() if made_at - kept.made_at < self._lifetime}
            self._cached = good | {request: _CacheEntry(report, made_at)}
        return report

    def _fresh(self, request: ReportRequest, nonce: bytes | None) -> bytes:
        key = (request, nonce)
        with self._lock:
            shared = self._under_way.get(key)
            if shared is None and len(self._under_way) >= MAX_MAKING:
                raise TooManyReportsError
            if shared is not None and self._sharing >= MAX_SHARING:
                raise TooManyReportsError
            if shared is None:
                mine: Future[bytes] = Future()
                self._under_way[key] = mine
            else:
                self._sharing += 1
        if shared is not None:
            try:
                return shared.result(MAX_WAIT)
            finally:
                with self._lock:
                    self._sharing -= 1
        try:
            mine.set_result(self._make_and_cache(request) if nonce is None else self._make(request, nonce))
        except BaseException as error:
            mine.set_exception(error)
        finally:
            with self._lock:
                del self._under_way[key]
        return mine.result()
