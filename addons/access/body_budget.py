"""The memory of request bodies that wait for their end, for an upstream connection, or for a second attempt.

All clients together have one budget in bytes. When it is exhausted, bodies that are kept only for a second attempt are
dropped first, and then the incomplete body with the highest cost: its bytes times the seconds since it began. So a
large body that arrives slowly is dropped before many small ones that arrive quickly. A complete body is never dropped
before it has been sent.

Sans-I/O: the memory is freed at once, and the request is rejected at the next event of its stream.
"""

import time
from collections.abc import Callable


class HeldBody:
    """A request body, or part of one, that is held in memory.

    Attributes:
        size: Its bytes.
        dropped: Whether it was dropped. It takes no more bytes then.
    """

    __slots__ = ("_began", "_budget", "_drop", "dropped", "size")

    def __init__(self, budget: "BodyBudget", drop: Callable[[], None], now: float) -> None:
        """Make an empty body; see `BodyBudget.begin`."""
        self.size = 0
        self.dropped = False
        self._budget = budget
        self._drop = drop
        self._began = now

    def add(self, size: int) -> bool:
        """Count more bytes; return whether they fit, and the body was not dropped."""
        if not self.dropped:
            self._budget.take(self, size)
        return not self.dropped

    def less(self, size: int) -> None:
        """Release some bytes."""
        self._budget.give_back(self, min(size, self.size))

    def complete(self) -> None:
        """Note that the body is complete."""
        self._budget.keep(self)

    def sent(self) -> None:
        """Note that it has been forwarded, and is kept only for a second attempt."""
        self._budget.spare(self)

    def release(self) -> None:
        """Note that it is not kept any longer."""
        self._budget.forget(self)

    def drop(self) -> None:
        """Free its memory."""
        self.dropped = True
        self._drop()
        self.release()

    def cost(self, now: float) -> tuple[float, int]:
        """Its cost so far, in byte-seconds, and its bytes, which decide between equal costs."""
        return self.size * (now - self._began), self.size


class BodyBudget:
    """The budget of all held bodies.

    Attributes:
        held: Bytes in use.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Make an unused budget.

        Args:
            most: Most bytes in use at once.
            clock: Seconds, monotonic.
        """
        self.held = 0
        self._most = most
        self._clock = clock
        self._coming: set[HeldBody] = set()
        # In the order in which they were sent: the oldest is least likely to be needed.
        self._spare: dict[HeldBody, None] = {}

    def begin(self, drop: Callable[[], None]) -> HeldBody:
        """Start to hold a body.

        Args:
            drop: Frees the memory of the body.
        """
        return HeldBody(self, drop, self._clock())

    def take(self, body: HeldBody, size: int) -> None:
        """Count bytes of a body; if the budget is exhausted, drop other bodies or this one."""
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
        """Keep a body that is complete."""
        self._coming.discard(body)

    def spare(self, body: HeldBody) -> None:
        """Make a body the first to be dropped, after those that were spared earlier."""
        self._coming.discard(body)
        if body.size:
            self._spare[body] = None

    def give_back(self, body: HeldBody, size: int) -> None:
        """Stop counting some bytes of a body."""
        self.held -= size
        body.size -= size

    def forget(self, body: HeldBody) -> None:
        """Stop counting a body."""
        self._coming.discard(body)
        self._spare.pop(body, None)
        self.give_back(body, body.size)
