"""Applies a mutation to a copy of the checkout, runs tests there, and returns the outcome."""

import enum
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.mutation_testing.checkout import copy_of, python_of
from scripts.mutation_testing.mutations import Mutation, MutationError

PYTEST_OPTIONS = (
    "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly", "--timeout", "60", "--hypothesis-seed", "0",
)  # fmt: skip
"""Options for the same tests with the same examples each time, so that results are reproducible."""

PASSED, FAILED = 0, 1
"""Exit statuses of pytest. All others mean that the tests did not run."""

_FAILED_TEST = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class Outcome(enum.Enum):
    """The outcome of a mutation."""

    CAUGHT = "caught"
    MISSED = "missed"
    DOES_NOT_APPLY = "does not apply"
    NOT_RUN = "tests did not run"


@dataclass(frozen=True)
class Result:
    """The result of one mutation.

    Attributes:
        mutation: The mutation.
        outcome: Its outcome.
        detail: The first test that failed, or why it does not apply, or why the tests did not run.
        seconds: How long it took.
    """

    mutation: Mutation
    outcome: Outcome
    detail: str
    seconds: float


@dataclass(frozen=True)
class PytestRun:
    """A run of pytest.

    Attributes:
        status: Its exit status; None if it was terminated at its time limit or on request.
        output: Its standard output and error.
    """

    status: int | None
    output: str

    @property
    def failed(self) -> list[str]:
        """Ids of the tests that failed."""
        return _FAILED_TEST.findall(self.output)

    @property
    def last_line(self) -> str:
        """The last line that it wrote."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "no output")


def try_mutation(
    mutation: Mutation, checkout: Path, more_tests: Sequence[str], limit: float, stopping: threading.Event
) -> Result:
    """Try one mutation.

    Args:
        mutation: The mutation.
        checkout: The original, which stays as it is.
        more_tests: Further arguments of pytest, run where the named tests miss it.
        limit: Seconds that pytest may take.
        stopping: When it is set, pytest is ended.
    """
    started = time.monotonic()
    with copy_of(checkout) as copy:
        try:
            mutation.apply_to(copy)
        except MutationError as error:
            outcome, detail = Outcome.DOES_NOT_APPLY, str(error)
        else:
            outcome, detail = _judge(run_tests(copy, mutation.tests, limit, stopping, "-x"))
            if outcome is Outcome.MISSED and more_tests:
                outcome, detail = _judge(run_tests(copy, more_tests, limit, stopping, "-x"))
    return Result(mutation, outcome, detail, time.monotonic() - started)


def run_tests(copy: Path, tests: Sequence[str], limit: float, stopping: threading.Event, *options: str) -> PytestRun:
    """Run tests in a copy of the checkout, and end what they have started if they take too long.

    Args:
        copy: As `copy_of` gives it.
        tests: Arguments of pytest.
        limit: Seconds that it may take.
        stopping: When it is set, the run is ended.
        options: Further options of pytest.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{python_of(copy).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    process = subprocess.Popen(
        [python_of(copy), "-m", "pytest", *PYTEST_OPTIONS, *options, *tests],
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    ends = time.monotonic() + limit
    try:
        while time.monotonic() < ends and not stopping.is_set():
            try:
                output, _ = process.communicate(timeout=1)
            except subprocess.TimeoutExpired:
                continue
            return PytestRun(process.returncode, output)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started: it leads a group of its own
    return PytestRun(None, process.communicate()[0])


def _judge(run: PytestRun) -> tuple[Outcome, str]:
    if run.status == PASSED:
        return Outcome.MISSED, ""
    if run.status == FAILED:
        return Outcome.CAUGHT, next(iter(run.failed), run.last_line)
    return Outcome.NOT_RUN, "out of time" if run.status is None else f"pytest: {run.last_line}"
