"""Where signatures wait for whoever asks for them."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from cachetools import TTLCache

from attest_web.signatures import SignedExchange

MAX_SIGNATURES = 200_000
"""Signatures held in memory at most: some 1.3 KB each, two ids an exchange, so about 150 MB when full."""


class SignatureStore(Protocol):
    """Keeps signed exchanges by id for a time. Its methods may be called from any thread and do not block."""

    def put(self, chat_id: str, signed: SignedExchange) -> bool:
        """Keep an exchange under an id that is free. False, and nothing changes, where it is taken."""

    def get(self, chat_id: str) -> SignedExchange | None:
        """The exchange kept under an id, or None where there is none or its time is over."""


class MemorySignatureStore:
    """A store in this process, bounded in number; the least recently used signatures go first.

    cachetools is not thread-safe, and the proxy's event loop and the side port's threads share the store: hence the
    lock.
    """

    def __init__(
        self,
        model_name: str,
        lifetime: float,
        max_signatures: int = MAX_SIGNATURES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty store.

        Args:
            model_name: First part of every key, `{model_name}:chat:{id}`.
            lifetime: Seconds that a signature is kept.
            max_signatures: How many are kept at most.
            clock: Seconds, monotonic.
        """
        self._prefix = f"{model_name}:chat:"
        self._lock = threading.Lock()
        self._signed: TTLCache[str, SignedExchange] = TTLCache(max_signatures, lifetime, timer=clock)

    def put(self, chat_id: str, signed: SignedExchange) -> bool:
        """See `SignatureStore.put`."""
        key = self._prefix + chat_id
        with self._lock:
            if key in self._signed:
                return False
            self._signed[key] = signed
            return True

    def get(self, chat_id: str) -> SignedExchange | None:
        """See `SignatureStore.get`."""
        with self._lock:
            try:
                return self._signed[self._prefix + chat_id]
            except KeyError:
                return None

    def __len__(self) -> int:
        with self._lock:
            return len(self._signed)
