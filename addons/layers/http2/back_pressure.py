"""The backpressure of an HTTP/2 client's streams on their upstreams."""

from collections.abc import Mapping

from mitmproxy.connection import Server
from mitmproxy.proxy.layers.http import HttpStream

from addons.layers.connections.read_controller import ReadController


class BackPressure:
    """Pauses the upstreams of one client connection's streams."""

    def __init__(self, streams: Mapping[int, HttpStream], reading: ReadController) -> None:
        """Make the backpressure of a connection.

        Args:
            streams: The current streams by their ids; the layer updates it.
            reading: Pauses and resumes the reading from upstreams.
        """
        self._streams = streams
        self._reading = reading
        self._halted: dict[int, Server] = {}

    @property
    def is_on(self) -> bool:
        """Whether the reading from any upstream is paused."""
        return bool(self._halted)

    def pause_reading(self, stream_id: int) -> None:
        """Stop reading a stream's response, until `resume`."""
        if (stream := self._streams.get(stream_id)) is not None:
            self._halted[stream_id] = stream.flow.server_conn
            self._reading.pause_reading(stream.flow.server_conn)

    def resume(self, stream_id: int) -> None:
        """Continue to read a stream's response. The stream may have ended already."""
        if (server := self._halted.pop(stream_id, None)) is not None:
            self._reading.resume(server)

    def waits(self, stream_id: int) -> bool:
        """Whether events for a stream are queued, as while its upstream connection is being opened."""
        stream = self._streams.get(stream_id)
        return stream is not None and bool(stream._paused_event_queue)

    def passes(self, stream_id: int) -> bool:
        """Whether a stream's body is forwarded as it arrives, and not held."""
        stream = self._streams.get(stream_id)
        return stream is None or stream.client_state in (stream.state_stream_request_body, stream.state_errored)
