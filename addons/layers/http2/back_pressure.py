"""What the streams of a client with HTTP/2 have behind them: upstreams to be halted, and bodies to be kept."""

from collections.abc import Mapping

from mitmproxy.connection import Server
from mitmproxy.proxy.layers.http import HttpStream

from addons.layers.connections.read_controller import ReadController


class BackPressure:
    """What the streams of one client connection have behind them: upstreams to be halted, and bodies to be kept."""

    def __init__(self, streams: Mapping[int, HttpStream], reading: ReadController) -> None:
        """Make it for the streams that there are, now and later.

        Args:
            streams: By their numbers.
            reading: Halts their upstreams.
        """
        self._streams = streams
        self._reading = reading
        self._halted: dict[int, Server] = {}

    @property
    def is_on(self) -> bool:
        """Whether any upstream is halted."""
        return bool(self._halted)

    def pause_reading(self, stream_id: int) -> None:
        """Read no more of a stream's response, until `resume`."""
        if (stream := self._streams.get(stream_id)) is not None:
            self._halted[stream_id] = stream.flow.server_conn
            self._reading.pause_reading(stream.flow.server_conn)

    def resume(self, stream_id: int) -> None:
        """Go on reading a stream's response. The stream may be gone by now."""
        if (server := self._halted.pop(stream_id, None)) is not None:
            self._reading.resume(server)

    def waits(self, stream_id: int) -> bool:
        """Whether what comes for a stream is put in a queue, as while its upstream is being connected to."""
        stream = self._streams.get(stream_id)
        return stream is not None and bool(stream._paused_event_queue)

    def passes(self, stream_id: int) -> bool:
        """Whether a stream's body is passed on as it comes, and not kept."""
        stream = self._streams.get(stream_id)
        return stream is None or stream.client_state in (stream.state_stream_request_body, stream.state_errored)
