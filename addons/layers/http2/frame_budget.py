"""What a client's HTTP/2 frames may cost: counted on the bytes of the wire, before anything is buffered or parsed.

hyper-h2 waits for the whole of a frame before it looks at its length, takes 64 CONTINUATION frames of any size, and
answers PING and SETTINGS however many come. Here every frame costs one, whatever it is; time, bytes of request bodies
and frames that were sent to the client pay for it. What a real client does is paid for. Floods of PING, SETTINGS,
PRIORITY, WINDOW_UPDATE, RST_STREAM or unknown frames, of empty or tiny DATA, are not, and end their connection.

Sans-I/O: bytes and times in, nothing out but an error.
"""

import enum
from collections.abc import Callable

from h2.errors import ErrorCodes

MAX_FRAME = 16_384
"""Largest payload of a frame, in bytes: what every endpoint takes (RFC 9113, 4.2), and no more."""

MAX_HEADER_BLOCK = 65_536
"""Largest header block, compressed, over all its frames, in bytes."""

FRAME_BURST, FRAMES_PER_SECOND = 2_000, 500
"""How many frames may come at once, and how many a second, that nothing else pays for."""

BYTES_PER_FRAME = 512
"""Bytes of a request body that pay for a frame."""

DROPPED_BURST, DROPPED_PER_SECOND = 8 * 1024 * 1024, 128 * 1024
"""Bytes of bodies that no stream takes, at once and a second. Of a request that was refused, a client that heeds its
window sends no more than `http2_connection.STREAM_WINDOW`."""

RESET_BURST, RESETS_PER_SECOND = 200, 20
"""Requests that a client may give up, at once and a second; each that comes to its end pays for one."""

_PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_HEAD = 9


class _Kind(enum.IntEnum):
    """Types of frames (RFC 9113, 6)."""

    DATA = 0x0
    HEADERS = 0x1
    CONTINUATION = 0x9


class Http2LimitExceeded(Exception):  # noqa: N818  # named after what it tells of
    """A client has gone too far, and its connection ends.

    Attributes:
        code: What to tell it.
    """

    def __init__(self, what: str, code: ErrorCodes = ErrorCodes.ENHANCE_YOUR_CALM) -> None:
        super().__init__(what)
        self.code = code


class TokenBucket:
    """Something that fills up with time, up to a limit, and is spent."""

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float]) -> None:
        """Make a full one.

        Args:
            burst: The most that it holds.
            per_second: How much it gains in a second.
            clock: Tells the time, in seconds.
        """
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._left = float(burst)
        self._filled_at = clock()

    def refill(self, amount: float) -> None:
        """Add something."""
        self._left = min(self._burst, self._left + amount)

    def consume(self, amount: float) -> bool:
        """Take something; tell whether there was enough."""
        if self._left < amount:
            now = self._clock()
            self.refill((now - self._filled_at) * self._per_second)
            self._filled_at = now
        self._left -= amount
        return self._left >= 0


class FrameBudget:
    """Watches the frames of one client connection as they come."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._budget = TokenBucket(FRAME_BURST, FRAMES_PER_SECOND, clock)
        self._dropped = TokenBucket(DROPPED_BURST, DROPPED_PER_SECOND, clock)
        self._data = 0
        """Bytes of a body in the last frame."""
        self._untaken = 0
        """Bytes of bodies that have come and have not been reported as taken."""
        self._skip = _PREFACE
        """Bytes that are to come of what is under way: the preface, or a frame's payload."""
        self._head = b""
        """What has come of a frame's head."""
        self._block = 0
        """Bytes of the header block under way."""

    def receive(self, data: bytes) -> None:
        """Take note of what the client has sent.

        Raises:
            Http2LimitExceeded: It is too much of something.
        """
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            step = _HEAD - len(self._head)
            self._head += data[at : at + step]
            at += step
            if len(self._head) == _HEAD:
                self._skip = int.from_bytes(self._head[:3])
                self._count(self._skip, self._head[3])
                self._head = b""

    def taken(self, size: int) -> None:
        """Take note that some of a body, padding included, has gone where it belongs."""
        self._untaken -= size

    def settle(self) -> None:
        """Count what has not been taken of what has come; a frame that is not complete could not be.

        Raises:
            Http2LimitExceeded: The client goes on and on with bodies that no stream takes.
        """
        dropped = self._untaken - (self._data if self._skip else 0)
        if dropped > 0:
            self._untaken -= dropped
            if not self._dropped.consume(dropped):
                raise Http2LimitExceeded("too much of what was refused")

    def sent(self, size: int) -> None:
        """Take note of a piece of a response that was sent: the client may say twice, or more, that it has it."""
        self._budget.refill(2 + size // 4096)

    def _count(self, length: int, kind: int) -> None:
        if length > MAX_FRAME:
            raise Http2LimitExceeded("a frame is too long", ErrorCodes.FRAME_SIZE_ERROR)
        self._data = length if kind == _Kind.DATA else 0
        self._untaken += self._data
        if kind == _Kind.DATA:
            self._budget.refill(length / BYTES_PER_FRAME)
        elif kind in (_Kind.HEADERS, _Kind.CONTINUATION):
            self._block = length if kind == _Kind.HEADERS else self._block + length
            if self._block > MAX_HEADER_BLOCK:
                raise Http2LimitExceeded("a header block is too long")
        if not self._budget.consume(1):
            raise Http2LimitExceeded("too many frames")
