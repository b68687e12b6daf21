"""Streams whose last event has arrived, while the upstream leaves the message open.

The event that ends a stream is held back until the message ends, as only then the exchange is complete and can be
signed. A client would wait for it until the upstream's timeout, which is long, as inference may take long. So the
upstream gets a few seconds to end the message. Then it is ended here, the exchange is signed as the client received it,
and the connection to the upstream is closed. If the head has announced more bytes than have arrived, the message cannot
be ended: it is cut short, also for the client, and the last event is not sent, as a client with it expects a signature.
"""

import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final

from mitmproxy.proxy import commands, layer

END_TIMEOUT: Final = 3.0
"""Seconds that an upstream may take to end a message whose last event has arrived."""


@dataclass
class _Unended:
    since: float
    check_at: float


class EndOfStreamTimeout:
    """The streams of a client connection whose last event has arrived.

    Attributes:
        wakeup: The timer of all streams; None if it is not running.
        noted: Whether there is a new stream, for which `watch` has to be called.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._streams: dict[int, _Unended] = {}
        self.wakeup: commands.RequestWakeup | None = None
        self.noted = False

    def note(self, stream_id: int) -> None:
        """Note that a stream's last event has arrived."""
        now = self._now()
        self._streams[stream_id] = _Unended(now, now + END_TIMEOUT)
        self.noted = True

    def watch(self, alive: Container[int]) -> layer.CommandGenerator[None]:
        """Start the timer for the first overdue stream, if it is not running.

        Args:
            alive: The open streams; most of the noted ones have ended meanwhile.
        """
        self.noted = False
        self._streams = {number: stream for number, stream in self._streams.items() if number in alive}
        if self.wakeup is None and self._streams:
            delay = min(stream.check_at for stream in self._streams.values()) - self._now()
            self.wakeup = commands.RequestWakeup(max(0.0, delay))
            yield self.wakeup

    def overdue(self, alive: Container[int], excused: float = 0.0) -> list[int]:
        """Note that the timer has expired; return the streams that have to be ended.

        Args:
            alive: As for `watch`.
            excused: Seconds for which backpressure may delay a stream; limited, as it may not be progressing at all.
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
