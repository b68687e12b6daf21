"""Where signatures wait for whoever asks for them: what every store does, and the one in this process."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from cachetools import TTLCache

from attest_web.signatures import SignedExchange

MAX_SIGNATURES = 200_000
"""Signatures held in memory at most."""

MAX_BYTES = 256 * 2**20
"""Bytes of memory that they may take, as far as these can be counted: some 1.3 KB each, two ids an exchange."""

_OVERHEAD = 700
"""Bytes of an entry beside its characters: a dict, a tuple, the headers of its strings, its places in the cache."""


class StoreUnavailableError(Exception):
    """An id is not known here, and those that may know it cannot be asked."""


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

    def put(self, chat_id: str, signed: SignedExchange) -> bool:
        """Keep an exchange under an id that is free. False, and nothing changes, where it is known to be taken."""

    def get(self, chat_id: str) -> SignedExchange | None:
        """The exchange kept under an id, or None where there is none or its time is over.

        Raises:
            StoreUnavailableError: It is not known whether there is one.
        """

    def storing(self) -> Future[None] | None:
        """What is done when all can look up what has been put so far, or will not be able to soon; None: it is done."""

    def __len__(self) -> int:
        """How many ids of signatures are kept in this process."""

    def close(self) -> None:
        """End with the process. What only this process has is handed over, where that can be done within seconds."""


class Kept(NamedTuple):
    """An exchange in memory, until `expires` (by the store's clock)."""

    chat_id: str
    signed: SignedExchange
    expires: float


def _bytes_of(kept: Kept) -> int:
    return _OVERHEAD + 2 * len(kept.chat_id) + sum(map(len, kept.signed.values()))  # type: ignore[arg-type]  # strings


class MemorySignatureStore:
    """A store in this process, bounded in number and bytes; the least recently used signatures go first.

    cachetools is not thread-safe, and the proxy's event loop and the side port's threads share the store: hence the
    lock.
    """

    shared = False
    degraded = False

    def __init__(
        self,
        model_name: str,
        lifetime: float,
        max_signatures: int = MAX_SIGNATURES,
        clock: Callable[[], float] = time.monotonic,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Make an empty store.

        Args:
            model_name: First part of every key, `{model_name}:chat:{id}`.
            lifetime: Seconds that a signature is kept.
            max_signatures: How many are kept at most.
            clock: Seconds, monotonic.
            max_bytes: How many bytes of memory they may take.
        """
        self._prefix = f"{model_name}:chat:"
        self._lifetime = lifetime
        self._max_signatures = max_signatures
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: TTLCache[str, Kept] = TTLCache(max_bytes, lifetime, timer=clock, getsizeof=_bytes_of)

    def put(self, chat_id: str, signed: SignedExchange) -> bool:
        """See `SignatureStore.put`. False also for an id that is longer than all of the memory."""
        key = self._prefix + chat_id
        with self._lock:
            if key in self._kept:
                return False
            while len(self._kept) >= self._max_signatures:
                self._kept.popitem()
            try:
                self._kept[key] = Kept(chat_id, signed, self._clock() + self._lifetime)
            except ValueError:
                return False
            return True

    def get(self, chat_id: str) -> SignedExchange | None:
        """See `SignatureStore.get`; never raises."""
        with self._lock:
            try:
                return self._kept[self._prefix + chat_id].signed
            except KeyError:
                return None

    def storing(self) -> None:
        """See `SignatureStore.storing`: whoever can ask here can be answered at once."""

    def close(self) -> None:
        """Nothing to hand over."""

    def forget(self, chat_id: str, signed: SignedExchange) -> None:
        """Keep an exchange under an id no more, if it is the one that is kept there."""
        key = self._prefix + chat_id
        with self._lock:
            if key in self._kept and self._kept[key].signed is signed:
                del self._kept[key]

    def all(self) -> list[Kept]:
        """All that is kept now, in no order that means anything."""
        with self._lock:
            self._kept.expire()
            return [self._kept[key] for key in list(self._kept)]

    def __len__(self) -> int:
        with self._lock:
            return len(self._kept)
