import resource
from collections.abc import Callable

import pytest

from addons.lifecycle.open_files import allow_open_files

type SetLimits = Callable[[int, int], list[tuple[int, int]]]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> SetLimits:
    """Pretends that these are the limits, soft and hard; returns what they are set to."""

    def pretend(soft: int, hard: int) -> list[tuple[int, int]]:
        changes: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda _, pair: changes.append(pair))
        return changes

    return pretend


@pytest.mark.parametrize(
    ("limits_before", "wanted", "allowed", "change"),
    [
        ((100, 1000), 500, 500, [(500, 1000)]),
        ((100, 300), 500, 300, [(300, 300)]),
        ((100, resource.RLIM_INFINITY), 500, 500, [(500, resource.RLIM_INFINITY)]),
        ((500, 1000), 500, 500, []),
        ((800, 1000), 500, 800, []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 500, 500, []),
    ],
    ids=["raised", "as far as the hard limit", "no hard limit", "enough", "more than enough", "no limit"],
)
def test_open_file_limit_is_raised_as_far_as_wanted_and_the_hard_limit_allows(
    limits: SetLimits, limits_before: tuple[int, int], wanted: int, allowed: int, change: list[tuple[int, int]]
) -> None:
    changes = limits(*limits_before)
    assert allow_open_files(wanted) == allowed
    assert changes == change
