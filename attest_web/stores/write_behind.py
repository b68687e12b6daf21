"""A thread that writes signatures to a backend, in order, and queues them while the backend is down.

While the backend responds, callers can wait until a signature is stored. When it fails, or does not respond for
`store_wait` seconds, it counts as down: callers do not wait until the queue has been written and the backend responds
in time again.

A backend may lose data in an outage: Redis may be configured not to write to disk, and a replica that takes over may
lack the last seconds. So the last acknowledged signature is read after each failure. If it is missing, everything that
this process still has is written again.

A write that fails alone, while others are stored, is dropped, so that it does not block the queue.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from attest_web.stores.backend import Backend, BackendError, Result, Write
from attest_web.stores.shares import Shares

logger = logging.getLogger(__name__)

STORE_WAIT = 0.5
"""Longest time in seconds that the end of a response waits for its signature to be stored."""

MAX_PENDING = 128 * 2**20
"""Memory limit of queued writes, in bytes. Above it, the oldest write of the credential with the most bytes is dropped,
as it will expire first."""

MAX_BATCH = 256
CHECK_EVERY = 5.0
"""Seconds without a write after which the backend's health is checked."""

FIRST_DELAY, LAST_DELAY = 0.1, 2.0
"""Seconds between a failure and the retry: the first delay and the longest."""


