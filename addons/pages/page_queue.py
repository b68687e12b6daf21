"""Where requests to the proof pages wait for a thread: a queue for each kind of page, in which each client has a share.

A page that waits for others, as a report does for a quote, takes its thread for as long. So each kind has threads of
its own: reports that take their time keep no signature waiting.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from attest_web.process.daemon_threads import DaemonThreads


class QueueFullError(Exception):
    """There is no place for another request."""


class ShareFullError(Exception):
    """The client has all the places that it may have."""


class PageQueue:
    """Threads for pages of one kind, and the requests that are with them or wait for them."""

    def __init__(self, name: str, *, threads: int, most: int, most_per_client: int) -> None:
        """Start no thread yet.

        Args:
            name: Of the threads, for whoever looks at them.
            threads: How many there may be.
            most: How many requests there may be at once, those in the threads among them.
            most_per_client: How many of them may be one client's.
        """
        self._threads = DaemonThreads(name, threads)
        self._most = most
        self._most_per_client = most_per_client
        self._under_way = 0
        self._by_client: Counter[str] = Counter()  # as many as there are requests

    async def call[*A, T](self, client: str | None, page: Callable[[*A], T], *args: *A) -> T:
        """Have a call made in a thread, and wait for what it returns.

        Args:
            client: In whose share it counts; None where it counts in none.
            page: What to call.
            args: With what.

        Raises:
            QueueFullError: Too many requests are under way.
            ShareFullError: Too many of this client's are.
            Exception: Whatever the call raises.
        """
        if client is not None and self._by_client[client] >= self._most_per_client:
            raise ShareFullError
        if self._under_way >= self._most:
            raise QueueFullError
        self._under_way += 1
        if client is not None:
            self._by_client[client] += 1
        try:
            return await asyncio.wrap_future(self._threads.submit(page, *args))
        finally:
            self._under_way -= 1
            if client is not None:
                self._by_client[client] -= 1
                if not self._by_client[client]:
                    del self._by_client[client]

    def close(self) -> None:
        """Take no more calls, and end the threads as they become free."""
        self._threads.close()
