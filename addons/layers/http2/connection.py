"""hyper-h2's connection with send queues for flow control, in place of mitmproxy's.

mitmproxy's queues do not tell their length, so that a slow client cannot cause backpressure. They fail when a client
makes its window negative (RFC 9113, 6.9.2). And its encoder's table is as large as the client wants.
"""

from collections import deque
from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, RemoteSettingsChanged, StreamReset, WindowUpdated
from h2.settings import SettingCodes
from h2.stream import StreamState
from hyperframe.frame import Frame, GoAwayFrame
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection

from addons.layers.http2.frame_budget import MAX_FRAME

MAX_STREAMS = 100
"""Most concurrent requests on one connection."""

STREAM_WINDOW = 1024 * 1024
"""Flow-control window of one request, in bytes."""

CONNECTION_WINDOW = 128 * STREAM_WINDOW
"""Flow-control window of a connection, in bytes: stalled streams leave room for the others."""

MAX_HEADER_TABLE = 4096
"""Largest table of the header encoder, in bytes, even if the client allows a larger one."""

_CAN_SEND = (StreamState.OPEN, StreamState.HALF_CLOSED_REMOTE)


class SendQueue:
    """The bytes that wait for a stream's window to open.

    Attributes:
        size: Queued bytes.
        ended: Whether the response ends after them.
        moved_at: When bytes were last taken from the queue, or the queue was made.
    """

    def __init__(self, now: float) -> None:
        self.size = 0
        self.ended = False
        self.moved_at = now
        self._pieces: deque[bytes] = deque()
        self._taken = 0
        """Bytes of the first piece that were taken already."""

    def put(self, piece: bytes) -> None:
        """Add a piece of one byte or more."""
        self._pieces.append(piece)
        self.size += len(piece)

    def take(self, most: int, now: float) -> bytes:
        """Take up to `most` bytes, at least one, from a queue that is not empty."""
        first = self._pieces[0]
        taken = first[self._taken : self._taken + most]
        self._taken += len(taken)
        if self._taken == len(first):
            self._pieces.popleft()
            self._taken = 0
        self.size -= len(taken)
        self.moved_at = now
        return taken


class QueueingConnection(BufferedH2Connection):
    """The server's side of an HTTP/2 connection.

    Attributes:
        queues: The send queues, by stream id.
    """

    MAX_CLOSED_STREAMS = 1000  # for which hyper-h2 remembers how they ended

    def __init__(self, config: H2Configuration, clock: Callable[[], float]) -> None:
        super().__init__(config)
        self._clock = clock
        self.queues: dict[int, SendQueue] = {}
        self.max_inbound_frame_size = MAX_FRAME
        self.local_settings.max_frame_size = MAX_FRAME
        self.local_settings.initial_window_size = STREAM_WINDOW
        self.local_settings.max_concurrent_streams = MAX_STREAMS
        self.local_settings.acknowledge()  # otherwise hyper-h2 would send the previous values

    def initiate_connection(self) -> None:
        """Send the preface."""
        H2Connection.initiate_connection(self)
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def waiting(self, stream_id: int) -> int:
        """Queued bytes of a stream."""
        queue = self.queues.get(stream_id)
        return queue.size if queue else 0

    def unread(self, seconds: float) -> list[int]:
        """The streams with queued bytes of which the client has read nothing for so many seconds."""
        now = self._clock()
        return [number for number, queue in self.queues.items() if queue.size and now - queue.moved_at > seconds]

    def send_data(
        self,
        stream_id: int,
        data: bytes | memoryview,
        end_stream: bool = False,
        pad_length: int | None = None,  # noqa: ARG002  # hyper-h2's signature; padding is not used
    ) -> None:
        """Send data as far as the windows allow, and queue the rest."""
        queue = self.queues.get(stream_id)
        if queue is None:
            queue = self.queues[stream_id] = SendQueue(self._clock())
        if data:
            queue.put(bytes(data))
        queue.ended = queue.ended or end_stream
        while self._send_frame(stream_id, queue):
            pass

    def end_stream(self, stream_id: int) -> None:
        """End a response, after its queued bytes."""
        self.send_data(stream_id, b"", end_stream=True)

    def reset_stream(self, stream_id: int, error_code: int = 0) -> None:
        """Reset a stream, and drop its queue."""
        self.queues.pop(stream_id, None)
        H2Connection.reset_stream(self, stream_id, error_code)

    def receive_data(self, data: bytes) -> list[Event]:
        """Process received bytes; send what the updated windows allow."""
        received = H2Connection.receive_data(self, data)
        for event in received:
            if isinstance(event, WindowUpdated) and event.stream_id:
                queue = self.queues.get(event.stream_id)
                while queue is not None and self._send_frame(event.stream_id, queue):
                    pass
            elif isinstance(event, WindowUpdated):
                self._send_to_all()
            elif isinstance(event, StreamReset):
                self.queues.pop(event.stream_id, None)
            elif isinstance(event, RemoteSettingsChanged):
                if SettingCodes.HEADER_TABLE_SIZE in event.changed_settings:
                    self.encoder.header_table_size = min(self.remote_settings.header_table_size, MAX_HEADER_TABLE)
                if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
                    self._send_to_all()
        return [event for event in received if not isinstance(event, WindowUpdated)]

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        """Handle a client's GOAWAY as in RFC 9113, 6.8: it does not end the connection, as hyper-h2 assumes."""
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]

    def _send_to_all(self) -> None:
        """Send what the windows allow, one frame of each stream in turn."""
        sent = True
        while sent:
            sent = False
            for stream_id, queue in list(self.queues.items()):
                sent = self._send_frame(stream_id, queue) or sent

    def _send_frame(self, stream_id: int, queue: SendQueue) -> bool:
        """Send one frame from a queue; return whether there may be another one to send."""
        stream = self.streams.get(stream_id)
        if stream is None or stream.state_machine.state not in _CAN_SEND:
            self.queues.pop(stream_id, None)
            return False
        if queue.size:
            most = min(self.local_flow_control_window(stream_id), self.max_outbound_frame_size)
            if most <= 0:
                return False
            H2Connection.send_data(self, stream_id, queue.take(most, self._clock()))
            if queue.size:
                return True
        self.queues.pop(stream_id, None)
        if queue.ended:
            H2Connection.end_stream(self, stream_id)
            self.release(stream_id)
        return False

    def release(self, stream_id: int) -> None:
        """After an early response, tell the client to stop sending its request (RFC 9113, 8.1)."""
        if self.streams[stream_id].state_machine.state is StreamState.HALF_CLOSED_LOCAL:
            H2Connection.reset_stream(self, stream_id, ErrorCodes.NO_ERROR)
