"""A pool of threads that do not delay the end of the process.

`concurrent.futures.ThreadPoolExecutor` always joins its threads when the interpreter ends. A thread that waits for a
guest agent that hangs would delay the proxy's end until it is killed.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

_Work = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


class DaemonThreads:
    """Runs calls in at most so many daemon threads, which are started as they are needed."""

    def __init__(self, name: str, most: int) -> None:
        """Make an empty pool.

        Args:
            name: Of its threads, as debuggers show it.
            most: How many threads there may be.
        """
        self._name = name
        self._most = most
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def submit[*A, T](self, call: Callable[[*A], T], *args: *A) -> Future[T]:
        """Run a call as soon as a thread is free.

        Raises:
            RuntimeError: The pool is closed.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the pool {self._name} is closed")
            if self._idle:
                self._idle -= 1
            elif self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            self._work.put((future, call, args))
        return future

    def close(self) -> None:
        """Take no more calls, and end threads as they become free. Waits for none."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, call, args = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call(*args))
                except BaseException as error:
                    future.set_exception(error)
            del work, future, call, args
            with self._lock:
                if self._work.empty():
                    self._idle += 1
