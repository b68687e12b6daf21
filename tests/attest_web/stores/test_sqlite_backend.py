"""What the SQLite backend says has become of each write, and what stands in the file afterwards."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attest_web.keys import SigningKeys
from attest_web.signatures import NotSigned, sign_text
from attest_web.stores.backend import UNREADABLE, BackendError, Result, Write
from attest_web.stores.sqlite_backend import SqliteBackend

STORED, TAKEN, REFUSED = Result.STORED, Result.TAKEN, Result.REFUSED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signatures.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    made = SqliteBackend(path)
    yield made
    made.close()


def write(key: str, text: str = "text", lifetime: float = 60, holder: str = "") -> Write:
    return Write(key, NotSigned(text), time.monotonic() + lifetime, None, holder, 100)


def rows(path: Path) -> dict[str, float]:
    """Seconds until each row expires, by its key."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT key, expires FROM exchanges").fetchall()
    return {key: expires - time.time() for key, expires in found}


def execute(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def test_a_value_is_read_by_its_key_over_another_connection(backend: SqliteBackend, path: Path) -> None:
    values = [write("a", "one"), write("b", "two")]
    assert backend.write(values) == [STORED, STORED]
    assert backend.read(["b", "c", "a"]) == [values[1].value(), None, values[0].value()]
    other = SqliteBackend(path)
    assert other.read(["a"]) == [values[0].value()]
    other.close()


def test_a_signed_exchange_is_read_as_it_was_written(backend: SqliteBackend, keys: SigningKeys) -> None:
    exchange = Write("a", sign_text(keys, "text \N{GRINNING FACE}"), time.monotonic() + 60, None, "", 100)
    assert backend.write([exchange]) == [STORED]
    assert backend.read(["a"]) == [exchange.value()]


def test_a_key_that_is_taken_keeps_its_value_and_its_time(backend: SqliteBackend, path: Path) -> None:
    first = write("a", "one", lifetime=60)
    assert backend.write([first, write("b")]) == [STORED, STORED]
    assert backend.write([write("a", "two", lifetime=6000), write("c")]) == [TAKEN, STORED]
    assert backend.read(["a"]) == [first.value()]
    assert rows(path)["a"] < 61


def test_two_writes_of_one_batch_under_one_key_leave_the_first(backend: SqliteBackend) -> None:
    first = write("a", "one")
    assert backend.write([first, write("a", "two"), write("a", "one")]) == [STORED, TAKEN, STORED]
    assert backend.read(["a"]) == [first.value()]


def test_write_repeated_with_the_same_value_is_stored_and_extends_its_lifetime(
    backend: SqliteBackend, path: Path
) -> None:
    assert backend.write([write("a", lifetime=60)]) == [STORED]
    assert backend.write([write("a", lifetime=6000)]) == [STORED]
    assert 5900 < rows(path)["a"] < 6001


def test_expired_value_is_not_read_and_its_key_is_free(backend: SqliteBackend) -> None:
    other = write("a", "two")
    assert backend.write([write("a", "one", lifetime=-1)]) == [STORED]
    assert backend.read(["a"]) == [None]
    assert backend.write([other]) == [STORED]
    assert backend.read(["a"]) == [other.value()]


def test_check_deletes_expired_rows_and_no_others(backend: SqliteBackend, path: Path) -> None:
    backend.write([write("over", lifetime=-1), write("short", lifetime=60), write("long", lifetime=6000)])
    backend.check()
    assert set(rows(path)) == {"short", "long"}


def test_check_of_too_many_rows_deletes_those_that_expire_first(path: Path) -> None:
    backend = SqliteBackend(path, max_keys=4)
    lifetimes = [500, 100, 700, 300, 200, 600, 400]
    backend.write([write(f"row-{lifetime}", lifetime=lifetime) for lifetime in lifetimes])
    backend.check()
    assert set(rows(path)) == {"row-400", "row-500", "row-600", "row-700"}
    backend.close()


def test_full_file_drops_expired_rows_before_live_ones(path: Path) -> None:
    backend = SqliteBackend(path, max_bytes=2**20)
    over = [write(f"over-{number}", "x" * 200, lifetime=-1) for number in range(1200)]
    assert set(backend.write(over)) == {STORED}
    live: list[str] = []
    while any(key.startswith("over") for key in rows(path)):
        assert len(live) < 5000, "the file is never full"
        batch = [write(f"live-{len(live) + number}", "x" * 200) for number in range(100)]
        assert set(backend.write(batch)) == {STORED}
        live += [each.key for each in batch]
    assert set(rows(path)) == set(live)
    backend.close()


def test_write_too_long_or_not_utf_8_is_refused_and_the_rest_of_the_batch_is_stored(backend: SqliteBackend) -> None:
    batch = [write("a"), write("b", "x" * 200_000), write("\ud800"), write("c")]
    assert backend.write(batch) == [STORED, REFUSED, REFUSED, STORED]
    assert backend.read(["a", "b", "c"]) == [batch[0].value(), None, batch[3].value()]


def test_a_value_of_another_writer_that_is_too_long_is_unreadable(backend: SqliteBackend, path: Path) -> None:
    backend.write([write("a"), write("b")])
    execute(path, f"UPDATE exchanges SET value = '{'x' * 300_000}' WHERE key = 'a'")
    assert backend.read(["a", "b"]) == [UNREADABLE, write("b").value()]


def test_keys_with_a_long_common_prefix_are_distinct(backend: SqliteBackend) -> None:
    keys = ["x" * size + end for size in (10, 255, 256, 300, 5000) for end in "ab"]
    batch = [write(key, f"text {number}") for number, key in enumerate(keys)]
    assert backend.write(batch) == [STORED] * len(keys)
    assert backend.read(keys) == [each.value() for each in batch]


BLOCKED = "CREATE TRIGGER blocked BEFORE INSERT ON exchanges WHEN NEW.key = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END"


def test_a_batch_that_fails_changes_nothing_and_deletes_nothing(backend: SqliteBackend, path: Path) -> None:
    before = [write(f"before-{number}") for number in range(10)]
    backend.write(before)
    execute(path, BLOCKED)
    with pytest.raises(BackendError, match="SQLITE_CONSTRAINT_TRIGGER"):
        backend.write([write("good"), write("bad"), write("other")])
    assert set(rows(path)) == {each.key for each in before}


def test_failed_batch_leaves_no_transaction_open_and_the_next_one_is_written(
    backend: SqliteBackend, path: Path
) -> None:
    backend.write([write("before")])
    execute(path, BLOCKED)
    with pytest.raises(BackendError):
        backend.write([write("good"), write("bad")])
    other = SqliteBackend(path)
    assert other.write([write("of another")]) == [STORED], "no transaction was left open"
    other.close()
    execute(path, "DROP TRIGGER blocked")
    assert backend.write([write("good"), write("bad")]) == [STORED, STORED]
    assert set(rows(path)) == {"before", "of another", "good", "bad"}


def test_replaced_file_is_reopened_and_written_to(backend: SqliteBackend, path: Path) -> None:
    backend.write([write("before")])
    backend.read(["before"])
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(BackendError, match="gone"):
        backend.write([write("after")])
    assert backend.write([write("after")]) == [STORED]
    with pytest.raises(BackendError, match="gone"):
        backend.read(["before"])
    assert backend.read(["before", "after"]) == [None, write("after").value()]
    assert set(rows(path)) == {"after"}
