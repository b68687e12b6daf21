"""Items in the order in which they were added, with the total size of each holder's items.

Where the limit is reached, the holder with the most bytes loses its oldest item. So a holder that fills the store
evicts its own items, and each that takes no more than its share keeps all of its items (max-min fairness).
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol


class Held(Protocol):
    """An item, compared by identity. Its attributes do not change while it is kept.

    Attributes:
        holder: The item's holder.
        size: Bytes that it takes.
    """

    @property
    def holder(self) -> str: ...  # noqa: D102  # see above

    @property
    def size(self) -> int: ...  # noqa: D102  # see above


class _Holding[T]:
    __slots__ = ("items", "size")

    def __init__(self) -> None:
        self.items: OrderedDict[T, None] = OrderedDict()
        self.size = 0


class Shares[T: Held]:
    """Items by holder. Not thread-safe. Each method takes at most O(log n) time, amortised.

    Attributes:
        size: Bytes that all items take.
    """

    def __init__(self) -> None:
        self.size = 0
        self._all: OrderedDict[T, None] = OrderedDict()
        self._holdings: dict[str, _Holding[T]] = {}
        # A heap of (-size, holder). A holding may have shrunk since its newest entry was made, but not grown.
        self._largest: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[T]:
        """All items, the oldest first."""
        return iter(self._all)

    def add(self, item: T) -> None:
        """Add an item, as the newest."""
        holding = self._holdings.get(item.holder)
        if holding is None:
            holding = self._holdings[item.holder] = _Holding()
        self._all[item] = holding.items[item] = None
        self.size += item.size
        holding.size += item.size
        heapq.heappush(self._largest, (-holding.size, item.holder))
        if len(self._largest) > 2 * len(self._holdings) + 64:
            self._largest = [(-held.size, holder) for holder, held in self._holdings.items()]
            heapq.heapify(self._largest)

    def remove(self, item: T) -> None:
        """Remove an item that is present."""
        holding = self._holdings[item.holder]
        del self._all[item], holding.items[item]
        self.size -= item.size
        holding.size -= item.size
        if not holding.items:
            del self._holdings[item.holder]

    def oldest(self) -> T | None:
        """The oldest item; None without any."""
        return next(iter(self._all), None)

    def pop_of_largest(self) -> T:
        """Remove the oldest item of the holder with the largest size.

        Raises:
            IndexError: There are no items.
        """
        while True:
            size, holder = self._largest[0]
            holding = self._holdings.get(holder)
            if holding is not None and holding.size == -size:
                item = next(iter(holding.items))
                self.remove(item)
                return item
            if holding is None:
                heapq.heappop(self._largest)
            else:
                heapq.heapreplace(self._largest, (-holding.size, holder))
