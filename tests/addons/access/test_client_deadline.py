import pytest

from addons.access.client_deadline import (
    CLOSE_GRACE,
    LINGER_BYTES,
    LINGER_PAUSE,
    LINGER_SECONDS,
    ClientDeadline,
    ClientTimeouts,
)

RATE = ClientTimeouts(head=30, body=60, idle=120).body_rate


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def deadline(time: Time) -> ClientDeadline:
    return ClientDeadline(ClientTimeouts(head=30, body=60, idle=120), time)


def test_a_new_connection_is_to_say_something(deadline: ClientDeadline) -> None:
    assert deadline.deadline == 1030


def test_an_answer_takes_the_time_that_it_takes(deadline: ClientDeadline) -> None:
    deadline.stop()
    assert deadline.deadline is None
    deadline.idle()
    assert deadline.deadline == 1120


def test_a_body_may_take_long_as_long_as_it_gets_on(deadline: ClientDeadline, time: Time) -> None:
    deadline.await_body()
    for _ in range(100):
        time.now += 50
        deadline.body_came(int(50 * RATE))
        assert deadline.deadline == time.now + 60


def test_a_byte_a_minute_is_no_progress(deadline: ClientDeadline, time: Time) -> None:
    deadline.await_body()
    time.now += 50
    deadline.body_came(1)
    assert deadline.deadline == pytest.approx(1060, abs=0.1)


def test_a_body_that_is_held_has_a_deadline_as_a_whole_and_one_that_is_passed_on_has_none(time: Time) -> None:
    deadline = ClientDeadline(ClientTimeouts(head=30, body=60, idle=120, whole_body=90), time)
    deadline.await_body()
    time.now += 50
    deadline.body_came(10**9)
    assert deadline.deadline == 1090
    deadline.pass_body_on()
    deadline.body_came(1)
    assert deadline.deadline == 1110


def test_what_came_early_buys_no_time_to_stop(deadline: ClientDeadline, time: Time) -> None:
    deadline.await_body()
    time.now += 1
    deadline.body_came(10**9)
    assert deadline.deadline == 1061
    time.now += 30
    deadline.body_came(1)
    assert deadline.deadline == pytest.approx(1061, abs=0.1), "nor to send a byte now and then"


def test_whoever_lingers_does_so_for_a_while_and_for_some_bytes(deadline: ClientDeadline, time: Time) -> None:
    deadline.linger()
    assert deadline.deadline == 1000 + LINGER_PAUSE
    time.now += LINGER_SECONDS - 1
    assert deadline.still_lingers(LINGER_BYTES)
    assert deadline.deadline == 1000 + LINGER_SECONDS
    assert not deadline.still_lingers(1)


def test_an_idle_connection_that_retires_has_a_moment_left(deadline: ClientDeadline, time: Time) -> None:
    deadline.idle()
    time.now += 1
    deadline.retire()
    assert deadline.deadline == 1001 + CLOSE_GRACE


def test_a_busy_connection_that_retires_keeps_its_time_and_has_a_moment_when_it_is_done(
    deadline: ClientDeadline,
) -> None:
    deadline.await_body()
    deadline.retire()
    assert deadline.deadline == 1060
    deadline.stop()
    assert deadline.deadline is None
    deadline.idle()
    assert deadline.deadline == 1000 + CLOSE_GRACE
