"""Which idle connections to upstreams are kept for later requests, and for how long."""

import asyncio
import math
import time
from collections.abc import Callable
from itertools import takewhile
from weakref import WeakKeyDictionary

from mitmproxy.connection import Connection

MAX_CHECK_INTERVAL = 1.0
"""Most seconds between two checks for connections that have been idle for too long."""


class KeepAliveLimit:
    """Limits how many idle upstream connections of all clients are kept, and for how long.

    Attributes:
        timeout: Seconds for which an idle connection is kept.
    """

    def __init__(
        self,
        limit: int,
        timeout: float = math.inf,
        has_ended: Callable[[Connection], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without idle connections.

        Args:
            limit: Most idle connections; 0 keeps none.
            timeout: Seconds for which an idle connection is kept.
            has_ended: Whether the upstream has closed a connection, even if the layers have had no event of it yet.
            clock: Seconds, monotonic.
        """
        self.timeout = timeout
        self._limit = limit
        self._has_ended = has_ended
        self._clock = clock
        # When each became idle, the longest first. Weak, as not every close of a connection reaches its layers.
        self._idle: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._idle)

    def keep(self, connection: Connection) -> bool:
        """Keep a connection that has become idle; return False if the limit is reached and it has to be closed."""
        if len(self._idle) >= self._limit:
            return False
        self._idle[connection] = self._clock()
        return True

    def drop(self, connection: Connection) -> None:
        """Note that a connection is not idle any more."""
        self._idle.pop(connection, None)

    def is_usable(self, connection: Connection) -> bool:
        """Whether a request may be sent over an idle connection: it is open, and has not been idle for too long."""
        since = self._idle.get(connection)
        return since is not None and self._clock() - since < self.timeout and not self._has_ended(connection)

    def overdue(self) -> list[Connection]:
        """The connections that have been idle for too long."""
        longest_first = list(self._idle.items())
        until = self._clock() - self.timeout
        return [connection for connection, _ in takewhile(lambda item: item[1] <= until, longest_first)]


class IdleConnectionCloser:
    """Closes upstream connections that have been idle for too long."""

    def __init__(self, keep_alive: KeepAliveLimit, close: Callable[[Connection], None]) -> None:
        """Make the addon.

        Args:
            keep_alive: Has the idle connections.
            close: Closes a connection, and notifies its layers.
        """
        self._keep_alive = keep_alive
        self._close = close
        self._task: asyncio.Task[None] | None = None

    def running(self) -> None:
        """Start to check."""
        self._task = asyncio.get_running_loop().create_task(self._close_overdue())

    def done(self) -> None:
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()

    async def _close_overdue(self) -> None:
        # One timer for all connections: a timer for each would cost a task for every exchange.
        interval = min(MAX_CHECK_INTERVAL, self._keep_alive.timeout / 4)
        while True:
            await asyncio.sleep(interval)
            for connection in self._keep_alive.overdue():
                self._keep_alive.drop(connection)
                self._close(connection)
