import threading
from collections.abc import Iterator

import pytest

from attest_web.attestation.report_cache import (
    MAX_MAKING,
    MAX_PER_CLIENT,
    MAX_SHARING,
    ReportCache,
    TooManyReportsError,
)
from attest_web.attestation.reports import ReportRequest
from attest_web.metrics import Metrics
from tests.support.limits import limit

ECDSA, ED25519 = ReportRequest("ecdsa"), ReportRequest("ed25519")


class Maker:
    """Makes numbered reports; waits for `go` where it is told to."""

    def __init__(self) -> None:
        self.nonces: list[bytes] = []
        self.fail = False
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, request: ReportRequest, nonce: bytes) -> bytes:
        with self._lock:
            self.nonces.append(nonce)
            number = len(self.nonces)
        self.begun.release()
        assert self.go.wait(limit())
        if self.fail:
            raise RuntimeError
        return b"%s %d" % (request.algo.encode(), number)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def report_cache(maker: Maker, clock: Clock) -> Iterator[ReportCache]:
    report_cache = ReportCache(maker, 10, Metrics(), clock)
    yield report_cache
    maker.go.set()
    report_cache.close()


def asked(
    report_cache: ReportCache,
    request: ReportRequest,
    nonce: bytes | None,
    answers: list[object],
    client: str | None = None,
) -> threading.Thread:
    """Ask in a thread; the answer, or the error, goes into the list."""

    def ask() -> None:
        try:
            answers.append(report_cache.report(request, nonce, client))
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_report_cache_without_a_nonce_reuses_the_report_for_its_lifetime(
    report_cache: ReportCache, maker: Maker, clock: Clock
) -> None:
    assert [report_cache.report(ECDSA, None) for _ in range(3)] == [b"ecdsa 1"] * 3
    assert report_cache.report(ED25519, None) == b"ed25519 2"
    clock.now = 10
    assert report_cache.report(ECDSA, None) == b"ecdsa 3"
    assert len(set(maker.nonces)) == 3
    assert {len(nonce) for nonce in maker.nonces} == {32}


def test_report_cache_past_half_its_lifetime_refreshes_in_the_background(
    report_cache: ReportCache, maker: Maker, clock: Clock
) -> None:
    report_cache.report(ECDSA, None)
    assert maker.begun.acquire(timeout=limit())
    clock.now = 5
    maker.go.clear()
    assert [report_cache.report(ECDSA, None) for _ in range(3)] == [b"ecdsa 1"] * 3, (
        "one refresh in the background is enough"
    )
    assert maker.begun.acquire(timeout=limit())
    maker.go.set()
    report_cache._background.submit(lambda: None).result(limit())  # behind the refresh
    assert report_cache.report(ECDSA, None) == b"ecdsa 2"
    clock.now = 9.9  # the first one would be refreshed again, the second one is young
    assert report_cache.report(ECDSA, None) == b"ecdsa 2"
    assert len(maker.nonces) == 2


def test_report_cache_failed_refresh_keeps_the_old_report_until_it_expires(
    report_cache: ReportCache, maker: Maker, clock: Clock
) -> None:
    report_cache.report(ECDSA, None)
    clock.now, maker.fail = 6, True
    assert report_cache.report(ECDSA, None) == b"ecdsa 1"
    report_cache._background.submit(lambda: None).result(limit())
    assert report_cache.report(ECDSA, None) == b"ecdsa 1"
    clock.now = 10
    with pytest.raises(RuntimeError):
        report_cache.report(ECDSA, None)


def test_a_refresh_that_failed_is_tried_again_by_the_next_request(
    report_cache: ReportCache, maker: Maker, clock: Clock
) -> None:
    report_cache.report(ECDSA, None)
    clock.now, maker.fail = 6, True
    for _ in range(2):
        assert report_cache.report(ECDSA, None) == b"ecdsa 1"
        report_cache._background.submit(lambda: None).result(limit())  # behind the refresh
    assert len(maker.nonces) == 3
    maker.fail = False
    assert report_cache.report(ECDSA, None) == b"ecdsa 1"
    report_cache._background.submit(lambda: None).result(limit())
    assert report_cache.report(ECDSA, None) == b"ecdsa 4"


def test_report_cache_with_a_nonce_makes_a_fresh_report_each_time(report_cache: ReportCache, maker: Maker) -> None:
    nonce = b"n" * 32
    assert [report_cache.report(ECDSA, nonce), report_cache.report(ECDSA, nonce)] == [b"ecdsa 1", b"ecdsa 2"]
    assert maker.nonces == [nonce, nonce]


