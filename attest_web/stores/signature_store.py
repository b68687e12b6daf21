"""Where signatures wait to be fetched: what every store does, and the one in this process."""

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
"""Exchanges held in memory at most."""

MAX_BYTES = 256 * 2**20
"""Bytes of memory that they may take: some 1.6 KB each, under two ids of the usual length."""

RECEIPT_PREFIX = "rcpt-"
"""How the ids begin that this proxy makes. No response id that begins so is stored: it has its id from elsewhere."""

_OVERHEAD = 400
"""Bytes of an entry beside its keys and values, measured at the worst: the entry, and its places in two orders."""

_KEY_OVERHEAD = 60
"""Bytes of a key beside its string: its place in a dict that has just doubled."""


_MAX_EXPIRED_AT_ONCE = 64
"""Exchanges whose time is over that one call drops: however many there are, the event loop waits for these alone."""


class StoreUnavailableError(Exception):
    """An id is not known here, and what may know it cannot be asked."""


class NotSignedError(Exception):
    """The exchange of this id was seen, and is not signed.

    Attributes:
        reason: Why not.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SignatureStore(Protocol):
    """Keeps signed exchanges by id for a time. Its methods may be called from any thread; all but `get` do not block.

    Attributes:
        shared: Whether others can look up what is put here, so that there is something to wait for.
        degraded: Whether they cannot at the moment, though they should.
    """

    @property
    def shared(self) -> bool: ...  # noqa: D102  # see above

    @property
    def degraded(self) -> bool: ...  # noqa: D102  # see above

    def put(self, chat_id: str, signed: SignedExchange, credential: str = "", receipt_id: str | None = None) -> bool:
        """Keep an exchange under an id that has no signature yet, and under its receipt id.

        Args:
            chat_id: The response id; the receipt id where that is all there is.
            signed: The exchange.
            credential: Names the token of the client (`Tokens.credential`), whose share it is counted against.
            receipt_id: Another id, which is unique.

        Returns:
            False where `chat_id` is known to be taken: it leads to the earlier exchange still.
        """

    def mark_unsigned(self, ids: Sequence[str], reason: str, credential: str = "") -> None:
        """Keep why an exchange has no signature, under those of its ids that have none of another exchange.

        A signature that is put under such an id later takes its place.

        Args:
            ids: The receipt id, the response id, or both.
            reason: A sentence of this proxy's own.
            credential: As with `put`.
        """

    def get(self, chat_id: str) -> SignedExchange | None:
        """The exchange kept under an id, or None where there is none or its time is over.

        Raises:
            NotSignedError: It was seen, and is not signed.
            StoreUnavailableError: It is not known whether there is one.
        """

    def storing(self) -> Future[None] | None:
        """What is done when all can look up what has been put so far, or will not be able to soon; None: it is done."""

    def __len__(self) -> int:
        """How many ids of signatures are kept in this process."""

    def close(self) -> None:
        """Close the store. What only this process has is written to the backend, within a few seconds."""


@dataclass(slots=True, eq=False)
class CacheEntry:
    """An exchange in memory.

    Attributes:
        keys: What it is kept under.
        outcome: What is kept.
        expires: Until when, by the store's clock.
        holder: The credential that it is counted against.
        size: Bytes that it takes.
    """

    keys: tuple[str, ...]
    outcome: SignedExchange | NotSigned
    expires: float
    holder: str
    size: int


def outcome_size(outcome: SignedExchange | NotSigned) -> int:
    """Bytes of memory that the values of an exchange take at most: strings that many share are counted as its own."""
    if isinstance(outcome, NotSigned):
        return sys.getsizeof(outcome)  # the reasons are constants
    values: Sequence[object] = list(outcome.values())
    return sys.getsizeof(outcome) + sum(map(sys.getsizeof, values))


class MemorySignatureStore:
    """A store in this process, bounded in number and bytes.

    Where it is full, the credential with the most bytes loses its oldest exchange: one client cannot evict the
    exchanges of others, as long as those have less.

    The proxy's event loop and the side port's threads share the store: hence the lock.
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
            model_name: Whose exchanges these are: a part of every key.
            lifetime: Seconds that an exchange is kept.
            max_exchanges: How many are kept at most.
            clock: Seconds, monotonic.
            max_bytes: How many bytes of memory they may take.
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
        """See `SignatureStore.put`. False also for an id that is longer than all of the memory."""
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
        """See `SignatureStore.get`; knows of all that there is."""
        outcome = self.find(chat_id)
        if isinstance(outcome, NotSigned):
            raise NotSignedError(outcome.reason)
        return outcome

    def find(self, chat_id: str) -> SignedExchange | NotSigned | None:
        """The exchange kept under an id: its signature, or else why it has none."""
        with self._lock:
            self._drop_expired()
            kept = self._live(self._keys.signature(chat_id)) or self._live(self._keys.unsigned(chat_id))
            return None if kept is None else kept.outcome

    def storing(self) -> None:
        """See `SignatureStore.storing`: what can ask here can be answered at once."""

    def close(self) -> None:
        """Nothing to write."""

    def forget(self, key: str, outcome: SignedExchange | NotSigned) -> None:
        """Keep an exchange under a key no more, if it is the one that is kept there."""
        with self._lock:
            if key in self._kept and self._kept[key].outcome is outcome:
                self._release(key)

    def all(self) -> list[CacheEntry]:
        """All that is kept now, the oldest first."""
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
            self._release(key)  # where it is kept, its time is over
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
        """Drop some expired ones; return how many."""
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
