"""Flow control of an HTTP/2 connection to a client, in both directions, a stream at a time (RFC 9113, 5.2).

- A client that is slow to read one response halts the upstream of that response, and nothing else.
- A request's window is opened again when its stream has taken what came, and not before.
"""

from collections.abc import Callable
from typing import Final

from mitmproxy.proxy import layer
from mitmproxy.proxy.context import Context

from addons.layers.http2.back_pressure import BackPressure
from addons.layers.http2.graceful_server import GracefulHttp2Server
from addons.layers.http2.streams import Http2Stream, Http2Timeouts, StreamTable

HALT_AT: Final = 64 * 1024
"""Bytes waiting for one client's window at which the upstream is halted."""

RESUME_AT: Final = 16 * 1024
"""Bytes still waiting at which it goes on."""


class FlowControlledHttp2Server(GracefulHttp2Server):
    """A client's connection that takes no more than its streams do, and gives no more than the client reads."""

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
            upstreams: What is behind the streams.
            timeouts: How long things may take.
            clock: Tells the time, in seconds.
            retiring: As for `GracefulHttp2Server`.
        """
        super().__init__(context, clock, retiring)
        self._upstreams = upstreams
        self._timeouts = timeouts
        self._streams = StreamTable(timeouts, clock)
        self._unacknowledged: dict[int, int] = {}
        """Bytes for which streams' windows have still to be opened again."""

    def is_at_rest(self) -> bool:
        """Whether no stream is open, and nothing waits to be sent."""
        return not (self._streams or self.h2_conn.queues)

    @property
    def has_pending_writes(self) -> bool:
        """Whether a stream has still to take something, and `StreamsWentOn` is to be told."""
        return bool(self._unacknowledged)

    def owe_window(self, stream_id: int, size: int) -> None:
        """Note bytes of a request, padding included, for which its window is to be opened again."""
        self._unacknowledged[stream_id] = self._unacknowledged.get(stream_id, 0) + size

    def acknowledge(self) -> layer.CommandGenerator[None]:
        """Open the windows of streams that have taken what came."""
        for stream_id, size in list(self._unacknowledged.items()):
            if not self._upstreams.waits(stream_id):
                del self._unacknowledged[stream_id]
                self.h2_conn.acknowledge_received_data(size, stream_id)
        yield from self.flush()

    def halt(self, stream_id: int, stream: Http2Stream) -> None:
        """Halt a stream's upstream, as too much waits for the client."""
        stream.halted = True
        self._upstreams.pause_reading(stream_id)

    def resume_upstreams(self) -> None:
        """Have halted upstreams go on, as far as the client has read what waited."""
        for stream_id, stream in self._streams.halted():
            if self.h2_conn.waiting(stream_id) < RESUME_AT:
                stream.halted = False
                self._streams.response_came(stream)
                self._upstreams.resume(stream_id)

    def end_stream(self, stream_id: int) -> bool:
        """Let go of a stream, and tell whether it was there. What still comes of its request falls."""
        stream = self._streams.end(stream_id)
        if stream is not None and stream.halted:
            self._upstreams.resume(stream_id)
        self.streams.pop(stream_id, None)
        return stream is not None

    def close_connection(self, msg: str) -> layer.CommandGenerator[None]:
        """Let go of the connection and all of its streams."""
        self.h2_conn.queues.clear()
        self._unacknowledged.clear()
        for stream_id in list(self.streams):
            if (stream := self._streams.end(stream_id)) is not None and stream.halted:
                self._upstreams.resume(stream_id)
        yield from super().close_connection(msg)
