"""Writes the log to a file descriptor in a thread, which may block until the log is read.

A pipe that is full blocks the writer, and with it all requests, if the writer is the event loop. Here a line goes into
a queue with a bound. What does not fit is dropped and counted, and the log says so once it can be written again.
"""

import atexit
import io
import logging
import os
import threading
from collections import deque
from typing import Final

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 1024 * 1024
"""Most bytes of queued lines."""

MAX_WRITE: Final = 64 * 1024
"""Approximate bytes that are written at once."""

COLLECT: Final = 0.05
"""Seconds for which lines are collected before they are written together: waking the thread for each line would cost
more than the line itself."""

CLOSE_GRACE: Final = 2.0
"""Seconds that the end of the process waits for queued lines to be written."""


class LogOutput(io.TextIOBase):
    """A text stream whose `write` never blocks.

    Attributes:
        dropped: Lines that did not fit.
    """

    def __init__(self, descriptor: int, *, max_waiting: int = MAX_WAITING) -> None:
        """Start the thread; it ends before the process, which waits `CLOSE_GRACE` for it.

        Args:
            descriptor: Where to write; it stays open.
            max_waiting: Most bytes of queued lines.
        """
        self._descriptor = descriptor
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._line = ""
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._at_once = threading.Event()
        self.dropped = 0
        self._told = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close_at_exit)

    def write(self, text: str) -> int:
        """Queue text; complete lines of it are written by the thread."""
        with self._changed:
            self._line += text
            if text.endswith("\n"):
                self._put(self._line)
            elif "\n" in text:
                whole, _, rest = self._line.rpartition("\n")
                self._put(whole + "\n")
                self._line = rest
            # A text without a line end must not be buffered without a bound.
            elif len(self._line) > MAX_WRITE:
                self._put(self._line)
        return len(text)

    def _put(self, text: str) -> None:
        self._line = ""
        lines = text.encode("utf-8", "backslashreplace")
        if self._waiting + len(lines) > self._max_waiting:
            self.dropped += 1
            return
        if not self._lines:
            self._changed.notify_all()
        self._waiting += len(lines)
        self._lines.append(lines)

    def flush(self) -> None:
        """Do nothing: the thread writes."""

    def fileno(self) -> int:
        """The file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def close_at_exit(self) -> None:
        """Write all queued lines and end the thread, unless it blocks; called when the process ends."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._at_once.set()
        self._thread.join(CLOSE_GRACE)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing)
                if not self._lines:
                    return
            self._at_once.wait(COLLECT)
            with self._changed:
                batch: list[bytes] = []
                while self._lines and sum(map(len, batch)) < MAX_WRITE:
                    batch.append(self._lines.popleft())
            self._write(b"".join(batch))
            with self._changed:
                self._waiting -= sum(map(len, batch))
                dropped, self._told = self.dropped - self._told, self.dropped
                self._changed.notify_all()
            if dropped:
                logger.warning("%d lines of the log were dropped: what reads it is too slow", dropped)

    def _write(self, data: bytes) -> None:
        # Not through Python's buffers: at the end of the process, they need a lock that a blocked thread would hold.
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError:  # the reader is closed, or the disk is full, which must not stop the proxy
                self.dropped += 1
                return
