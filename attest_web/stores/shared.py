"""A store that processes or machines share: what is put goes to memory at once, and to a backend right behind."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future

from attest_web.signatures import SignedExchange
from attest_web.store import MemorySignatureStore, StoreUnavailableError
from attest_web.stores.backend import Backend, BackendError, Write
from attest_web.stores.write_behind import WriteBehind

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds that are left for what has not been written when the process ends."""


class SharedSignatureStore:
    """A store in front of a backend; see `SignatureStore`.

    What was put here is found here, whether the backend answers or not. What others have put is found as long as it
    does. That an id is taken by somebody else is known only when the backend says so: then it is counted, and the id
    leads to the earlier exchange here, too.

    Attributes:
        shared: True.
    """

    shared = True

    def __init__(
        self,
        local: MemorySignatureStore,
        backend: Backend,
        lifetime: float,
        conflict: Callable[[], object],
    ) -> None:
        """Start to write to the backend.

        Args:
            local: Keeps what is put here. Empty.
            backend: Keeps what everybody puts.
            lifetime: Seconds that a signature is kept.
            conflict: Called for every exchange whose id somebody else has used, in a thread of the store's.
        """
        self._local = local
        self._backend = backend
        self._lifetime = lifetime
        self._conflict = conflict
        self.writer = WriteBehind(backend, self._taken, self._everything)

    @property
    def degraded(self) -> bool:
        """Whether what is put here is found here alone, for the time being."""
        return self.writer.down

    def put(self, chat_id: str, signed: SignedExchange) -> bool:
        """See `SignatureStore.put`."""
        if not self._local.put(chat_id, signed):
            return False
        now = time.monotonic()
        self.writer.add(Write(chat_id, signed, now + self._lifetime, now))
        return True

    def get(self, chat_id: str) -> SignedExchange | None:
        """See `SignatureStore.get`. Blocks while it asks the backend."""
        signed = self._local.get(chat_id)
        if signed is not None:
            return signed
        if self.writer.down:
            raise StoreUnavailableError
        try:
            return self._backend.read(chat_id)
        except BackendError:
            self.writer.suspect()
            raise StoreUnavailableError from None

    def __len__(self) -> int:
        return len(self._local)

    def storing(self) -> Future[None] | None:
        """See `SignatureStore.storing`."""
        return self.writer.barrier()

    def close(self) -> None:
        """See `SignatureStore.close`."""
        self.writer.close(CLOSE_TIMEOUT)

    def _taken(self, write: Write) -> None:
        self._conflict()
        self._local.forget(write.chat_id, write.signed)
        logger.warning("a response id was used before, elsewhere; its exchange here can be found by its receipt alone")

    def _everything(self) -> list[Write]:
        kept = sorted(self._local.all(), key=lambda kept: kept.expires)
        return [Write(one.chat_id, one.signed, one.expires, None) for one in kept]
