"""A call whose result is cached for a time, and which runs once for all concurrent callers."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

MAX_WAIT = 90.0
"""Seconds that a thread waits for a call that another one is making."""


@dataclass(frozen=True)
class _CacheEntry[T]:
    value: T
    made_at: float


class CachedCall[T]:
    """Calls a function and caches its result for a time. Thread-safe.

    Concurrent callers share the result of one call, or its error. An error is never cached.
    """

    def __init__(self, call: Callable[[], T], lifetime: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare; nothing is called yet.

        Args:
            call: What to call; may block.
            lifetime: Seconds for which a result is good, from when its call began.
            clock: Seconds, monotonic.
        """
        self._call = call
        self._lifetime = lifetime
        self._clock = clock
        self._lock = threading.Lock()
        self._cached: _CacheEntry[T] | None = None
        self._under_way: Future[T] | None = None

    def __call__(self) -> T:
        """The result.

        Raises:
            TimeoutError: The call that another thread is making takes too long.
            Exception: Whatever the call raises.
        """
        with self._lock:
            now = self._clock()
            if self._cached is not None and now - self._cached.made_at < self._lifetime:
                return self._cached.value
            shared = self._under_way
            if shared is None:
                mine: Future[T] = Future()
                self._under_way = mine
        if shared is not None:
            return shared.result(MAX_WAIT)
        try:
            value = self._call()
            with self._lock:
                self._cached = _CacheEntry(value, now)
            mine.set_result(value)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                self._under_way = None
        return value
