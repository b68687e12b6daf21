import pytest

from addons.access.body_pace import BodyPace, BodyTimes

TIMES = BodyTimes(pause=60, rate=1000, whole=300)


def test_a_body_may_come_slowly_if_it_is_passed_on() -> None:
    pace = BodyPace(TIMES, 0.0)
    pace.pass_on()
    for now in range(50, 100_000, 50):
        assert pace.deadline >= now
        pace.came(50 * 1000, now)
    assert pace.deadline == now + 60


def test_a_byte_now_and_then_is_no_progress_whatever_came_before() -> None:
    pace = BodyPace(TIMES, 0.0)
    pace.came(10**9, 1.0)
    pace.came(1, 31.0)
    assert pace.deadline == pytest.approx(61.0, abs=0.1)


def test_a_rate_that_is_too_low_uses_the_pause_up() -> None:
    pace = BodyPace(TIMES, 0.0)
    pace.pass_on()
    now = 0.0
    while pace.deadline > now:
        now += 1
        pace.came(500, now)
    assert now == pytest.approx(120, abs=1)


def test_a_body_that_is_held_has_a_deadline_as_a_whole() -> None:
    pace = BodyPace(TIMES, 0.0)
    for now in range(299):
        pace.came(10_000, now)
    assert pace.deadline == 300


def test_what_others_do_not_take_is_not_the_clients_delay() -> None:
    pace = BodyPace(TIMES, 0.0)
    pace.excuse(100.0)
    assert pace.deadline == 160
