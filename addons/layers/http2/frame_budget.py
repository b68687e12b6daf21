"""Limits the rate of a client's HTTP/2 frames, counted on the received bytes before they are buffered or parsed.

hyper-h2 buffers a whole frame before it checks its length, accepts 64 CONTINUATION frames of any size, and responds to
every PING and SETTINGS. Here every frame takes one token from a bucket, which is refilled by time, by bytes of request
bodies, and by frames sent to the client. Real clients stay within it. Floods of PING, SETTINGS, PRIORITY,
WINDOW_UPDATE, RST_STREAM or unknown frames, or of empty or tiny DATA frames, exhaust it and end their connection.

Sans-I/O: it takes bytes and times, and raises an error.
"""

import enum
from collections.abc import Callable

from h2.errors import ErrorCodes

MAX_FRAME = 16_384
"""Largest payload of a frame, in bytes: the size that every endpoint has to accept (RFC 9113, 4.2)."""

MAX_HEADER_BLOCK = 65_536
"""Largest header block, compressed, over all its frames, in bytes."""

FRAME_BURST, FRAMES_PER_SECOND = 2_000, 500
"""Frames at once, and frames a second, without any other refill."""

BYTES_PER_FRAME = 512
"""Bytes of a request body that refill one frame."""

DROPPED_BURST, DROPPED_PER_SECOND = 8 * 1024 * 1024, 128 * 1024
"""Dropped bytes of bodies, at once and a second. For a rejected request, a client that respects flow control sends no
more than `addons.layers.http2.connection.STREAM_WINDOW`."""

RESET_BURST, RESETS_PER_SECOND = 200, 20
"""Requests that a client may reset, at once and a second; each completed request refills one."""

_PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_HEAD = 9


class _Kind(enum.IntEnum):
    """Types of frames (RFC 9113, 6)."""

    DATA = 0x0
    HEADERS = 0x1
    CONTINUATION = 0x9


class Http2LimitExceeded(Exception):  # noqa: N818  # named for the event
    """A client has exceeded a limit, and its connection is ended.

    Attributes:
        code: The error code for the client.
    """

    def __init__(self, what: str, code: ErrorCodes = ErrorCodes.ENHANCE_YOUR_CALM) -> None:
        super().__init__(what)
        self.code = code


class TokenBucket:
    """A token bucket: it is refilled by time, up to a limit, and consumed."""

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float]) -> None:
        """Make a full bucket.

        Args:
            burst: Most tokens.
            per_second: Tokens that are refilled in a second.
            clock: Seconds, monotonic.
        """
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._left = float(burst)
        self._filled_at = clock()

    def refill(self, amount: float) -> None:
        """Add tokens."""
        self._left = min(self._burst, self._left + amount)

    def consume(self, amount: float) -> bool:
        """Take tokens; return whether there were enough."""
        if self._left < amount:
            now = self._clock()
            self.refill((now - self._filled_at) * self._per_second)
            self._filled_at = now
        self._left -= amount
        return self._left >= 0


class FrameBudget:
    """Counts the received frames of one client connection."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._budget = TokenBucket(FRAME_BURST, FRAMES_PER_SECOND, clock)
        self._dropped = TokenBucket(DROPPED_BURST, DROPPED_PER_SECOND, clock)
        self._data = 0
        """Bytes of a body in the last frame."""
        self._untaken = 0
        """Received bytes of bodies that have not been reported as taken."""
        self._skip = _PREFACE
        """Remaining bytes of the preface, or of a frame's payload."""
        self._head = b""
        """The received part of a frame's head."""
        self._block = 0
        """Bytes of the current header block."""

    def receive(self, data: bytes) -> None:
        """Count the frames in received bytes.

        Raises:
            Http2LimitExceeded: A limit is exceeded.
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
        """Note that bytes of a body, padding included, were passed to their stream."""
        self._untaken -= size

    def settle(self) -> None:
        """Count the bytes of bodies that no stream took as dropped, without those of an incomplete frame.

        Raises:
            Http2LimitExceeded: The client sends too much for streams that have ended.
        """
        dropped = self._untaken - (self._data if self._skip else 0)
        if dropped > 0:
            self._untaken -= dropped
            if not self._dropped.consume(dropped):
                raise Http2LimitExceeded("too much of what was refused")

    def sent(self, size: int) -> None:
        """Note a sent piece of a response, for which the client may send two or more WINDOW_UPDATE frames."""
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
