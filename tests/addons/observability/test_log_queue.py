import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import IO, Any

import pytest
from mitmproxy.test import taddons

from addons.observability.log_output import LogOutput
from addons.observability.log_queue import LogQueue


class TermLog:
    """As mitmproxy's, as far as it is looked at."""

    name = "termlog"

    def __init__(self, file: IO[str]) -> None:
        self.logger: Any = SimpleNamespace(file=file)


class Dumper:
    """As mitmdump's."""

    name = "dumper"

    def __init__(self, outfp: IO[str]) -> None:
        self.outfp: Any = outfp


@pytest.fixture
def output() -> Iterator[IO[str]]:
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "w") as stream:
        yield stream


def loaded(output: IO[str], *addons: object) -> LogQueue:
    """A queue that was loaded beside other addons, with a pipe for standard output."""
    queue = LogQueue()
    with pytest.MonkeyPatch.context() as monkeypatch, taddons.context(*addons):
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "__stdout__", output)
        queue.load(None)
    return queue


def test_log_queue_carries_the_log_and_the_flow_lines(output: IO[str]) -> None:
    log, dumper = TermLog(output), Dumper(output)
    queue = loaded(output, log, dumper)
    assert isinstance(queue.output, LogOutput)
    assert log.logger.file is dumper.outfp is queue.output
    assert queue.output.fileno() == output.fileno()
    assert queue.dropped() == 0
    queue.output.dropped = 3
    assert queue.dropped() == 3


def test_log_queue_leaves_a_log_to_another_output_unchanged(output: IO[str]) -> None:
    log, dumper = TermLog(sys.stderr), Dumper(output)
    queue = loaded(output, log, dumper)
    assert log.logger.file is sys.stderr
    assert dumper.outfp is output
    assert (queue.output, queue.dropped()) == (None, 0)


def test_streams_of_other_programs_are_not_replaced(output: IO[str]) -> None:
    log, dumper = TermLog(output), Dumper(sys.stderr)
    queue = loaded(output, log, dumper)
    assert log.logger.file is queue.output is not None
    assert dumper.outfp is sys.stderr


def test_log_queue_without_mitmproxys_log_has_no_output(output: IO[str]) -> None:
    assert loaded(output).output is None
