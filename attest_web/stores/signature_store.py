"""The interface of signature stores, and the store in this process's memory."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from attest_web.signatures import NotSigned, SignedExchange
from attest_web.stores.shares import Shares
from attest_web.stores.store_keys import StoreKeys

MAX_EXCHANGES = 200_000
"""Largest number of exchanges in memory."""

MAX_BYTES = 256 * 2**20
"""Memory limit in bytes: an exchange takes some 1.6 KB, under two ids of the usual length."""

RECEIPT_PREFIX = "rcpt-"
"""Prefix of the ids that this proxy makes. A response id with this prefix is not stored, as it comes from elsewhere."""

_OVERHEAD = 400
"""Overhead of an entry beside its keys and values, in bytes, measured in the worst case: the entry, and its positions
in two orders."""

_KEY_OVERHEAD = 60
"""Overhead of a key beside its string, in bytes: its slot in a dict that has just doubled."""


_MAX_EXPIRED_AT_ONCE = 64
"""Largest number of expired exchanges that one call drops, so that the event loop is not blocked for long."""


class StoreUnavailableError(Exception):
    """An id is unknown in this process, and the backend cannot be queried."""


class NotSignedError(Exception):
    """The exchange with this id is known, and is not signed.

    Attributes:
        reason: Why it is not signed.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SignatureStore(Protocol):
    """Keeps signed exchanges by id for a time. Thread-safe; only `get` may block.

    Attributes:
        shared: Whether other processes can look up the signatures of this one, so that responses wait for the backend.
        degraded: Whether a shared store currently cannot share its signatures.
    """

    @property
    def shared(self) -> bool: ...  # noqa: D102  # see above

    @property
    def degraded(self) -> bool: ...  # noqa: D102  # see above

    def put(self, chat_id: str, signed: SignedExchange, credential: str = "", receipt_id: str | None = None) -> bool:
        """Keep an exchange under an id that has no signature yet, and under its receipt id.

        Args:
            chat_id: The response id; the receipt id if there is no response id.
            signed: The exchange.
            credential: Name of the client's token (`Tokens.credential`), against whose share it is counted.
            receipt_id: Another id, which is unique.

        Returns:
            False if `chat_id` is known to be taken: it still leads to the earlier exchange.
        """

    def mark_unsigned(self, ids: Sequence[str], reason: str, credential: str = "") -> None:
        """Keep why an exchange is not signed, under those of its ids that have no signature of another exchange.

        A signature that is put under such an id later replaces it.

        Args:
            ids: The receipt id, the response id, or both.
            reason: One of this proxy's own sentences.
            credential: As with `put`.
        """

    def get(self, chat_id: str) -> SignedExchange | None:
        """The exchange kept under an id; None if there is none or it has expired.

        Raises:
            NotSignedError: The exchange is known, and is not signed.
            StoreUnavailableError: The backend cannot be queried.
        """

    def storing(self) -> Future[None] | None:
        """A future that resolves once all signatures put so far are stored, or the backend is down; None if stored."""

    def __len__(self) -> int:
        """Number of ids with a signature in this process."""

    def close(self) -> None:
        """Close the store. Queued signatures are written to the backend, within a few seconds."""


@dataclass(slots=True, eq=False)
class CacheEntry:
    """An exchange in memory.

    Attributes:
        keys: Its keys.
        outcome: The signature, or the reason for its absence.
        expires: When it expires, by the store's clock.
        holder: The credential that it is counted against.
        size: Bytes that it takes.
    """

    keys: tuple[str, ...]
    outcome: SignedExchange | NotSigned
    expires: float
    holder: str
    size: int


def outcome_size(outcome: SignedExchange | NotSigned) -> int:
    """Upper bound of the memory of an exchange's values, in bytes: shared strings are counted as its own."""
    if isinstance(outcome, NotSigned):
        return sys.getsizeof(outcome)  # the reasons are constants
    values: Sequence[object] = list(outcome.values())
    return sys.getsizeof(outcome) + sum(map(sys.getsizeof, values))