def test_concurrent_requests_with_one_nonce_share_a_report(report_cache: ReportCache, maker: Maker) -> None:
    maker.go.clear()
    answers: list[object] = []
    threads = [asked(report_cache, ECDSA, b"n" * 32, answers)]
    assert maker.begun.acquire(timeout=limit())
    threads += [asked(report_cache, ECDSA, b"n" * 32, answers) for _ in range(3)]
    threads += [asked(report_cache, ED25519, b"n" * 32, answers)]  # another key is another report
    assert maker.begun.acquire(timeout=limit())
    while report_cache._sharing < 3:
        threading.Event().wait(0.001)
    maker.go.set()
    for thread in threads:
        thread.join(limit())
    assert sorted(map(str, answers)) == ["b'ecdsa 1'"] * 4 + ["b'ed25519 2'"]


def test_concurrent_requests_share_a_failure(report_cache: ReportCache, maker: Maker) -> None:
    maker.go.clear()
    maker.fail = True
    answers: list[object] = []
    threads = [asked(report_cache, ECDSA, b"n" * 32, answers) for _ in range(3)]
    assert maker.begun.acquire(timeout=limit())
    while report_cache._sharing < 2:
        threading.Event().wait(0.001)
    maker.go.set()
    for thread in threads:
        thread.join(limit())
    assert [type(answer) for answer in answers] == [RuntimeError] * 3
    maker.fail = False
    assert report_cache.report(ECDSA, b"n" * 32) == b"ecdsa 2"


def test_report_cache_too_many_nonces_are_refused_and_cached_reports_still_served(
    report_cache: ReportCache, maker: Maker
) -> None:
    report_cache.report(ECDSA, None)
    maker.go.clear()
    answers: list[object] = []
    threads = [asked(report_cache, ECDSA, bytes([number]) * 32, answers) for number in range(MAX_MAKING)]
    for _ in range(MAX_MAKING + 1):
        assert maker.begun.acquire(timeout=limit())
    with pytest.raises(TooManyReportsError):
        report_cache.report(ECDSA, b"n" * 32)
    assert report_cache.report(ECDSA, None) == b"ecdsa 1"
    maker.go.set()
    for thread in threads:
        thread.join(limit())
    assert len(answers) == MAX_MAKING
    assert report_cache.report(ECDSA, b"n" * 32)


def test_report_cache_bounds_the_requests_that_wait_for_one_report(report_cache: ReportCache, maker: Maker) -> None:
    maker.go.clear()
    answers: list[object] = []
    threads = [asked(report_cache, ECDSA, None, answers)]
    assert maker.begun.acquire(timeout=limit())
    threads += [asked(report_cache, ECDSA, None, answers) for _ in range(MAX_SHARING)]
    while report_cache._sharing < MAX_SHARING:
        threading.Event().wait(0.001)
    with pytest.raises(TooManyReportsError):
        report_cache.report(ECDSA, None)
    maker.go.set()
    for thread in threads:
        thread.join(limit())
    assert answers == [b"ecdsa 1"] * (MAX_SHARING + 1)
    assert (report_cache._sharing, report_cache._under_way) == (0, {})


def test_report_cache_renewed_tls_key_gets_a_new_report_and_expired_ones_are_dropped(
    report_cache: ReportCache, maker: Maker, clock: Clock
) -> None:
    assert report_cache.report(ReportRequest("ecdsa", b"old"), None) == b"ecdsa 1"
    assert report_cache.report(ReportRequest("ecdsa", b"new"), None) == b"ecdsa 2"
    clock.now = 10
    report_cache.report(ECDSA, None)
    assert list(report_cache._cached) == [ECDSA], "what is over is not kept"


def test_report_cache_client_over_its_share_is_refused_and_others_are_served(
    report_cache: ReportCache, maker: Maker
) -> None:
    report_cache.report(ECDSA, None)
    maker.go.clear()
    answers: list[object] = []
    threads = [asked(report_cache, ECDSA, bytes([number]) * 32, answers, "greedy") for number in range(MAX_PER_CLIENT)]
    for _ in range(MAX_PER_CLIENT + 1):
        assert maker.begun.acquire(timeout=limit())
    for nonce in (b"n" * 32, bytes(32)):  # one of its own, and one that is being made already
        with pytest.raises(TooManyReportsError):
            report_cache.report(ECDSA, nonce, "greedy")
    assert report_cache.report(ECDSA, None, "greedy") == b"ecdsa 1", "what is kept costs nothing"
    threads.append(asked(report_cache, ECDSA, b"o" * 32, answers, "other"))
    assert maker.begun.acquire(timeout=limit())
    maker.go.set()
    for thread in threads:
        thread.join(limit())
    assert len(answers) == MAX_PER_CLIENT + 1
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert report_cache.report(ECDSA, b"n" * 32, "greedy")
    assert not report_cache._waiting