class WriteBehind:
    """Writes to a backend in a thread of its own. Thread-safe.

    Attributes:
        down: Whether the backend does not respond in time.
        dropped: Number of writes that were dropped because the queue was full.
        outages: Number of times that the backend went down.
    """

    def __init__(
        self,
        backend: Backend,
        taken: Callable[[Write], None],
        everything: Callable[[], list[Write]],
        *,
        refused: Callable[[], object] = lambda: None,
        dropped: Callable[[], object] = lambda: None,
        store_wait: float = STORE_WAIT,
        max_pending: int = MAX_PENDING,
        check_every: float = CHECK_EVERY,
    ) -> None:
        """Start the thread.

        Args:
            backend: The backend.
            taken: Called in the thread with every write whose id is taken.
            everything: Returns all writes that can be repeated.
            refused: Called in the thread for each write that the backend rejects.
            dropped: Called in any thread for each dropped write.
            store_wait: Seconds without a response after which the backend counts as down.
            max_pending: Memory limit of queued writes, in bytes.
            check_every: Seconds without a write after which the backend's health is checked.
        """
        self._backend = backend
        self._taken = taken
        self._everything = everything
        self._refused = refused
        self._on_drop = dropped
        self._store_wait = store_wait
        self._max_pending = max_pending
        self._check_every = check_every
        self._changed = threading.Condition()
        self._new: Shares[Write] = Shares()
        self._again: deque[Write] = deque()
        self._being_written: list[Write] = []
        self._at_once = MAX_BATCH
        self._added = 0
        self._finished = 0
        self._barriers: deque[tuple[int, Future[None]]] = deque()
        self._last_stored: Write | None = None
        self._look_for_loss = False
        self._check_now = True
        self._closing = False
        self.down = False
        self.dropped = 0
        self.outages = 0
        self._thread = threading.Thread(target=self._run, name="signature store", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Number of writes that are queued or in progress."""
        with self._changed:
            return len(self._new) + len(self._again) + len(self._being_written)

    def add(self, writes: Sequence[Write]) -> None:
        """Queue writes, in this order."""
        dropped = 0
        with self._changed:
            self._added += len(writes)
            for write in writes:
                self._new.add(write)
            while self._new.size > self._max_pending:
                self._finished += self._new.pop_of_largest().put_at is not None
                dropped += 1
            self.dropped += dropped
            self._changed.notify()
        for _ in range(dropped):
            self._on_drop()

    def barrier(self) -> Future[None] | None:
        """A future that resolves once all queued writes are stored or the backend is down; None if none is needed."""
        with self._changed:
            if self.down or self._finished >= self._added:
                return None
            overdue = self._is_overdue()
            if not overdue:
                future: Future[None] = Future()
                self._barriers.append((self._added, future))
                return future
        self._went_down("it is too slow")
        return None

    def suspect(self) -> None:
        """Check the backend's health soon, after a failed read."""
        with self._changed:
            self._check_now = True
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Write the queue, if the backend responds in time, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        if left := self._added - self._finished:
            logger.warning("%d signatures never reached the signature store", left)

    def _run(self) -> None:
        delay = 0.0
        while (batch := self._next_batch(delay)) is not None:
            started = time.monotonic()
            try:
                self._write_again_what_is_lost()
                stored = self._write_or_check(batch)
            except BackendError as error:
                self._failed(str(error))
            except Exception as error:
                # A defect here or in a library, which must not stop the proxy.
                logger.error("writing signatures failed: %s", type(error).__name__, exc_info=error)
                self._failed(type(error).__name__)
            else:
                delay = 0.0
                self._succeeded(batch, stored, time.monotonic() - started)
                continue
            delay = min(LAST_DELAY, max(FIRST_DELAY, 2 * delay)) * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
        self._backend.close()

    def _write_or_check(self, batch: list[Write]) -> list[Result]:
        if not batch:
            self._backend.check()
            return []
        try:
            return self._backend.write(batch)
        except BackendError:
            raise
        except Exception as error:
            # One write may cause it every time. So they are written one by one, and that one is dropped.
            logger.error("writing signatures failed: %s", type(error).__name__, exc_info=error)
            if len(batch) == 1:
                return [Result.REFUSED]
            self._at_once = 1
            raise BackendError(type(error).__name__) from None

    def _next_batch(self, delay: float) -> list[Write] | None:
        """The next writes, none for a health check; None at the end."""
        with self._changed:
            if delay:
                self._changed.wait_for(lambda: self._closing, delay)
                if self._closing:
                    return None
            else:
                self._changed.wait_for(self._has_work, self._check_every)
            self._check_now = False
            now = time.monotonic()
            waiting = self._being_written
            self._being_written = []
            self._take(waiting, now)
            for _ in range(
                4 * MAX_BATCH
            ):  # a bounded loop: callers of add() wait, and the whole queue may have expired
                if len(self._being_written) >= MAX_BATCH:
                    break
                if (write := self._new.oldest()) is not None:
                    self._new.remove(write)
                elif self._again:
                    write = self._again.popleft()
                else:
                    break
                self._take([write], now)
            if self._closing and not (self._being_written or self._new or self._again):
                return None
            return self._being_written[: self._at_once]

    def _take(self, writes: list[Write], now: float) -> None:
        for write in writes:
            if write.expires > now:
                self._being_written.append(write)
            else:
                self._finished += write.put_at is not None

    def _has_work(self) -> bool:
        return bool(self._being_written or self._new or self._again or self._closing or self._check_now)

    def _write_again_what_is_lost(self) -> None:
        if not self._look_for_loss:
            return
        known = self._last_stored
        if known is not None and known.expires > time.monotonic() + 2 and self._backend.read([known.key]) == [None]:
            everything = self._everything()
            logger.warning(
                "the signature store has lost signatures; the %d that are here go there again", len(everything)
            )
            with self._changed:
                self._again = deque(everything)
        self._look_for_loss = False

    def _failed(self, reason: str) -> None:
        with self._changed:
            self._look_for_loss = True
        self._went_down(reason)

    def _went_down(self, reason: str) -> None:
        with self._changed:
            released = [future for _, future in self._barriers]
            self._barriers.clear()
            news = not self.down
            self.down = True
            self.outages += news
        if news:
            logger.warning("the signature store is down: %s. Signatures are kept here until it answers", reason)
        for future in released:
            future.set_result(None)

    def _succeeded(self, batch: list[Write], results: list[Result], seconds: float) -> None:
        for write, result in zip(batch, results, strict=True):
            if result is Result.STORED:
                self._last_stored = write
            elif result is Result.TAKEN:
                self._taken(write)
            else:
                self._refused()
        if refused := results.count(Result.REFUSED):
            logger.warning("%d signatures cannot be stored in the signature store; they are found here alone", refused)
        released = []
        with self._changed:
            self._finished += sum(write.put_at is not None for write in batch)
            self._being_written = self._being_written[len(batch) :]
            if not self._being_written:
                self._at_once = MAX_BATCH
            while self._barriers and self._barriers[0][0] <= self._finished:
                released.append(self._barriers.popleft()[1])
            news = self.down and seconds < self._store_wait and not self._is_overdue()
            if news:
                self.down = False
            elif self.down:
                self._check_now = True  # it responds, but late: check whether it is in time now
        for future in released:
            future.set_result(None)
        if news:
            logger.warning("the signature store answers again")

    def _is_overdue(self) -> bool:
        being_written = (write.put_at for write in self._being_written if write.put_at is not None)
        oldest = next(being_written, None)
        if oldest is None and (write := self._new.oldest()) is not None:
            oldest = write.put_at
        return oldest is not None and oldest < time.monotonic() - self._store_wait
