import pytest

from addons.exchange.token_times import TokenTimes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as a list of one number to be changed."""
    now = [100.0]
    monkeypatch.setattr("addons.exchange.token_times.time.time", lambda: now[0])
    return now


def test_token_times_counts_intervals_in_buckets_and_batched_events_in_the_first(clock: list[float]) -> None:
    times = TokenTimes([0.1, 1.0])
    times.came()
    clock[0] += 0.5
    times.came(3)
    clock[0] += 2.0
    times.came()
    assert (times.first, times.counts, times.total) == (100.0, [2, 1, 1], 2.5)
    assert times.mean() == 2.5 / 4


def test_token_times_clock_set_back_gives_a_zero_interval(clock: list[float]) -> None:
    times = TokenTimes([0.1])
    times.came()
    clock[0] -= 50
    times.came()
    assert (times.counts, times.total) == ([1, 0], 0.0)


def test_token_times_single_event_has_no_mean_interval() -> None:
    times = TokenTimes([0.1])
    assert times.mean() is None
    times.came()
    assert times.mean() is None
