"""A bounded queue of requests to pages of one kind, in which each client has a share.

A page that blocks, as a report does while its quote is made, occupies its thread. So each kind of page has its own
threads, and slow reports do not delay signatures.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from attest_web.process.daemon_threads import DaemonThreads


class QueueFullError(Exception):
    """The queue is full."""


class ShareFullError(Exception):
    """The client's share of the queue is full."""


class PageQueue:
    """Threads for pages of one kind, and the requests that run in them or wait for them."""

    def __init__(self, name: str, *, threads: int, most: int, most_per_client: int) -> None:
        """Start no thread yet.

        Args:
            name: The name of the threads, as debuggers show it.
            threads: Most threads.
            most: Most requests at once, those in the threads included.
            most_per_client: Most requests of one client at once.
        """
        self._threads = DaemonThreads(name, threads)
        self._most = most
        self._most_per_client = most_per_client
        self._under_way = 0
        self._by_client: Counter[str] = Counter()  # as many as there are requests

    async def call[*A, T](self, client: str | None, page: Callable[[*A], T], *args: *A) -> T:
        """Run a call in a thread, and wait for its result.

        Args:
            client: The client in whose share the call counts; None if it counts in none.
            page: The function to call.
            args: Its arguments.

        Raises:
            QueueFullError: Too many requests are under way.
            ShareFullError: Too many requests of this client are under way.
            Exception: Any exception that the call raises.
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
