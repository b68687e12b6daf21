import os
import subprocess
import sys

import pytest

from attest_web.process.memory_file import MemoryFile


def test_it_is_read_by_path_again_and_again() -> None:
    file = MemoryFile.holding(b"content", "test")
    assert [file.path.read_bytes() for _ in range(2)] == [b"content"] * 2


def test_it_is_in_no_directory() -> None:
    file = MemoryFile.holding(b"content", "test")
    assert os.readlink(file.path) == "/memfd:test (deleted)"  # noqa: PTH115  # Path would take it for a path


def test_nothing_can_change_it() -> None:
    file = MemoryFile.holding(b"content", "test")
    with pytest.raises(PermissionError):
        os.pwrite(file.fileno(), b"C", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(file.fileno(), 0)
    assert file.path.read_bytes() == b"content"


def test_a_program_that_is_started_does_not_have_it() -> None:
    file = MemoryFile.holding(b"content", "test")
    code = f"import os; os.fstat({file.fileno()})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, close_fds=False).returncode != 0  # noqa: PLW1510


def test_a_descriptor_that_was_sent_is_not_handed_on_either() -> None:
    file = MemoryFile.holding(b"content", "test")
    sent = os.dup(file.fileno())
    os.set_inheritable(sent, True)
    assert MemoryFile(sent).path.read_bytes() == b"content"
    assert not os.get_inheritable(MemoryFile(os.dup(file.fileno())).fileno())


def test_it_is_closed_with_its_last_use() -> None:
    file = MemoryFile.holding(b"content", "test")
    descriptor = file.fileno()
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
