import pytest

from addons.access.body_pace import BodyPace, BodyTimes

TIMES = BodyTimes(pause=60, rate=1000, whole=300)


def test_body_pace_streamed_body_at_the_minimum_rate_has_no_total_deadline() -> None:
    pace = BodyPace(TIMES, 0.0)
    pace.pass_on()
    for now in range(50, 100_000, 50):
        assert pace.deadline >= now
        pace.came(50 * 1000, now)
    assert pace.deadline == now + 60


def test_body_pace_single_byte_after_a_burst_counts_as_no_progress() -> None:
    pace = BodyPace(TIMES, 0.0)
    pace.came(10**9, 1.0)
    pace.came(1, 31.0)
    assert pace.deadline == pytest.approx(61.0, abs=0.1)


def test_body_pace_below_the_minimum_rate_exhausts_the_pause() -> None:
    pace = BodyPace(TIMES, 0.0)
    pace.pass_on()
    now = 0.0
    while pace.deadline > now:
        now += 1
        pace.came(500, now)
    assert now == pytest.approx(120, abs=1)


def test_body_pace_buffered_body_has_a_total_deadline() -> None:
    pace = BodyPace(TIMES, 0.0)
    for now in range(299):
        pace.came(10_000, now)
    assert pace.deadline == 300


def test_body_pace_excused_backpressure_does_not_count_against_the_client() -> None:
    pace = BodyPace(TIMES, 0.0)
    pace.excuse(100.0)
    assert pace.deadline == 160
