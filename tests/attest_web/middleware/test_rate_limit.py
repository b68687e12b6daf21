import threading

import pytest
from throttled import utils
from throttled.store import MemoryStoreBackend

from attest_web.middleware.rate_limit import NEVER_LIMITED, Budget, RateLimiter, budget_of


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(utils, "now_mono_f", clock)
    return clock


def passed(limiter: RateLimiter, times: int, client: str = "203.0.113.9") -> int:
    return sum(limiter.seconds_to_wait(client) is None for _ in range(times))


def test_rate_limiter_allows_a_burst_and_then_the_rate(clock: Clock) -> None:
    limiter = RateLimiter(8, 16)
    assert passed(limiter, 50) == 16
    clock.now += 0.5
    assert passed(limiter, 50) == 4
    clock.now += 60
    assert passed(limiter, 50) == 16, "silence saves up no more than a burst"


def test_the_returned_wait_is_in_whole_seconds_and_long_enough(clock: Clock) -> None:
    limiter = RateLimiter(100, 1)
    assert limiter.seconds_to_wait("203.0.113.9") is None
    assert limiter.seconds_to_wait("203.0.113.9") == 1
    clock.now += 1
    assert limiter.seconds_to_wait("203.0.113.9") is None


def test_rate_limiter_counts_clients_separately_and_refusals_cost_nothing(clock: Clock) -> None:
    limiter = RateLimiter(1, 2)
    assert passed(limiter, 1000) == 2
    assert passed(limiter, 5, "203.0.113.10") == 2
    clock.now += 1
    assert passed(limiter, 1000) == 1


def test_rate_limiter_signatures_have_a_budget_of_their_own(clock: Clock) -> None:
    limiter = RateLimiter(1, 2)
    assert passed(limiter, 5) == 2
    counts = [limiter.seconds_to_wait("203.0.113.9", Budget.SIGNATURES) for _ in range(4)]
    assert counts == [None, None, 1, 1]
    assert limiter.seconds_to_wait("203.0.113.9") == 1


@pytest.mark.parametrize(
    ("path", "budget"),
    [
        ("/v1/signature/chatcmpl-1", Budget.SIGNATURES),
        ("/v1/signature/", Budget.SIGNATURES),
        ("/v1/signature", Budget.REQUESTS),
        ("/v1/chat/completions", Budget.REQUESTS),
        ("/v1/attestation/report", Budget.REQUESTS),
        ("/metrics", Budget.REQUESTS),
        *((page, None) for page in NEVER_LIMITED),
    ],
)
def test_rate_limit_budget_is_chosen_by_path(path: str, budget: Budget | None) -> None:
    assert budget_of(path) is budget


def test_rate_limiter_keeps_a_bounded_number_of_clients(clock: Clock) -> None:
    limiter = RateLimiter(1, 1, max_clients=100)
    for number in range(1000):
        assert limiter.seconds_to_wait(f"2001:db8:0:{number:x}::1") is None
    backend = limiter._throttled._store._backend
    assert isinstance(backend, MemoryStoreBackend)
    assert len(backend._client) == len(backend.expire_info) == 100


def test_rate_limiter_threads_share_one_count(clock: Clock) -> None:
    limiter = RateLimiter(1, 100)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(passed(limiter, 100))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sum(counts) == 100
