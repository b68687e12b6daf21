import pytest

from addons.launcher.restarts import LONGEST_PAUSE, MAX_FIRST_ATTEMPTS, SHORT_LIFE, Restarts


def test_restarts_after_a_long_life_have_no_pause() -> None:
    restarts = Restarts()
    restarts.ended(SHORT_LIFE)
    assert restarts.pause == 0


@pytest.mark.parametrize("how", ["could not start", "ended soon"])
def test_restarts_pause_grows_with_each_failure_to_a_limit(how: str) -> None:
    restarts, pauses = Restarts(), []
    for _ in range(20):
        if how == "could not start":
            restarts.failed()
        else:
            restarts.ended(SHORT_LIFE - 0.1)
        pauses.append(restarts.pause)
    assert pauses[:7] == [0, 1, 2, 4, 8, 16, LONGEST_PAUSE]
    assert set(pauses[7:]) == {LONGEST_PAUSE}


def test_restarts_failure_count_is_reset_by_a_long_life() -> None:
    restarts = Restarts()
    for _ in range(MAX_FIRST_ATTEMPTS):
        assert not restarts.exhausted
        restarts.ended(0)
    assert restarts.exhausted
    restarts.ended(SHORT_LIFE)
    assert (restarts.failures, restarts.exhausted) == (0, False)
