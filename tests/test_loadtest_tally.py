from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.loadtest_tally import QUANTILES, Durations


@given(st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=200))
def test_quantiles_are_right_within_one_percent(times: list[float]) -> None:
    durations = Durations()
    for seconds in times:
        durations.add(seconds)
    for share in QUANTILES.values():
        exact = sorted(times)[ceil(share * len(times)) - 1]
        assert durations.quantile(share) == pytest.approx(exact, rel=0.01)
    assert durations.figures()["max"] == max(times)


def test_of_nothing_there_is_nothing_to_tell() -> None:
    assert Durations().quantile(0.5) is None
    assert Durations().figures() == {}
