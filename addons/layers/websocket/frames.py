"""Reads one direction of a WebSocket connection as it passes (RFC 6455, 5): bytes in; payload, and what may go on, out.

Nothing is changed and nothing waits for the rest of a message. What is held back is the frame header or control frame
that is not complete yet, at most 131 bytes, so that nothing invalid is passed on. A Close frame is held back for good:
it is for the caller to say when it goes. What a side sends behind its Close frame is discarded (1.4).

Messages are not judged by what they say: whether a text is UTF-8 is the receiver's business.
"""

import enum
from collections.abc import Callable
from typing import Final

from wsproto.frame_protocol import (
    LOCAL_ONLY_CLOSE_REASONS,
    MAX_CLOSE_REASON,
    MIN_LIBRARY_CLOSE_REASON,
    CloseReason,
    Frame,
    FrameDecoder,
    Opcode,
    ParseFailed,
)

BAD_GATEWAY: Final = 1014
"""A status code that IANA has registered since RFC 6455, and that wsproto does not list."""

_REGISTERED: Final = frozenset(CloseReason).difference(LOCAL_ONLY_CLOSE_REASONS) | {BAD_GATEWAY}


class State(enum.Enum):
    """How far a direction has come."""

    OPEN = "frames may come"
    CLOSED = "its Close frame has come"
    FAILED = "something has come that is not a valid frame"


class FrameReader:
    """One direction of a connection on which no extension was negotiated.

    Attributes:
        state: How far it has come. In `CLOSED` and `FAILED` nothing is read any more.
        close_frame: The Close frame as it came, in `CLOSED`.
        close_code: Its status code; `NO_STATUS_RCVD` (1005) where it has none.
    """

    def __init__(self, from_client: bool, on_payload: Callable[[bytes], object]) -> None:
        """Make a reader.

        Args:
            from_client: Whether these are a client's frames, which are masked, or a server's, which are not.
            on_payload: Gets the unmasked payload of data frames, in order, in pieces of any size.
        """
        self.state = State.OPEN
        self.close_frame = b""
        self.close_code: int = CloseReason.NO_STATUS_RCVD
        self._decoder = FrameDecoder(client=not from_client)
        self._on_payload = on_payload
        self._held = b""
        self._in_frame = False
        self._in_message = False

    @property
    def between_frames(self) -> bool:
        """Whether what has been passed on ends with a whole frame, so that another one can follow."""
        return not self._in_frame

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; return what may be passed on now, perhaps nothing."""
        if self.state is not State.OPEN:
            return b""
        wire = self._held + data
        passed = 0
        self._decoder.receive_bytes(data)
        try:
            while self.state is State.OPEN and (frame := self._decoder.process_buffer()) is not None:
                at = len(wire) - len(self._decoder.buffer)
                if frame.opcode is Opcode.CLOSE:
                    self._take_close(frame, wire[passed:at])
                    continue
                if not frame.opcode.iscontrol():
                    self._take_data(frame)
                passed = at
        except ParseFailed:
            self.state = State.FAILED
        self._held = wire[passed:] if self.state is State.OPEN else b""
        return wire[:passed]

    def _take_data(self, frame: Frame) -> None:
        """Take a piece of a data frame, and see that fragments come in order (5.4)."""
        # The decoder calls all pieces of a frame but the first continuations.
        if not self._in_frame and (frame.opcode is Opcode.CONTINUATION) != self._in_message:
            raise ParseFailed("a fragment that continues nothing, or a new message within another")
        self._in_frame = not frame.frame_finished
        if frame.frame_finished:
            self._in_message = not frame.message_finished
        assert isinstance(frame.payload, bytes)  # noqa: S101  # for mypy
        if frame.payload:
            self._on_payload(frame.payload)

    def _take_close(self, frame: Frame, wire: bytes) -> None:
        assert isinstance(frame.payload, bytes)  # noqa: S101  # for mypy
        if len(frame.payload) == 1:
            raise ParseFailed("half a status code")
        if frame.payload:
            code = int.from_bytes(frame.payload[:2])
            if not _may_be_sent(code):
                raise ParseFailed("a status code that may not be sent")
            self.close_code = code
        self.close_frame = wire
        self.state = State.CLOSED


def _may_be_sent(code: int) -> bool:
    """Whether a Close frame may have a status code (RFC 6455, 7.4): below 3000, only those that are registered."""
    return code in _REGISTERED or MIN_LIBRARY_CLOSE_REASON <= code <= MAX_CLOSE_REASON
