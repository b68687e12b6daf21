"""Reads one direction of a WebSocket connection as it passes (RFC 6455, 5).

Nothing is changed, and messages are not buffered. An incomplete frame header or control frame, at most 131 bytes, is
held back, so that nothing invalid is passed on. A Close frame is held back, too: the caller decides when it is sent.
Bytes after a Close frame are discarded (1.4).

The content of messages is not checked: the receiver has to check that a text is UTF-8.
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
    """State of a direction."""

    OPEN = "frames are read"
    CLOSED = "its Close frame has arrived"
    FAILED = "an invalid frame has arrived"


class FrameReader:
    """One direction of a connection on which no extension was negotiated.

    Attributes:
        state: The current state. In `CLOSED` and `FAILED` nothing is read any more.
        close_frame: The Close frame as received, in `CLOSED`.
        close_code: Its status code; `NO_STATUS_RCVD` (1005) if it has none.
    """

    def __init__(self, from_client: bool, on_payload: Callable[[bytes], object]) -> None:
        """Make a reader.

        Args:
            from_client: Whether these are a client's frames, which are masked, or a server's, which are not.
            on_payload: Called with the unmasked payload of data frames, in order, in pieces of any size.
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
        """Whether the bytes passed on end with a whole frame, so that another one can follow."""
        return not self._in_frame

    def feed(self, data: bytes) -> bytes:
        """Read the next piece; return the bytes that may be passed on now, perhaps none."""
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
        """Read a piece of a data frame, and check the order of fragments (5.4)."""
        # The decoder reports all pieces of a frame except the first as continuations.
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
    """Whether a Close frame may have a status code (RFC 6455, 7.4): below 3000, only registered ones are valid."""
    return code in _REGISTERED or MIN_LIBRARY_CLOSE_REASON <= code <= MAX_CLOSE_REASON
