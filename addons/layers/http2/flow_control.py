"""Flow control of an HTTP/2 connection to a client, in both directions, for each stream (RFC 9113, 5.2).

- If a client is slow to read one response, only the upstream of that response is paused.
- A request's window is opened again only when its stream has processed the received bytes.
"""

from collections.abc import Callable
from typing import Final

from mitmproxy.proxy import layer
from mitmproxy.proxy.context import Context

from addons.layers.http2.back_pressure import BackPressure
from addons.layers.http2.graceful_server import GracefulHttp2Server
from addons.layers.http2.streams import Http2Stream, Http2Timeouts, StreamTable

PAUSE_AT: Final = 64 * 1024
"""Queued bytes of a stream above which its upstream is paused."""

RESUME_AT: Final = 16 * 1024
"""Queued bytes of a stream below which its upstream is resumed."""


class FlowControlledHttp2Server(GracefulHttp2Server):
    """A client's connection with backpressure in both directions."""

    def __init__(
        self,
        context: Context,
        upstreams: BackPressure,
        timeouts: Http2Timeouts,
        clock: Callable[[], float],
        retiring: Callable[[], bool],
    ) -> None:
        """Make the connection.

        Args:
            context: As for `Http2Server`.
            upstreams: Pauses the upstreams of the streams.
            timeouts: The timeouts of streams.
            clock: Seconds, monotonic.
            retiring: As for `GracefulHttp2Server`.
        """
        super().__init__(context, clock, retiring)
        self._upstreams = upstreams
        self._timeouts = timeouts
        self._streams = StreamTable(timeouts, clock)
        self._unacknowledged: dict[int, int] = {}
        """Received bytes by stream for which the windows were not opened again yet."""

    def is_at_rest(self) -> bool:
        """Whether no stream is open, and no bytes are queued."""
        return not (self._streams or self.h2_conn.queues)

    @property
    def has_pending_writes(self) -> bool:
        """Whether a stream has bytes to process, so that `StreamsWentOn` has to be sent."""
        return bool(self._unacknowledged)

    def owe_window(self, stream_id: int, size: int) -> None:
        """Note received bytes of a request, padding included, for which its window has to be opened again."""
        self._unacknowledged[stream_id] = self._unacknowledged.get(stream_id, 0) + size

    def acknowledge(self) -> layer.CommandGenerator[None]:
        """Open the windows of streams that have processed their received bytes."""
        for stream_id, size in list(self._unacknowledged.items()):
            if not self._upstreams.waits(stream_id):
                del self._unacknowledged[stream_id]
                self.h2_conn.acknowledge_received_data(size, stream_id)
        yield from self.flush()

    def pause(self, stream_id: int, stream: Http2Stream) -> None:
        """Pause a stream's upstream, as too many bytes are queued for the client."""
        stream.paused = True
        self._upstreams.pause_reading(stream_id)

    def resume_upstreams(self) -> None:
        """Resume paused upstreams whose queues the client has read."""
        for stream_id, stream in self._streams.paused():
            if self.h2_conn.waiting(stream_id) < RESUME_AT:
                stream.paused = False
                self._streams.response_came(stream)
                self._upstreams.resume(stream_id)

    def end_stream(self, stream_id: int) -> bool:
        """End a stream; return whether it was open. Later bytes of its request are dropped."""
        stream = self._streams.end(stream_id)
        if stream is not None and stream.paused:
            self._upstreams.resume(stream_id)
        self.streams.pop(stream_id, None)
        return stream is not None

    def close_connection(self, msg: str) -> layer.CommandGenerator[None]:
        """Close the connection, and end all of its streams."""
        self.h2_conn.queues.clear()
        self._unacknowledged.clear()
        for stream_id in list(self.streams):
            if (stream := self._streams.end(stream_id)) is not None and stream.paused:
                self._upstreams.resume(stream_id)
        yield from super().close_connection(msg)
