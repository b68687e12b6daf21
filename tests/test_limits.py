"""Limits of tests, and the signals that the programs under test are started with."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.limits import MOST, Deadline, limit, load_factor

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("loadavg", "cpus", "factor"),
    [
        ("0.00 0.00 0.00 1/200 7", 2, 1.0),
        ("1.90 0.00 0.00 2/200 7", 2, 1.0),
        ("6.00 0.00 0.00 1/200 7", 2, 3.0),
        ("0.10 0.00 0.00 8/200 7", 2, 4.0),
        ("0.10 0.00 0.00 8/200 7", 16, 1.0),
        ("900.00 0.00 0.00 1/2000 7", 2, MOST),
    ],
    ids=["idle", "in use", "last minute", "now", "many CPUs", "far too busy"],
)
def test_time_limit_grows_with_the_load_per_cpu(loadavg: str, cpus: int, factor: float) -> None:
    assert load_factor(loadavg, cpus) == pytest.approx(factor)


def test_a_limit_is_never_shorter_than_on_an_idle_machine() -> None:
    assert 5 <= limit(5) <= 5 * MOST
    assert 4 < Deadline(5).left <= 5 * MOST
    assert Deadline(0).left <= 0


@pytest.mark.timeout(50)
def test_pytest_timeout_marker_grows_with_the_load(request: pytest.FixtureRequest) -> None:
    own, given = (marker.args[0] for marker in request.node.iter_markers("timeout"))
    assert given == 50
    assert 50 <= own <= 50 * MOST


def test_programs_started_by_background_tests_do_not_ignore_sigint() -> None:
    """A shell has SIGINT ignored in what it starts with `&`, and all that the tests start would inherit that."""
    script = (
        "import subprocess, tests.conftest\n"
        "tests.conftest.let_programs_be_interrupted()\n"
        "subprocess.run(['grep', 'SigIgn', '/proc/self/status'], check=True)"
    )
    ignoring = ["bash", "-c", "trap '' INT; exec \"$@\"", "-", sys.executable, "-c", script]
    told = subprocess.run(ignoring, cwd=ROOT, capture_output=True, text=True, timeout=limit(30), check=True).stdout
    assert not int(told.split()[1], 16) & 1 << (signal.SIGINT - 1)
