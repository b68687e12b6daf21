import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

from addons.observability import log_output
from addons.observability.log_output import MAX_WRITE, LogOutput
from tests.support.limits import Deadline, limit


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def read_all(reader: int, end: bytes) -> bytes:
    found = b""
    while not found.endswith(end):
        found += os.read(reader, 65536)
    return found


def drained(output: LogOutput, timeout: float) -> bool:
    """Wait until all lines are written; False where that takes longer than `timeout` seconds."""
    output._at_once.set()
    with output._changed:
        written = output._changed.wait_for(lambda: not output._waiting, timeout)
    output._at_once.clear()
    return written


def test_log_output_writes_lines_whole_and_in_order(pipe: tuple[int, int]) -> None:
    output = LogOutput(pipe[1])
    for number in range(100):
        print("line", number, "é\udcff", file=output)
    print("end", file=output, end="")
    assert drained(output, limit())
    print(file=output)
    expected = "".join(f"line {number} é\\udcff\n" for number in range(100)) + "end\n"
    assert read_all(pipe[0], b"end\n").decode() == expected


def test_a_full_pipe_does_not_block_writers_and_dropped_lines_are_logged(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    output = LogOutput(pipe[1], max_waiting=100_000)
    line = "x" * 999
    for _ in range(1000):
        print(line, file=output)
    assert not drained(output, 0)
    assert 500 < output.dropped < 1000
    reader = threading.Thread(target=read_all, args=(pipe[0], b"end\n"))
    reader.start()
    assert drained(output, limit())
    print("end", file=output)
    reader.join(limit())
    deadline = Deadline()
    while not caplog.records:
        assert deadline.left > 0
        time.sleep(0.01)
    assert f"{output.dropped} lines of the log were dropped" in caplog.text


def test_log_output_on_a_closed_pipe_drops_lines_without_an_error(pipe: tuple[int, int]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    output = LogOutput(writer)
    print("nothing reads this", file=output)
    assert drained(output, limit())
    assert output.dropped == 1


def test_log_output_does_not_buffer_an_unterminated_line(pipe: tuple[int, int]) -> None:
    output = LogOutput(pipe[1], max_waiting=10 * MAX_WRITE)
    for _ in range(3):
        output.write("x" * MAX_WRITE)
    assert len(output._line) <= MAX_WRITE
    while not drained(output, 0):  # it may be done at any moment, and then a read would wait for ever
        if select.select([pipe[0]], [], [], 0.01)[0]:
            os.read(pipe[0], MAX_WRITE)


def test_log_output_close_at_exit_writes_everything_and_ends_its_thread(pipe: tuple[int, int]) -> None:
    output = LogOutput(pipe[1])
    print("the last words", file=output)
    output.close_at_exit()
    assert not output._thread.is_alive()
    assert os.read(pipe[0], 100) == b"the last words\n"


def test_log_output_close_at_exit_waits_for_a_slow_reader_only_for_the_grace_period(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_output, "CLOSE_GRACE", 0.01)
    output = LogOutput(pipe[1])
    output.write("x\n" * 100_000)
    output.close_at_exit()
    assert output._thread.is_alive()
    read = 0
    while read < 200_000:
        read += len(os.read(pipe[0], 65536))
    output._thread.join(limit())
    assert not output._thread.is_alive()
