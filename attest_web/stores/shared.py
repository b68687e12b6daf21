"""A store shared by processes or machines: it writes to memory at once, and to a backend in a thread."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Literal

from attest_web.signatures import NotSigned, SignedExchange
from attest_web.stores.backend import MAX_VALUE, Backend, BackendError, Write
from attest_web.stores.signature_store import (
    RECEIPT_PREFIX,
    MemorySignatureStore,
    NotSignedError,
    StoreUnavailableError,
    outcome_size,
)
from attest_web.stores.store_keys import StoreKeys
from attest_web.stores.stored_json import ForeignValueError, reason_of, signature_of
from attest_web.stores.write_behind import WriteBehind

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds in which the queue is written when the process ends."""

Fault = Literal["unreadable", "refused", "dropped"]
"""A fault of one key.

    unreadable: Its value was not stored by this proxy; it counts as missing.
    refused: The backend cannot store it, while it stores others.
    dropped: It was dropped, because the queue to the backend was full.
"""

PAUSE = 1.0
"""Seconds without lookups after a failed lookup in the backend: threads that wait for it would block lookups of local
signatures. Also the value of `Retry-After`."""

_MINUTE = 60.0

_WRITE_OVERHEAD = 400
"""Overhead of a queued write beside its key and value, in bytes."""


class SharedSignatureStore:
    """A store in front of a backend; see `SignatureStore`.

    Signatures of this process are found even if the backend is down. Those of other processes are found while the
    backend responds. Only the backend knows that another process has taken an id. Then the conflict is counted, and
    the id leads to the earlier exchange here as well.

    Attributes:
        shared: True.
    """

    shared = True

    def __init__(
        self,
        local: MemorySignatureStore,
        backend: Backend,
        keys: StoreKeys,
        lifetime: float,
        *,
        conflict: Callable[[], object],
        fault: Callable[[Fault], object],
    ) -> None:
        """Start the thread that writes to the backend.

        Args:
            local: The store of this process's signatures; empty.
            backend: Keeps the exchanges of all processes.
            keys: Those of the model.
            lifetime: Seconds that an exchange is kept.
            conflict: Called for every exchange whose id another exchange has used, in a thread of the store's.
            fault: Called for every key whose value is unusable, in any thread.
        """
        self._local = local
        self._backend = backend
        self._keys = keys
        self._lifetime = lifetime
        self._conflict = conflict
        self._fault = fault
        self._asked_again_at = self._told_again_at = float("-inf")
        self.writer = WriteBehind(
            backend,
            self._taken,
            self._everything,
            refused=lambda: fault("refused"),
            dropped=lambda: fault("dropped"),
        )

    @property
    def degraded(self) -> bool:
        """Whether signatures of this process can currently be found only in this process."""
        return self.writer.down

    def put(self, chat_id: str, signed: SignedExchange, credential: str = "", receipt_id: str | None = None) -> bool:
        """See `SignatureStore.put`."""
        free = self._local.put(chat_id, signed, credential, receipt_id)
        ids = [one for one in (receipt_id, chat_id if free else None) if one is not None]
        self._write(map(self._keys.signature, ids), signed, credential)
        return free

    def mark_unsigned(self, ids: Sequence[str], reason: str, credential: str = "") -> None:
        """See `SignatureStore.mark_unsigned`."""
        self._local.mark_unsigned(ids, reason, credential)
        unsigned = [one for one in ids if isinstance(self._local.find(one), NotSigned)]
        self._write(map(self._keys.unsigned, unsigned), NotSigned(reason), credential)

    def get(self, chat_id: str) -> SignedExchange | None:
        """See `SignatureStore.get`. Blocks while it queries the backend."""
        here = self._local.find(chat_id)
        if here is not None and not isinstance(here, NotSigned):
            return here
        if here is not None and chat_id.startswith(RECEIPT_PREFIX):
            raise NotSignedError(here.reason)
        # Another exchange with the same response id may have been signed elsewhere.
        signed, reason = self._elsewhere(chat_id)
        if signed is None and (here is not None or reason is not None):
            raise NotSignedError(here.reason if here is not None else reason or "")
        return signed

    def __len__(self) -> int:
        return len(self._local)

    def storing(self) -> Future[None] | None:
        """See `SignatureStore.storing`."""
        return self.writer.barrier()

    def close(self) -> None:
        """See `SignatureStore.close`."""
        self.writer.close(CLOSE_TIMEOUT)

    def _elsewhere(self, chat_id: str) -> tuple[SignedExchange | None, str | None]:
        if self.writer.down or time.monotonic() < self._asked_again_at:
            raise StoreUnavailableError
        try:
            signed, unsigned = self._backend.read([self._keys.signature(chat_id), self._keys.unsigned(chat_id)])
        except BackendError as error:
            self._failed(error)
            raise StoreUnavailableError from None
        return self._read(signature_of, signed), self._read(reason_of, unsigned)

    def _failed(self, error: BackendError) -> None:
        now = time.monotonic()
        self._asked_again_at = now + PAUSE
        self.writer.suspect()
        if now >= self._told_again_at:
            self._told_again_at = now + _MINUTE
            logger.warning("signatures cannot be looked up in the signature store: %s", error)

    def _read[T](self, read: Callable[[bytes, int], T], value: bytes | None) -> T | None:
        try:
            return None if value is None else read(value, MAX_VALUE)
        except ForeignValueError:
            self._fault("unreadable")
            return None

    def _write(self, keys: Iterable[str], outcome: SignedExchange | NotSigned, credential: str) -> None:
        now = time.monotonic()
        size = _WRITE_OVERHEAD + outcome_size(outcome)
        self.writer.add(
            [Write(key, outcome, now + self._lifetime, now, credential, size + sys.getsizeof(key)) for key in keys]
        )

    def _taken(self, write: Write) -> None:
        if isinstance(write.outcome, NotSigned):
            return  # two unsigned exchanges with one id: either reason is acceptable
        self._conflict()
        self._local.forget(write.key, write.outcome)
        logger.warning("a response id was used before, elsewhere; its exchange here can be found by its receipt alone")

    def _everything(self) -> list[Write]:
        return [
            Write(key, kept.outcome, kept.expires, None, kept.holder, kept.size)
            for kept in self._local.all()
            for key in kept.keys
        ]
