"""Streams that have said all, and whose upstream leaves the message open.

The event that ends a stream is held back until the message ends, as only then the exchange is whole and can be signed.
A client would wait for it until the upstream's timeout, which is meant for models that think. So the upstream gets a
few seconds to end the message. Then it is ended here, signed over what the client has got, and the connection to the
upstream is closed. Where the head has promised a number of bytes that did not come, the message cannot be ended: it is
cut short, to the client too, and the event stays back, for a client that holds it expects a signature.
"""

import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final

from mitmproxy.proxy import commands, layer

END_TIMEOUT: Final = 3.0
"""Seconds that an upstream may take to end a message whose last event has come."""


@dataclass
class _Unended:
    since: float
    check_at: float


class EndOfStreamTimeout:
    """The streams of a client connection whose last event has come.

    Attributes:
        wakeup: The timer, one for all of them; None while there is none.
        noted: Whether there is a stream for which `watch` has still to be called.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._streams: dict[int, _Unended] = {}
        self.wakeup: commands.RequestWakeup | None = None
        self.noted = False

    def note(self, stream_id: int) -> None:
        """Take note that a stream's last event has come."""
        now = self._now()
        self._streams[stream_id] = _Unended(now, now + END_TIMEOUT)
        self.noted = True

    def watch(self, alive: Container[int]) -> layer.CommandGenerator[None]:
        """Have the layer woken when the first of them is overdue, if it is not going to be already.

        Args:
            alive: The streams that there are; most have ended meanwhile.
        """
        self.noted = False
        self._streams = {number: stream for number, stream in self._streams.items() if number in alive}
        if self.wakeup is None and self._streams:
            delay = min(stream.check_at for stream in self._streams.values()) - self._now()
            self.wakeup = commands.RequestWakeup(max(0.0, delay))
            yield self.wakeup

    def overdue(self, alive: Container[int], excused: float = 0.0) -> list[int]:
        """Take note that the timer has run out; return the streams that are to be ended.

        Args:
            alive: As for `watch`.
            excused: For how many seconds they are excused; not for ever, as it is not known whether they move at all.
        """
        self.wakeup = None
        now = self._now()
        self._streams = {number: stream for number, stream in self._streams.items() if number in alive}
        late = [number for number, stream in self._streams.items() if stream.check_at <= now]
        ended = [number for number in late if self._streams[number].since + excused <= now]
        for number in late:
            self._streams[number].check_at = now + END_TIMEOUT
        for number in ended:
            del self._streams[number]
        return ended
