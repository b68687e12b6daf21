"""mitmproxy's HTTP/2 to a client, with a graceful end: `addons.layers.http2.goaway` put to use on a connection."""

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
    """The connection is to end, as soon as that costs the client no response. `retiring` holds from now on."""


class GracefulHttp2Server(Http2Server):
    """A client's connection that sends GOAWAY before it ends."""

    h2_conn: QueueingConnection

    def __init__(self, context: Context, clock: Callable[[], float], retiring: Callable[[], bool]) -> None:
        """Make the connection.

        Args:
            context: As for `Http2Server`.
            clock: Tells the time, in seconds.
            retiring: Whether the connection is to end as soon as that costs the client no response.
        """
        super().__init__(context)
        self.h2_conn = QueueingConnection(self.h2_conf, clock)
        self._retiring = retiring
        self._end = GracefulEnd()
        self._end_wakeup: commands.RequestWakeup | None = None

    def announce_end(self) -> layer.CommandGenerator[None]:
        """Tell the client of the end, once, if the connection is to end."""
        if self._retiring() and self._end.state is State.OPEN:
            yield commands.SendData(self.conn, self._end.announce())
            self._end_wakeup = commands.RequestWakeup(PING_TIMEOUT)
            yield self._end_wakeup

    def is_for_end(self, event: events.Wakeup) -> bool:
        """Whether it is time for `conclude`, as the client has not answered the PING."""
        return event.command is self._end_wakeup

    def take_ping_ack(self, event: h2.events.PingAckReceived) -> layer.CommandGenerator[None]:
        """Take the acknowledgement of a PING, perhaps that which the end waits for."""
        if self._end.is_awaited_ack(event.ping_data or b""):
            yield from self.conclude()

    def conclude(self) -> layer.CommandGenerator[None]:
        """Take no new stream any more, if the client has been told of the end."""
        if self._end.state is State.ANNOUNCED:
            yield from self.flush()
            yield commands.SendData(self.conn, self._end.conclude(self.h2_conn.highest_inbound_stream_id))

    def take_goaway(self, event: h2.events.ConnectionTerminated) -> layer.CommandGenerator[bool]:
        """Take a client's GOAWAY; return whether that was the last of it."""
        if event.error_code != ErrorCodes.NO_ERROR:
            yield from self.close_connection("the client has ended the connection")
            return True
        self._end.client_goes(self.h2_conn.highest_inbound_stream_id)
        return False

    def refuses(self, stream_id: int) -> bool:
        """Refuse a stream that comes too late; tell whether it did."""
        if self._end.refuses(stream_id):
            self.h2_conn.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return True
        return False

    def is_over(self) -> bool:
        """Whether the connection can be closed, as far as streams go that are to come."""
        return self._end.state is State.CONCLUDED and bool(self.conn.state & ConnectionState.CAN_WRITE)

    def flush(self) -> layer.CommandGenerator[None]:
        """Send what hyper-h2 has to send."""
        if data := self.h2_conn.data_to_send():
            yield commands.SendData(self.conn, data)

    def protocol_error(self, message: str, error_code: int = ErrorCodes.PROTOCOL_ERROR) -> layer.CommandGenerator[None]:
        """End the connection, and tell the client why."""
        yield commands.Log(f"ended an HTTP/2 connection: {message}")
        # What a GOAWAY has named may not be raised by another one.
        self.h2_conn.close_connection(error_code, last_stream_id=self._end.last_stream_id)
        yield from self.flush()
        yield from self.close_connection(message)

    def done(self, _: events.Event) -> layer.CommandGenerator[None]:
        """Take no notice of what comes when the connection has ended: mitmproxy knows no events of ours."""
        yield from ()
