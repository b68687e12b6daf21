"""How much memory request bodies take that wait: for their end, for an upstream connection, or for a second attempt.

All clients together have one budget in bytes. When it is spent, the body is dropped that has cost the most: its bytes
times the seconds that it has been coming. So a client that holds much for long gives way to many that hold little for a
moment. A body that is complete is never dropped, as a response is about to come of it.

Sans-I/O: the memory is freed at once, and the request is refused when something next happens on its stream.
"""

import time
from collections.abc import Callable


class HeldBody:
    """A request body, or the part of one, that waits in memory.

    Attributes:
        size: Its bytes.
        dropped: Whether it had to go. Nothing more is taken then.
    """

    __slots__ = ("_began", "_budget", "_drop", "dropped", "size")

    def __init__(self, budget: "BodyBudget", drop: Callable[[], None], now: float) -> None:
        """Make one with nothing in it; see `BodyBudget.begin`."""
        self.size = 0
        self.dropped = False
        self._budget = budget
        self._drop = drop
        self._began = now

    def add(self, size: int) -> bool:
        """Take so many bytes more; tell whether there was room, and is."""
        if not self.dropped:
            self._budget.take(self, size)
        return not self.dropped

    def less(self, size: int) -> None:
        """Let so many bytes go."""
        self._budget.give_back(self, min(size, self.size))

    def complete(self) -> None:
        """Take note that all of it is there."""
        self._budget.keep(self)

    def sent(self) -> None:
        """Take note that it has been forwarded, and is kept for a second attempt alone."""
        self._budget.spare(self)

    def release(self) -> None:
        """Take note that it is kept no longer."""
        self._budget.forget(self)

    def drop(self) -> None:
        """Have it go."""
        self.dropped = True
        self._drop()
        self.release()

    def cost(self, now: float) -> tuple[float, int]:
        """What it has cost by now, in byte-seconds; and its bytes, which decide between equals."""
        return self.size * (now - self._began), self.size


class BodyBudget:
    """The budget of all that wait.

    Attributes:
        held: Bytes that are taken.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Make it with nothing taken.

        Args:
            most: How many bytes may be taken at once.
            clock: Tells the time, in seconds.
        """
        self.held = 0
        self._most = most
        self._clock = clock
        self._coming: set[HeldBody] = set()
        # In the order in which they were sent: the oldest is needed least.
        self._spare: dict[HeldBody, None] = {}

    def begin(self, drop: Callable[[], None]) -> HeldBody:
        """Begin with a body.

        Args:
            drop: Frees the memory that it takes.
        """
        return HeldBody(self, drop, self._clock())

    def take(self, body: HeldBody, size: int) -> None:
        """Count bytes of a body; where there is no room for them, drop others, or this one."""
        self.held += size
        body.size += size
        self._coming.add(body)
        while self.held > self._most and not body.dropped:
            if self._spare:
                next(iter(self._spare)).drop()
            else:
                now = self._clock()
                max(self._coming, key=lambda held: held.cost(now)).drop()

    def keep(self, body: HeldBody) -> None:
        """Let a body wait that is complete."""
        self._coming.discard(body)

    def spare(self, body: HeldBody) -> None:
        """Let a body go before any other."""
        self._coming.discard(body)
        if body.size:
            self._spare[body] = None

    def give_back(self, body: HeldBody, size: int) -> None:
        """Count bytes of a body no longer."""
        self.held -= size
        body.size -= size

    def forget(self, body: HeldBody) -> None:
        """Count a body no longer."""
        self._coming.discard(body)
        self._spare.pop(body, None)
        self.give_back(body, body.size)
