import os
import subprocess
import sys

import pytest

from attest_web.process.memory_file import MemoryFile


def test_memory_file_is_read_repeatedly_by_its_path() -> None:
    file = MemoryFile.holding(b"content", "test")
    assert [file.path.read_bytes() for _ in range(2)] == [b"content"] * 2


def test_memory_file_is_in_no_directory() -> None:
    file = MemoryFile.holding(b"content", "test")
    assert os.readlink(file.path) == "/memfd:test (deleted)"  # noqa: PTH115  # Path would take it for a path


def test_memory_file_is_sealed_against_changes() -> None:
    file = MemoryFile.holding(b"content", "test")
    with pytest.raises(PermissionError):
        os.pwrite(file.fileno(), b"C", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(file.fileno(), 0)
    assert file.path.read_bytes() == b"content"


def test_memory_file_is_not_inherited_by_a_child_process() -> None:
    file = MemoryFile.holding(b"content", "test")
    code = f"import os; os.fstat({file.fileno()})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, close_fds=False).returncode != 0  # noqa: PLW1510


def test_memory_file_of_a_received_descriptor_is_not_inheritable() -> None:
    file = MemoryFile.holding(b"content", "test")
    sent = os.dup(file.fileno())
    os.set_inheritable(sent, True)
    assert MemoryFile(sent).path.read_bytes() == b"content"
    assert not os.get_inheritable(MemoryFile(os.dup(file.fileno())).fileno())


def test_memory_file_is_closed_when_no_longer_referenced() -> None:
    file = MemoryFile.holding(b"content", "test")
    descriptor = file.fileno()
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
