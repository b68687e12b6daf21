from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.load_testing.chat import UntrueError
from scripts.load_testing.stats import QUANTILES, Durations, Stats


@given(st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=200))
def test_quantiles_are_within_one_percent_of_the_exact_value(times: list[float]) -> None:
    durations = Durations()
    for seconds in times:
        durations.add(seconds)
    for share in QUANTILES.values():
        exact = sorted(times)[ceil(share * len(times)) - 1]
        assert durations.quantile(share) == pytest.approx(exact, rel=0.01)
    assert durations.figures()["max"] == max(times)


def test_durations_without_samples_have_no_quantiles_or_figures() -> None:
    assert Durations().quantile(0.5) is None
    assert Durations().figures() == {}


@pytest.mark.parametrize("refused", ["chat", "signature"])
def test_a_hint_names_the_rate_limit_after_429s(refused: str) -> None:
    stats = Stats()
    if refused == "chat":
        stats.count_failed("status 429")
    else:
        stats.count_untrue(UntrueError("ecdsa signature not found", "rcpt-1: status 429"))
    assert "see RATE_LIMIT_PER_SECOND" in stats.as_text()
    assert not stats.holds


def test_control_characters_of_a_server_are_not_printed() -> None:
    stats = Stats()
    stats.count_untrue(UntrueError("ecdsa signature malformed", "\x1b[2Jall is well\n"))
    assert "\x1b" not in stats.as_text()
    assert len(stats.as_text().splitlines()) == 3
