"""The backend for a SQLite file in WAL mode, shared by the processes of one machine."""

import contextlib
import hashlib
import heapq
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from attest_web.stores.backend import MAX_VALUE, UNREADABLE, BackendError, Result, Write
from attest_web.stores.signature_store import MAX_BYTES, MAX_EXCHANGES

LOCK_TIMEOUT = 2.0
"""Seconds to wait for the writes of other processes."""

_PAGE = 4096
_MAX_ROW = 2 * MAX_VALUE
"""Largest row in bytes, which SQLite itself enforces."""
_MAX_KEY = 256
"""Largest key in bytes: a longer key would take pages of its own, in the table and in each index."""
_ROW_OVERHEAD = 100
"""Overhead of a row in the file beside its key and its value, in bytes."""
_TABLE = """
    DROP TABLE IF EXISTS signatures;  -- of earlier versions, which knew no holders
    CREATE TABLE IF NOT EXISTS exchanges (
        key TEXT PRIMARY KEY, value TEXT NOT NULL, expires REAL NOT NULL, holder TEXT NOT NULL, size INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS by_expiry ON exchanges (expires);
    CREATE INDEX IF NOT EXISTS by_holder ON exchanges (holder, expires, size);
"""
_WRITE = """
    INSERT INTO exchanges VALUES (:key, :value, :expires, :holder, :size) ON CONFLICT (key) DO UPDATE
    SET value = excluded.value, expires = excluded.expires, holder = excluded.holder, size = excluded.size
    WHERE exchanges.expires <= :now OR exchanges.value = excluded.value
"""
_READ = "SELECT CAST(value AS BLOB) FROM exchanges WHERE key = ? AND expires > ?"
_EXPIRED = "DELETE FROM exchanges WHERE expires <= ?"
_HOLDINGS = "SELECT holder, count(*), sum(size) FROM exchanges GROUP BY holder"
_OLDEST = "DELETE FROM exchanges WHERE key IN (SELECT key FROM exchanges WHERE holder = ? ORDER BY expires LIMIT ?)"


class SqliteBackend:
    """See `Backend`. Expiry uses the system's clock, which the processes share."""

    def __init__(self, path: Path, max_keys: int = 2 * MAX_EXCHANGES, max_bytes: int = MAX_BYTES) -> None:
        """Prepare the backend; nothing is opened yet.

        Args:
            path: The file. It is created with its directory if it does not exist.
            max_keys: Largest number of keys, which may be exceeded for a few seconds.
            max_bytes: Largest size of the file. It also takes no more than half of its file system, as deleting old
                signatures needs free space.
        """
        self._max_keys = max_keys
        making = threading.Lock()
        self._writer = _Connection(path, max_bytes, making)
        self._reader = _Connection(path, max_bytes, making)

    def write(self, batch: Sequence[Write]) -> list[Result]:
        """See `Backend.write`. One transaction; if the file is full, the holders with the most bytes lose rows."""
        try:
            return self._writer.use(lambda connection: _insert(connection, batch))
        except BackendError as error:
            if "FULL" not in str(error):
                raise
        self._writer.use(lambda connection: _make_room(connection, max(1000, 2 * len(batch))))
        return self._writer.use(lambda connection: _insert(connection, batch))

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `Backend.read`."""
        now = time.time()
        return self._reader.use(lambda connection: [_value(connection, key, now) for key in keys])

    def check(self) -> None:
        """See `Backend.check`."""

        def clean_up(connection: sqlite3.Connection) -> None:
            connection.execute(_EXPIRED, (time.time(),))
            (count,) = connection.execute("SELECT count(*) FROM exchanges").fetchone()
            if count > self._max_keys:
                _make_room(connection, count - self._max_keys)

        self._writer.use(clean_up)

    def close(self) -> None:
        """See `Backend.close`."""
        self._writer.close()
        self._reader.close()


def _insert(connection: sqlite3.Connection, batch: Sequence[Write]) -> list[Result]:
    results = []
    now, uptime = time.time(), time.monotonic()
    connection.execute("BEGIN IMMEDIATE")
    for write in batch:
        try:
            value, key = write.value(), _row_key(write.key)
            row = {
                "key": key,
                "value": value.decode(),
                "expires": now + write.expires - uptime,
                "now": now,
                "holder": write.holder,
                "size": _ROW_OVERHEAD + 3 * len(key.encode()) + len(value),  # both indexes have the key, too
            }
            stored = connection.execute(_WRITE, row).rowcount > 0
        except (sqlite3.DataError, UnicodeEncodeError):  # only this row: the transaction keeps the others
            results.append(Result.REFUSED)
        else:
            results.append(Result.STORED if stored else Result.TAKEN)
    connection.execute("COMMIT")
    return results


def _row_key(key: str) -> str:
    """The key, or its SHA-256 if it is long. No key looks like a hash, as all contain `:chat:` or `:unsigned:`."""
    encoded = key.encode()
    return key if len(encoded) <= _MAX_KEY else f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def _value(connection: sqlite3.Connection, key: str, now: float) -> bytes | None:
    try:
        found = connection.execute(_READ, (_row_key(key), now)).fetchone()
    except sqlite3.DataError:  # longer than the limit of the connection
        return UNREADABLE
    return None if found is None else bytes(found[0])


def _make_room(connection: sqlite3.Connection, count: int) -> None:
    """Delete some rows: expired ones, or else the oldest rows of the holders with the most bytes."""
    count -= connection.execute(_EXPIRED, (time.time(),)).rowcount
    if count > 0:
        for holder, how_many in losses_of(connection.execute(_HOLDINGS).fetchall(), count).items():
            connection.execute(_OLDEST, (holder, how_many))


def losses_of(holdings: Sequence[tuple[str, int, int]], count: int) -> dict[str, int]:
    """Number of rows that each holder loses, so that the losers still have at least as many bytes as the others.

    Args:
        holdings: Name, rows and bytes of each holder.
        count: Number of rows to delete.
    """
    losses: dict[str, int] = {}
    step = max(1, count // 64)
    mean = {holder: size / rows for holder, rows, size in holdings}
    largest: list[tuple[float, int, str]] = [(-size, rows, holder) for holder, rows, size in holdings]
    heapq.heapify(largest)
    while count > 0 and largest:
        size, rows, holder = largest[0]
        lost = min(step, rows, count)
        losses[holder] = losses.get(holder, 0) + lost
        count -= lost
        if lost < rows:
            heapq.heapreplace(largest, (size + lost * mean[holder], rows - lost, holder))
        else:
            heapq.heappop(largest)
    return losses


class _Connection:
    """A connection to the file, opened on first use, and reopened after an error or when the file was replaced."""

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
        # SQLite gives the files beside it the same permissions. Only SQLite may open an existing file: closing it would
        # release the locks of this process's other connection (POSIX), which keep other processes from removing the
        # log when they end.
        with self._making, contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._file = _identity(self._path)
        connection = sqlite3.connect(
            self._path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=8
        )
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_ROW)
        try:
            _switch_to_wal(connection)
            # Commits do not wait for the disk; a killed process loses nothing.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA max_page_count = {max(16, self._most_bytes() // _PAGE)}")
            connection.executescript(_TABLE)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _most_bytes(self) -> int:
        system = os.statvfs(self._path.parent)
        # Some network file systems report no size.
        return min(self._max_bytes, system.f_blocks * system.f_frsize // 2 or self._max_bytes)

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()  # rolls back what was not committed


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # If another process switches at the same time, SQLite does not wait for it, despite its timeout.
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
