"""A SQLite file in WAL mode, for the processes of one machine. What one has committed, all others find at once."""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from attest_web.signatures import SignedExchange
from attest_web.store import MAX_BYTES, MAX_SIGNATURES
from attest_web.stores.backend import BackendError, Write, from_json, to_json

LOCK_TIMEOUT = 2.0
"""Seconds to wait for the other processes' writes."""

_PAGE = 4096
_TABLE = """
    CREATE TABLE IF NOT EXISTS signatures (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires REAL NOT NULL)
    WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS by_expiry ON signatures (expires);
"""
_WRITE = """
    INSERT INTO signatures VALUES (:key, :value, :expires) ON CONFLICT (key) DO UPDATE
    SET value = excluded.value, expires = excluded.expires
    WHERE signatures.expires <= :now OR signatures.value = excluded.value
"""
_OLDEST = "DELETE FROM signatures WHERE key IN (SELECT key FROM signatures ORDER BY expires LIMIT ?)"


class SqliteBackend:
    """See `Backend`. Expiry goes by the system's clock, which the processes share."""

    def __init__(
        self, path: Path, model_name: str, max_signatures: int = MAX_SIGNATURES, max_bytes: int = MAX_BYTES
    ) -> None:
        """Open nothing yet.

        Args:
            path: The file. It is made, and a directory for it, if there is none.
            model_name: First part of every key.
            max_signatures: How many are kept at most, give or take those of a few seconds.
            max_bytes: Size of the file at most. It takes no more than half of its file system either: one that is full
                has no room for the old signatures to be deleted in.
        """
        self._prefix = f"{model_name}:chat:"
        self._max_signatures = max_signatures
        making = threading.Lock()
        self._writer = _Connection(path, max_bytes, making)
        self._reader = _Connection(path, max_bytes, making)

    def write(self, batch: Sequence[Write]) -> list[bool]:
        """See `Backend.write`. One transaction; where the file is full, the oldest signatures make room."""
        try:
            return self._writer.use(lambda connection: self._insert(connection, batch))
        except BackendError as error:
            if "FULL" not in str(error):
                raise
        self._writer.use(lambda connection: _delete_oldest(connection, max(1000, 2 * len(batch))))
        return self._writer.use(lambda connection: self._insert(connection, batch))

    def read(self, chat_id: str) -> SignedExchange | None:
        """See `Backend.read`."""
        question = "SELECT value FROM signatures WHERE key = ? AND expires > ?"
        values = (self._prefix + chat_id, time.time())
        found = self._reader.use(lambda connection: connection.execute(question, values).fetchone())
        return None if found is None else from_json(found[0])

    def check(self) -> None:
        """See `Backend.check`."""

        def clean_up(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM signatures WHERE expires <= ?", (time.time(),))
            (count,) = connection.execute("SELECT count(*) FROM signatures").fetchone()
            if count > self._max_signatures:
                _delete_oldest(connection, count - self._max_signatures)

        self._writer.use(clean_up)

    def close(self) -> None:
        """See `Backend.close`."""
        self._writer.close()
        self._reader.close()

    def _insert(self, connection: sqlite3.Connection, batch: Sequence[Write]) -> list[bool]:
        stored = []
        now, uptime = time.time(), time.monotonic()
        connection.execute("BEGIN IMMEDIATE")
        for write in batch:
            key, value = self._prefix + write.chat_id, to_json(write.signed)
            row = {"key": key, "value": value, "expires": now + write.expires - uptime, "now": now}
            stored.append(connection.execute(_WRITE, row).rowcount > 0)
        connection.execute("COMMIT")
        return stored


def _delete_oldest(connection: sqlite3.Connection, count: int) -> None:
    connection.execute(_OLDEST, (count,))


class _Connection:
    """A connection to the file, which is opened when it is needed, and anew when it failed or the file is another."""

    def __init__(self, path: Path, max_bytes: int, making: threading.Lock) -> None:
        self._path = path
        self._making = making  # shared with all others of this process: see _open
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def use[T](self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Make a call, one at a time.

        Raises:
            BackendError: It failed, and has changed nothing.
        """
        with self._lock:
            try:
                if self._connection is not None and _identity(self._path) != self._file:
                    raise BackendError("the file is gone")
                if self._connection is None:
                    self._connection = self._open()
                return call(self._connection)
            except (sqlite3.Error, OSError, BackendError) as error:
                self._forget()
                if isinstance(error, BackendError):
                    raise
                kind = getattr(error, "sqlite_errorname", None) or type(error).__name__
                raise BackendError(kind) from None

    def close(self) -> None:
        with self._lock:
            self._forget()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives the files beside it the same permissions. A file that is there is not to be opened but by SQLite:
        # closing it would drop the locks of this process's other connection (POSIX), by which other processes know not
        # to remove the log when they end.
        with self._making, contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._file = _identity(self._path)
        connection = sqlite3.connect(
            self._path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=8
        )
        try:
            _switch_to_wal(connection)
            connection.execute(
                "PRAGMA synchronous = NORMAL"
            )  # no commit waits for a disk; a killed process loses nothing
            connection.execute(f"PRAGMA max_page_count = {max(16, self._most_bytes() // _PAGE)}")
            connection.executescript(_TABLE)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _most_bytes(self) -> int:
        system = os.statvfs(self._path.parent)
        # Some network file systems tell no size.
        return min(self._max_bytes, system.f_blocks * system.f_frsize // 2 or self._max_bytes)

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()  # which takes back what was not committed


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # Where another process does the same just now, SQLite does not wait for it, whatever its timeout says.
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
