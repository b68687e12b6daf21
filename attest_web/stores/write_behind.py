"""A thread that hands signatures over to a backend, in order, and keeps those that it cannot hand over until it can.

While the backend answers, whoever puts a signature can wait until it has been stored. When it fails, or has not
answered for `patience` seconds, it counts as down: from then on nobody waits, until all that had to wait has been
stored and an answer comes in time again.

A backend may come back without what it had: Redis keeps nothing on disk if it is told so, and a replica that takes over
may lack the last seconds. So the last signature that it has acknowledged is looked for after each failure; where it is
gone, everything that this process still has is written again.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from attest_web.stores.backend import Backend, BackendError, Write

logger = logging.getLogger(__name__)

PATIENCE = 0.5
"""Seconds that the end of an answer waits for its signature to be stored, at most."""

MAX_PENDING = 100_000
"""Signatures that wait to be written. When there are more, the oldest are given up: they will expire first."""

MAX_BATCH = 256
CHECK_EVERY = 5.0
"""Seconds after which a backend that nothing was written to is asked whether it is there."""

FIRST_DELAY, LAST_DELAY = 0.1, 2.0
"""Seconds between one failure and the next attempt, at first and in the end."""


class WriteBehind:
    """Writes to a backend, behind the back of whoever adds. Its methods may be called from any thread.

    Attributes:
        down: Whether the backend does not answer, or not in time.
        dropped: How many signatures were given up because too many had to wait.
        outages: How often the backend went down.
    """

    def __init__(
        self,
        backend: Backend,
        taken: Callable[[Write], None],
        everything: Callable[[], list[Write]],
        *,
        patience: float = PATIENCE,
        max_pending: int = MAX_PENDING,
        check_every: float = CHECK_EVERY,
    ) -> None:
        """Start the thread.

        Args:
            backend: Where to write.
            taken: Told of every signature whose id turns out to be taken, in that thread.
            everything: Gives all that could be written again.
            patience: Seconds until a backend that has not answered counts as down.
            max_pending: How many signatures may wait.
            check_every: Seconds after which a backend is asked whether it is there.
        """
        self._backend = backend
        self._taken = taken
        self._everything = everything
        self._patience = patience
        self._max_pending = max_pending
        self._check_every = check_every
        self._changed = threading.Condition()
        self._new: deque[Write] = deque()
        self._again: deque[Write] = deque()
        self._being_written: list[Write] = []
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
        """How many signatures wait to be written, or are being written."""
        with self._changed:
            return len(self._new) + len(self._again) + len(self._being_written)

    def add(self, write: Write) -> None:
        """Have a signature written."""
        with self._changed:
            self._added += 1
            self._new.append(write)
            self._drop_what_is_too_much()
            self._changed.notify()

    def barrier(self) -> Future[None] | None:
        """What is done when all that was added is stored, or the backend counts as down; None: it is so already."""
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
        """Find out soon whether the backend is there: somebody has had no answer from it."""
        with self._changed:
            self._check_now = True
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Write what is left, if the backend takes it at once, and end."""
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
                # A defect of ours or of a library; chats must go on all the same.
                logger.error("writing signatures failed: %s", type(error).__name__, exc_info=error)
                self._failed(type(error).__name__)
            else:
                delay = 0.0
                self._succeeded(batch, stored, time.monotonic() - started)
                continue
            delay = min(LAST_DELAY, max(FIRST_DELAY, 2 * delay)) * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
        self._backend.close()

    def _write_or_check(self, batch: list[Write]) -> list[bool]:
        if batch:
            return self._backend.write(batch)
        self._backend.check()
        return []

    def _next_batch(self, delay: float) -> list[Write] | None:
        """The next signatures to write, none where the backend is to be asked whether it is there; None at the end."""
        with self._changed:
            if delay:
                self._changed.wait_for(lambda: self._closing, delay)
                if self._closing:
                    return None
            else:
                ready = lambda: self._new or self._again or self._closing or self._check_now  # noqa: E731
                self._changed.wait_for(ready, self._check_every)
            self._check_now = False
            now = time.monotonic()
            for waiting in (self._new, self._again):
                while waiting and len(self._being_written) < MAX_BATCH:
                    write = waiting.popleft()
                    if write.expires > now:
                        self._being_written.append(write)
                    else:
                        self._finished += write.put_at is not None
                if self._being_written:
                    break
            return None if self._closing and not self._being_written else list(self._being_written)

    def _write_again_what_is_lost(self) -> None:
        if not self._look_for_loss:
            return
        known = self._last_stored
        if known is not None and known.expires > time.monotonic() + 2 and self._backend.read(known.chat_id) is None:
            everything = self._everything()[-self._max_pending :]
            logger.warning(
                "the signature store has lost signatures; the %d that are here go there again", len(everything)
            )
            with self._changed:
                self._again = deque(everything)
        self._look_for_loss = False

    def _failed(self, reason: str) -> None:
        with self._changed:
            self._new.extendleft(reversed(self._being_written))
            self._being_written = []
            self._drop_what_is_too_much()
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

    def _succeeded(self, batch: list[Write], stored: list[bool], seconds: float) -> None:
        for write, is_stored in zip(batch, stored, strict=True):
            if is_stored:
                self._last_stored = write
            else:
                self._taken(write)
        released = []
        with self._changed:
            self._finished += sum(write.put_at is not None for write in batch)
            self._being_written = []
            while self._barriers and self._barriers[0][0] <= self._finished:
                released.append(self._barriers.popleft()[1])
            news = self.down and seconds < self._patience and not self._is_overdue()
            if news:
                self.down = False
            elif self.down:
                self._check_now = True  # it answers, but not in time: perhaps it does now
        for future in released:
            future.set_result(None)
        if news:
            logger.warning("the signature store answers again")

    def _is_overdue(self) -> bool:
        oldest = self._being_written[0] if self._being_written else self._new[0] if self._new else None
        if oldest is None or oldest.put_at is None:
            return False
        return oldest.put_at < time.monotonic() - self._patience

    def _drop_what_is_too_much(self) -> None:
        while len(self._new) > self._max_pending:
            self._finished += self._new.popleft().put_at is not None
            self.dropped += 1
