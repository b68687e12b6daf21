"""hyper-h2's connection with a queue for what a client is not ready for, in the place of mitmproxy's.

mitmproxy's queues do not tell how long they are, so that nothing can be done about a client that reads slowly. They
fail when a client makes its window negative (RFC 9113, 6.9.2). And its encoder's table is as large as the client says.
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
"""Requests that a client may have under way at once on one connection."""

STREAM_WINDOW = 1024 * 1024
"""Bytes of one request's body that a client may have under way."""

CONNECTION_WINDOW = 128 * STREAM_WINDOW
"""Bytes of all its requests' bodies that a client may have under way: streams that stall leave room for the others."""

MAX_HEADER_TABLE = 4096
"""Largest table of the encoder for headers, in bytes, whatever the client would give room for."""

_CAN_SEND = (StreamState.OPEN, StreamState.HALF_CLOSED_REMOTE)


class SendQueue:
    """What waits for one stream's window to open.

    Attributes:
        size: How much of it there is, in bytes.
        ended: Whether nothing comes behind it.
        moved_at: When something was last taken from it, or the first thing put in.
    """

    def __init__(self, now: float) -> None:
        self.size = 0
        self.ended = False
        self.moved_at = now
        self._pieces: deque[bytes] = deque()
        self._taken = 0
        """How much of the first piece is gone."""

    def put(self, piece: bytes) -> None:
        """Add a piece of one byte or more."""
        self._pieces.append(piece)
        self.size += len(piece)

    def take(self, most: int, now: float) -> bytes:
        """Take up to `most` bytes, one at least, off a queue that has some."""
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
        queues: What waits to be sent, by stream.
    """

    MAX_CLOSED_STREAMS = 1000  # of which it is remembered how they ended

    def __init__(self, config: H2Configuration, clock: Callable[[], float]) -> None:
        super().__init__(config)
        self._clock = clock
        self.queues: dict[int, SendQueue] = {}
        self.max_inbound_frame_size = MAX_FRAME
        self.local_settings.max_frame_size = MAX_FRAME
        self.local_settings.initial_window_size = STREAM_WINDOW
        self.local_settings.max_concurrent_streams = MAX_STREAMS
        self.local_settings.acknowledge()  # or hyper-h2 would send what was there before

    def initiate_connection(self) -> None:
        """Send the preface."""
        H2Connection.initiate_connection(self)
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def waiting(self, stream_id: int) -> int:
        """How much waits to be sent on a stream, in bytes."""
        queue = self.queues.get(stream_id)
        return queue.size if queue else 0

    def unread(self, seconds: float) -> list[int]:
        """The streams of which the client has read nothing for so long, although something waits."""
        now = self._clock()
        return [number for number, queue in self.queues.items() if queue.size and now - queue.moved_at > seconds]

    def send_data(
        self,
        stream_id: int,
        data: bytes | memoryview,
        end_stream: bool = False,
        pad_length: int | None = None,  # noqa: ARG002  # hyper-h2's signature; nothing is padded here
    ) -> None:
        """Send data as far as the client is ready for it, and keep the rest."""
        queue = self.queues.get(stream_id)
        if queue is None:
            queue = self.queues[stream_id] = SendQueue(self._clock())
        if data:
            queue.put(bytes(data))
        queue.ended = queue.ended or end_stream
        while self._send_frame(stream_id, queue):
            pass

    def end_stream(self, stream_id: int) -> None:
        """End a response, behind what waits."""
        self.send_data(stream_id, b"", end_stream=True)

    def reset_stream(self, stream_id: int, error_code: int = 0) -> None:
        """End a stream at once."""
        self.queues.pop(stream_id, None)
        H2Connection.reset_stream(self, stream_id, error_code)

    def receive_data(self, data: bytes) -> list[Event]:
        """Take what the client sends; send what it has become ready for."""
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
        """Take a client's GOAWAY for what RFC 9113, 6.8 says that it is, and not, as hyper-h2, for the end of all."""
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]

    def _send_to_all(self) -> None:
        """Send what can be sent, a frame of each stream in turn."""
        sent = True
        while sent:
            sent = False
            for stream_id, queue in list(self.queues.items()):
                sent = self._send_frame(stream_id, queue) or sent

    def _send_frame(self, stream_id: int, queue: SendQueue) -> bool:
        """Send one frame off a queue; tell whether there may be another to be sent."""
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
        """Tell a client that was answered before it had sent all of its request not to go on (RFC 9113, 8.1)."""
        if self.streams[stream_id].state_machine.state is StreamState.HALF_CLOSED_LOCAL:
            H2Connection.reset_stream(self, stream_id, ErrorCodes.NO_ERROR)
