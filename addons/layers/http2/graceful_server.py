"""mitmproxy's HTTP/2 to a client, with the graceful end of `addons.layers.http2.goaway`."""

from collections.abc import Callable

import h2.events
from h2.errors import ErrorCodes
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._http2 import Http2Server

from addons.layers.http2.connection import QueueingConnection
from addons.layers.http2.goaway import PING_TIMEOUT, GracefulEnd, State


class GoingAway(events.Event):
    """The connection has to end, as soon as no response is lost by that. `retiring` is True from now on."""


class GracefulHttp2Server(Http2Server):
    """A client's connection that sends GOAWAY before it ends."""

    h2_conn: QueueingConnection

    def __init__(self, context: Context, clock: Callable[[], float], retiring: Callable[[], bool]) -> None:
        """Make the connection.

        Args:
            context: As for `Http2Server`.
            clock: Seconds, monotonic.
            retiring: Whether the connection has to end, as soon as no response is lost by that.
        """
        super().__init__(context)
        self.h2_conn = QueueingConnection(self.h2_conf, clock)
        self._retiring = retiring
        self._end = GracefulEnd()
        self._end_wakeup: commands.RequestWakeup | None = None

    def announce_end(self) -> layer.CommandGenerator[None]:
        """Send the first GOAWAY, once, if the connection has to end."""
        if self._retiring() and self._end.state is State.OPEN:
            yield commands.SendData(self.conn, self._end.announce())
            self._end_wakeup = commands.RequestWakeup(PING_TIMEOUT)
            yield self._end_wakeup

    def is_for_end(self, event: events.Wakeup) -> bool:
        """Whether a wake-up is the timeout of the PING, after which `conclude` has to be called."""
        return event.command is self._end_wakeup

    def take_ping_ack(self, event: h2.events.PingAckReceived) -> layer.CommandGenerator[None]:
        """Handle the acknowledgement of a PING, which may be the one that `conclude` waits for."""
        if self._end.is_awaited_ack(event.ping_data or b""):
            yield from self.conclude()

    def conclude(self) -> layer.CommandGenerator[None]:
        """Send the final GOAWAY, if the first one was sent."""
        if self._end.state is State.ANNOUNCED:
            yield from self.flush()
            yield commands.SendData(self.conn, self._end.conclude(self.h2_conn.highest_inbound_stream_id))

    def take_goaway(self, event: h2.events.ConnectionTerminated) -> layer.CommandGenerator[bool]:
        """Handle a client's GOAWAY; return whether the connection was closed."""
        if event.error_code != ErrorCodes.NO_ERROR:
            yield from self.close_connection("the client has ended the connection")
            return True
        self._end.client_goes(self.h2_conn.highest_inbound_stream_id)
        return False

    def refuses(self, stream_id: int) -> bool:
        """Refuse a stream that is too late; return whether it was."""
        if self._end.refuses(stream_id):
            self.h2_conn.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return True
        return False

    def is_over(self) -> bool:
        """Whether no new streams are accepted, so that the connection can be closed after the open ones."""
        return self._end.state is State.CONCLUDED and bool(self.conn.state & ConnectionState.CAN_WRITE)

    def flush(self) -> layer.CommandGenerator[None]:
        """Send hyper-h2's output."""
        if data := self.h2_conn.data_to_send():
            yield commands.SendData(self.conn, data)

    def protocol_error(self, message: str, error_code: int = ErrorCodes.PROTOCOL_ERROR) -> layer.CommandGenerator[None]:
        """End the connection, with an error code for the client."""
        yield commands.Log(f"ended an HTTP/2 connection: {message}")
        # A later GOAWAY may not name a higher stream than an earlier one.
        self.h2_conn.close_connection(error_code, last_stream_id=self._end.last_stream_id)
        yield from self.flush()
        yield from self.close_connection(message)

    def done(self, _: events.Event) -> layer.CommandGenerator[None]:
        """Ignore events after the end of the connection; mitmproxy's method fails on events of this package."""
        yield from ()
