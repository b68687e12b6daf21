"""SQLite, and what may become of its file."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from attest_web.process.shared_directory import shared_directory
from attest_web.signatures import SignedExchange
from attest_web.stores.shared import SharedSignatureStore
from attest_web.stores.signature_store import MemorySignatureStore, NotSignedError
from attest_web.stores.sqlite_backend import SqliteBackend, losses_of
from attest_web.stores.store_keys import StoreKeys
from tests.attest_web.stores.conftest import settle, until

Damage = Callable[[Path], object]


def opened(path: Path, **bounds: int) -> SharedSignatureStore:
    local, backend = MemorySignatureStore("model", 60), SqliteBackend(path, **bounds)
    return SharedSignatureStore(local, backend, StoreKeys("model"), 60, conflict=Mock(), fault=Mock())


def test_sqlite_files_and_directory_are_private(tmp_path: Path, first: SignedExchange) -> None:
    path = tmp_path / "new" / "signatures.db"
    store = opened(path)
    store.put("x", first)
    settle(store)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    store.close()


def test_shared_directory_is_private_and_removed_afterwards(first: SignedExchange) -> None:
    with shared_directory() as directory:
        path = directory / "signatures.db"
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        store = opened(path)
        store.put("x", first)
        settle(store)
        assert path.exists()
        store.close()
    assert not path.parent.exists()


def test_sqlite_file_size_is_bounded_and_the_oldest_signatures_are_evicted(
    tmp_path: Path, first: SignedExchange
) -> None:
    path = tmp_path / "signatures.db"
    store, other = opened(path, max_bytes=2**20), opened(path, max_bytes=2**20)
    for number in range(4000):
        store.put(f"chat-{number}", first)
    settle(store)
    assert not store.degraded
    assert path.stat().st_size <= 2**20
    assert other.get("chat-0") is None
    assert other.get("chat-3999") == first
    store.close()
    other.close()


OTHER_PROCESS = """
import sys
from pathlib import Path
from attest_web.stores.sqlite_backend import SqliteBackend
backend = SqliteBackend(Path(sys.argv[1]))
backend.check()
print(*(found is not None for found in backend.read([f"model:chat:{chat_id}" for chat_id in sys.argv[2:]])))
backend.close()
"""


def test_sqlite_process_exit_does_not_lose_writes_of_other_processes(tmp_path: Path, first: SignedExchange) -> None:
    """Whoever takes itself for the last one removes the log. The others are known by locks, which are easily lost."""

    def asked_elsewhere(*chat_ids: str) -> str:
        command = [sys.executable, "-c", OTHER_PROCESS, str(path), *chat_ids]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    path = tmp_path / "signatures.db"
    store = opened(path)
    store.put("before", first)
    settle(store)
    assert store.get("elsewhere") is None  # asks the file, over another connection
    assert asked_elsewhere("before") == "True"
    store.put("after", first)
    settle(store)
    assert asked_elsewhere("before", "after") == "True True"
    store.close()


def test_sqlite_file_takes_at_most_half_of_the_file_system(
    tmp_path: Path, first: SignedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=512, f_frsize=4096))
    path = tmp_path / "signatures.db"
    store, other = opened(path), opened(path)
    for number in range(4000):
        store.put(f"chat-{number}", first)
    settle(store)
    assert not store.degraded
    assert path.stat().st_size <= 512 * 4096 // 2
    assert other.get("chat-0") is None
    assert other.get("chat-3999") == first
    store.close()
    other.close()


def test_the_number_of_signatures_is_bounded(tmp_path: Path, first: SignedExchange) -> None:
    path = tmp_path / "signatures.db"
    store, other = opened(path, max_keys=10), opened(path)
    for number in range(100):
        store.put(f"chat-{number}", first)
    settle(store)
    store.writer.suspect()  # has it look after the file at once
    until(lambda: other.get("chat-89") is None)
    assert other.get("chat-90") == first
    store.close()
    other.close()


@pytest.mark.parametrize("full", ["of bytes", "of keys"])
def test_sqlite_client_over_its_share_evicts_only_its_own_signatures(
    tmp_path: Path, first: SignedExchange, full: str
) -> None:
    path = tmp_path / "signatures.db"
    bounds = {"max_bytes": 2 * 2**20} if full == "of bytes" else {"max_keys": 500}
    store, other = opened(path, **bounds), opened(path, **bounds)
    for number in range(100):
        store.put(f"chat-{number}", first, "victim")
    for number in range(8000 if full == "of bytes" else 2000):
        store.put(f"attacker-{number}", first, "attacker")
    settle(store)
    store.writer.suspect()  # has it look after the file at once
    until(lambda: other.get("attacker-0") is None)
    assert all(other.get(f"chat-{number}") == first for number in range(100))
    store.close()
    other.close()


@pytest.mark.parametrize("chat_id", ["chatcmpl-{:032}", "\N{GRINNING FACE}" * 480 + "{:032}"])
def test_sqlite_row_size_matches_the_space_it_takes_in_the_file(
    tmp_path: Path, first: SignedExchange, chat_id: str
) -> None:
    path = tmp_path / "signatures.db"
    store = opened(path)
    for number in range(2000):
        store.put(chat_id.format(number), first)
    settle(store)
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((counted,),) = connection.execute("SELECT sum(size) FROM exchanges")
        connection.execute("VACUUM")
    assert 0.75 < counted / path.stat().st_size < 1.25


def test_sqlite_long_id_is_found_like_any_other(tmp_path: Path, first: SignedExchange) -> None:
    path = tmp_path / "signatures.db"
    store, other = opened(path), opened(path)
    long = "\N{GRINNING FACE}" * 512
    store.put(long, first)
    store.mark_unsigned([long[1:]], "the exchange was cut short")
    settle(store)
    assert other.get(long) == first
    with pytest.raises(NotSignedError):
        other.get(long[1:])
    assert other.get(long[2:]) is None
    store.close()
    other.close()


@pytest.mark.parametrize(
    ("holdings", "count", "losses"),
    [
        ([("a", 900, 900_000), ("v", 100, 100_000)], 640, {"a": 640}),
        ([("a", 960, 960_000), ("v", 640, 640_000)], 640, {"a": 480, "v": 160}),
        ([("a", 3, 3000)], 10, {"a": 3}),
        ([], 10, {}),
    ],
)
def test_the_largest_holder_loses_rows_until_the_others_have_as_much(
    holdings: list[tuple[str, int, int]], count: int, losses: dict[str, int]
) -> None:
    assert losses_of(holdings, count) == losses


@pytest.mark.parametrize("value", ["nonsense", "[" * 60_000, "x" * 70_000, b"\xff\xfe", 7, "x" * 300_000])
def test_sqlite_value_that_is_no_signature_counts_as_missing(
    tmp_path: Path, first: SignedExchange, value: str | bytes | int
) -> None:
    path = tmp_path / "signatures.db"
    store, other = opened(path), opened(path)
    store.put("x", first)
    settle(store)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE exchanges SET value = ?", (value,))
    assert other.get("x") is None
    store.put("y", first)
    settle(store)
    assert other.get("y") == first
    store.close()
    other.close()


def test_sqlite_write_that_cannot_be_stored_does_not_block_the_rest(tmp_path: Path, first: SignedExchange) -> None:
    path = tmp_path / "signatures.db"
    store, other = opened(path), opened(path)
    for chat_id in ("one", "\ud800", "x" * 300_000, "two"):
        store.put(chat_id, first)
    settle(store)
    assert not store.degraded
    assert other.get("one") == other.get("two") == first
    store.close()
    other.close()


def overwrite(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def remove(path: Path) -> None:
    for file in path.parent.glob(path.name + "*"):
        file.unlink()


def test_sqlite_file_that_was_deleted_is_recreated_with_all_local_signatures(
    tmp_path: Path, first: SignedExchange
) -> None:
    path = tmp_path / "signatures.db"
    one, other = opened(path), opened(path)
    one.put("before", first)
    settle(one)
    remove(path)
    one.put("after", first)
    until(lambda: one.writer.pending == 0 and not one.degraded)
    other.writer.suspect()

    def found() -> bool:
        try:
            return other.get("before") == other.get("after") == first
        except Exception:
            return False

    until(found)
    one.close()
    other.close()


@pytest.mark.parametrize("damage", [overwrite, Path.mkdir, lambda path: path.symlink_to("/proc/x/y")])
def test_sqlite_without_a_usable_file_keeps_signatures_in_memory(
    tmp_path: Path, first: SignedExchange, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "signatures.db"
    damage(path)
    store = opened(path)
    until(lambda: store.degraded)
    assert store.put("x", first)
    assert store.storing() is None
    assert store.get("x") == first
    assert caplog.text.count("is down") == 1
    store.close()


def test_a_write_to_a_locked_file_fails_within_its_timeout(tmp_path: Path, first: SignedExchange) -> None:
    path = tmp_path / "signatures.db"
    store = opened(path)
    store.put("x", first)
    settle(store)
    with sqlite3.connect(path, isolation_level=None) as blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        store.put("y", first)
        until(lambda: store.storing() is None)
        assert store.degraded
        blocker.execute("ROLLBACK")
    blocker.close()
    until(lambda: not store.degraded)
    settle(store)
    store.close()
