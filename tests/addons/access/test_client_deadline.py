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


def test_client_deadline_of_a_new_connection_is_the_head_timeout(deadline: ClientDeadline) -> None:
    assert deadline.deadline == 1030


def test_client_deadline_is_off_during_a_response_and_the_idle_timeout_afterwards(deadline: ClientDeadline) -> None:
    deadline.stop()
    assert deadline.deadline is None
    deadline.idle()
    assert deadline.deadline == 1120


def test_client_deadline_is_extended_by_a_body_at_the_minimum_rate(deadline: ClientDeadline, time: Time) -> None:
    deadline.await_body()
    for _ in range(100):
        time.now += 50
        deadline.body_came(int(50 * RATE))
        assert deadline.deadline == time.now + 60


def test_client_deadline_one_byte_in_50_seconds_counts_as_no_progress(deadline: ClientDeadline, time: Time) -> None:
    deadline.await_body()
    time.now += 50
    deadline.body_came(1)
    assert deadline.deadline == pytest.approx(1060, abs=0.1)


def test_client_deadline_caps_the_total_time_of_a_buffered_body_and_not_a_streamed_one(time: Time) -> None:
    deadline = ClientDeadline(ClientTimeouts(head=30, body=60, idle=120, whole_body=90), time)
    deadline.await_body()
    time.now += 50
    deadline.body_came(10**9)
    assert deadline.deadline == 1090
    deadline.pass_body_on()
    deadline.body_came(1)
    assert deadline.deadline == 1110


def test_client_deadline_early_burst_of_body_bytes_earns_no_extra_time(deadline: ClientDeadline, time: Time) -> None:
    deadline.await_body()
    time.now += 1
    deadline.body_came(10**9)
    assert deadline.deadline == 1061
    time.now += 30
    deadline.body_came(1)
    assert deadline.deadline == pytest.approx(1061, abs=0.1), "nor to send a byte now and then"


def test_client_deadline_linger_is_bounded_in_time_and_bytes(deadline: ClientDeadline, time: Time) -> None:
    deadline.linger()
    assert deadline.deadline == 1000 + LINGER_PAUSE
    time.now += LINGER_SECONDS - 1
    assert deadline.still_lingers(LINGER_BYTES)
    assert deadline.deadline == 1000 + LINGER_SECONDS
    assert not deadline.still_lingers(1)


def test_client_deadline_of_an_idle_retiring_connection_is_the_close_grace(
    deadline: ClientDeadline, time: Time
) -> None:
    deadline.idle()
    time.now += 1
    deadline.retire()
    assert deadline.deadline == 1001 + CLOSE_GRACE


def test_client_deadline_of_a_busy_retiring_connection_is_the_close_grace_once_idle(
    deadline: ClientDeadline,
) -> None:
    deadline.await_body()
    deadline.retire()
    assert deadline.deadline == 1060
    deadline.stop()
    assert deadline.deadline is None
    deadline.idle()
    assert deadline.deadline == 1000 + CLOSE_GRACE