class MemorySignatureStore:
    """A store in this process, bounded in number and bytes.

    If it is full, the credential with the most bytes loses its oldest exchange. So one client cannot evict the
    exchanges of clients that use less.

    A lock guards the store, as the proxy's event loop and the side port's threads share it.
    """

    shared = False
    degraded = False

    def __init__(
        self,
        model_name: str,
        lifetime: float,
        max_exchanges: int = MAX_EXCHANGES,
        clock: Callable[[], float] = time.monotonic,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Make an empty store.

        Args:
            model_name: The model of the exchanges, a part of every key.
            lifetime: Seconds that an exchange is kept.
            max_exchanges: Largest number of exchanges.
            clock: Monotonic seconds.
            max_bytes: Memory limit in bytes.
        """
        self._keys = StoreKeys(model_name)
        self._lifetime = lifetime
        self._max_exchanges = max_exchanges
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, CacheEntry] = {}
        self._shares: Shares[CacheEntry] = Shares()
        self._signatures = 0

    def put(self, chat_id: str, signed: SignedExchange, credential: str = "", receipt_id: str | None = None) -> bool:
        """See `SignatureStore.put`. Also False for an id that is larger than the memory limit."""
        ids = (chat_id,) if receipt_id is None else (chat_id, receipt_id)
        with self._lock:
            self._drop_expired()
            free = tuple(key for key in map(self._keys.signature, ids) if self._live(key) is None)
            for one in ids:
                self._release(self._keys.unsigned(one))
            return self._keep(free, signed, credential) and self._keys.signature(chat_id) in free

    def mark_unsigned(self, ids: Sequence[str], reason: str, credential: str = "") -> None:
        """See `SignatureStore.mark_unsigned`."""
        with self._lock:
            self._drop_expired()
            free = tuple(
                key
                for one in ids
                if self._live(self._keys.signature(one)) is None and self._live(key := self._keys.unsigned(one)) is None
            )
            self._keep(free, NotSigned(reason), credential)

    def get(self, chat_id: str) -> SignedExchange | None:
        """See `SignatureStore.get`. Never raises `StoreUnavailableError`."""
        outcome = self.find(chat_id)
        if isinstance(outcome, NotSigned):
            raise NotSignedError(outcome.reason)
        return outcome

    def find(self, chat_id: str) -> SignedExchange | NotSigned | None:
        """The exchange kept under an id: its signature, or the reason for its absence."""
        with self._lock:
            self._drop_expired()
            kept = self._live(self._keys.signature(chat_id)) or self._live(self._keys.unsigned(chat_id))
            return None if kept is None else kept.outcome

    def storing(self) -> None:
        """See `SignatureStore.storing`. Always None: signatures are stored at once."""

    def close(self) -> None:
        """Nothing to write."""

    def forget(self, key: str, outcome: SignedExchange | NotSigned) -> None:
        """Remove an exchange from a key, if the key still has this exchange."""
        with self._lock:
            if key in self._kept and self._kept[key].outcome is outcome:
                self._release(key)

    def all(self) -> list[CacheEntry]:
        """All current entries, the oldest first."""
        with self._lock:
            kept = list(self._shares)
        now = self._clock()
        return [one for one in kept if one.expires > now]

    def __len__(self) -> int:
        with self._lock:
            return self._signatures

    def _keep(self, keys: tuple[str, ...], outcome: SignedExchange | NotSigned, credential: str) -> bool:
        size = _OVERHEAD + outcome_size(outcome) + sum(_KEY_OVERHEAD + sys.getsizeof(key) for key in keys)
        if not keys or size > self._max_bytes:
            return False
        while self._shares.size + size > self._max_bytes or len(self._shares) >= self._max_exchanges:
            if not self._drop_expired():
                self._forget_keys(self._shares.pop_of_largest())
        for key in keys:
            self._release(key)  # an entry that is still here has expired
        kept = CacheEntry(keys, outcome, self._clock() + self._lifetime, credential, size)
        self._shares.add(kept)
        self._kept.update(dict.fromkeys(keys, kept))
        if not isinstance(outcome, NotSigned):
            self._signatures += len(keys)
        return True

    def _live(self, key: str) -> CacheEntry | None:
        kept = self._kept.get(key)
        return kept if kept is not None and kept.expires > self._clock() else None

    def _drop_expired(self) -> int:
        """Drop some expired entries; return their number."""
        now = self._clock()
        for dropped in range(_MAX_EXPIRED_AT_ONCE):
            oldest = self._shares.oldest()
            if oldest is None or oldest.expires > now:
                return dropped
            self._shares.remove(oldest)
            self._forget_keys(oldest)
        return _MAX_EXPIRED_AT_ONCE

    def _forget_keys(self, kept: CacheEntry) -> None:
        for key in kept.keys:
            del self._kept[key]
        if not isinstance(kept.outcome, NotSigned):
            self._signatures -= len(kept.keys)

    def _release(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        kept.keys = tuple(other for other in kept.keys if other != key)
        if not isinstance(kept.outcome, NotSigned):
            self._signatures -= 1
        if not kept.keys:
            self._shares.remove(kept)
